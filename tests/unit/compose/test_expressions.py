"""Every expression of the rules and the dashboards names series that exist.

What exists is read off the services' sources, so there is no list that somebody has to keep.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.rpc import metrics as rpc_metrics
from services.common.sync import metrics as sync_metrics
from tests.support.metric_families import declared

ROOT = Path(__file__).parents[3]
RULES = sorted((ROOT / "compose" / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "compose" / "grafana" / "dashboards").glob("*.json"))
PROMETHEUS = {"up", "ALERTS"}
"""What Prometheus makes by itself."""
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
WORDS = {
    *(
        "abs",
        "absent",
        "and",
        "by",
        "count",
        "count_values",
        "deriv",
        "histogram_quantile",
        "increase",
        "max",
    ),
    *(
        "min",
        "on",
        "or",
        "predict_linear",
        "rate",
        "sum",
        "time",
        "topk",
        "unless",
        "vector",
        "without",
    ),
}
GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Expression:
    """One of them, and where it stands."""

    where: str
    text: str

    def series(self) -> set[str]:
        """Names of the series that it reads."""
        bare = GROUPING.sub("", re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", self.text))
        return set(NAME.findall(bare)) - WORDS

    def selected(self) -> Iterator[tuple[str, str, str]]:
        """Series, label and value or pattern of each selector."""
        for name, inner in re.findall(r"([\w:]+)\{([^}]*)\}", self.text):
            for label, value in re.findall(r"(\w+)\s*[=!]~?\s*\"([^\"]*)\"", inner):
                yield name, label, value


def expressions_of_rules() -> Iterator[Expression]:
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield Expression(rule.get("record") or rule["alert"], rule["expr"])


def expressions_of_dashboards() -> Iterator[Expression]:
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield Expression(f"{file.stem}: {panel['title']}", target["expr"])


EXPRESSIONS = [*expressions_of_rules(), *expressions_of_dashboards()]


def recorded() -> set[str]:
    return {
        rule["record"]
        for file in RULES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


DECLARED = declared()
RECORDED = recorded()
ALERTS = {
    rule["alert"]: rule
    for file in RULES
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
ALERT_TESTS = ROOT / "tests" / "compose" / "alerts.test.yml"


def test_the_metrics_of_the_sources_are_found() -> None:
    assert DECLARED["romana_ipam_addresses"] == {"network", "group", "state"}
    assert DECLARED["romana_rpc_duration_seconds_bucket"] == {"method", "le"}
    assert DECLARED["romana_topology_nodes"] == set()
    assert DECLARED["romana_topology_lost_races_total"] == set()
    assert DECLARED["romana_agent_ready"] == set()
    assert DECLARED["romana_ipam_agents"] == {"state"}
    assert DECLARED["romana_ipam_sync_messages_total"] == {"phase"}
    assert DECLARED["romana_agent_policy_open_endpoints"] == set()
    assert DECLARED["romana_policy_rule_sets"] == set()
    assert "romana_agents" not in DECLARED


KNOWN = set(DECLARED) | RECORDED | PROMETHEUS


@pytest.mark.parametrize("item", EXPRESSIONS, ids=lambda item: item.where)
def test_an_expression_names_only_series_that_exist(item: Expression) -> None:
    assert item.series(), "reads nothing"
    assert item.series() <= KNOWN, sorted(item.series() - KNOWN)


@pytest.mark.parametrize("item", EXPRESSIONS, ids=lambda item: item.where)
def test_an_expression_selects_only_by_labels_that_exist(item: Expression) -> None:
    for name, label, _ in item.selected():
        if name in DECLARED:
            assert label in DECLARED[name] | {"job", "instance"}, f"{name} has no label {label}"


def test_wrong_names_and_labels_are_noticed() -> None:
    wrong = Expression("x", 'sum by (le) (rate(romana_no_such_total{job="a"}[5m])) / up')
    assert wrong.series() == {"romana_no_such_total", "up"}
    assert list(Expression("x", 'up{no="a|b", job=~"c"}').selected()) == [
        ("up", "no", "a|b"),
        ("up", "job", "c"),
    ]


def test_service_levels_are_at_bounds_of_buckets() -> None:
    bounds = {
        "romana_rpc_duration_seconds_bucket": rpc_metrics.BUCKETS,
        "romana_ipam_sync_lag_seconds_bucket": sync_metrics.SECONDS,
        "romana_policy_sync_lag_seconds_bucket": sync_metrics.SECONDS,
    }
    asked = {
        (name, value)
        for item in expressions_of_rules()
        if item.where.startswith("slo:")
        for name, label, value in item.selected()
        if label == "le" and value != "+Inf"
    }
    assert {name for name, _ in asked} == set(bounds)
    assert all(value in map(str, map(float, bounds[name])) for name, value in asked)


def test_no_window_of_a_dashboard_is_fixed() -> None:
    """One that is makes a latency of minutes out of one event; `deriv` foresees from hours."""
    for item in expressions_of_dashboards():
        windows = set(re.findall(r"\[([^\]]*)\]", item.text)) - {"1h"}
        assert windows <= {"$__rate_interval"}, item.where


def test_every_recorded_series_is_read_by_somebody() -> None:
    read = {name for item in EXPRESSIONS for name in item.series()}
    assert read >= RECORDED


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_an_alert_says_what_it_means_and_which_page_of_ours_says_what_to_do(
    alert: Mapping[str, Any],
) -> None:
    """The page repeats the description, and goes on with what to do."""
    name, said = alert["alert"], alert["annotations"]
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert said["summary"]
    assert "{{" not in said["description"], "the same for all, as the page has it"
    page, _, section = said["runbook_url"].partition("#")
    assert section == name.lower()
    told = _section((ROOT / page).read_text(), name)
    head, _, what_to_do = told.partition(said["description"])
    assert head == f"**{alert['labels']['severity']}** · "
    assert what_to_do.strip()


def test_every_section_of_the_alerts_page_is_of_an_alert() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == [*ALERTS]


def test_every_alert_is_raised_by_a_test() -> None:
    raised = {
        case["alertname"]
        for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    assert raised == set(ALERTS)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: `make test` installs it, as root"
)
def test_alerts_are_raised_by_what_they_are_for_and_only_by_that(tmp_path: Path) -> None:
    tests = tmp_path / "alerts.test.yml"
    tests.write_text(yaml.safe_dump(_with_what_all_alerts_say()))
    command = ["promtool", "test", "rules", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _with_what_all_alerts_say() -> dict[str, Any]:
    """The file of tests, its expected alerts with the annotations that do not vary."""
    whole: dict[str, Any] = yaml.safe_load(ALERT_TESTS.read_text())
    whole["rule_files"] = [str(ALERT_TESTS.parent / name) for name in whole["rule_files"]]
    for test in whole["tests"]:
        for series in test.get("input_series", []):
            assert isinstance(series["values"], str), f"{series}: 0x20 is a number, quote it"
        for case in test.get("alert_rule_test", []):
            said = ALERTS[case["alertname"]]["annotations"]
            for expected in case["exp_alerts"]:
                expected["exp_annotations"] = said | expected["exp_annotations"]
    return whole


def _section(text: str, name: str) -> str:
    """What a page has below a heading, on one line."""
    lines = itertools.takewhile(
        lambda line: not line.startswith("#"), text.partition(f"\n### {name}\n")[2].splitlines()
    )
    return " ".join(" ".join(lines).split())


def test_dashboards_fit_on_their_grid_and_have_ids_of_their_own() -> None:
    uids = set()
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        uids.add(board["uid"])
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, panel["title"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{file.name}: {panel['title']} lies on another panel"
            taken |= cells
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len(uids) == len(DASHBOARDS) >= 3
