from __future__ import annotations

import json
from pathlib import Path

import pytest
from romana.policy.v1 import explain_pb2, policy_pb2, selector_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.ctl.main import run
from services.ctl.verbs import policy_ask
from services.ctl.views import matrix_view, policy_view

EXAMPLE = Path(__file__).parents[3] / "examples" / "policies" / "tests.yaml"


def policy() -> policy_pb2.Policy:
    block = policy_pb2.CidrBlock(cidr="10.0.0.0/8")
    getattr(block, "except").append("10.1.0.0/16")
    web = selector_pb2.EndpointSelector(
        tenants=["shop"],
        labels=selector_pb2.LabelSelector(
            match_labels={"app": "PROTOCOL_TCP"},
            match_expressions=[
                selector_pb2.LabelRequirement(
                    key="a", operator=selector_pb2.LABEL_OPERATOR_NOT_IN, values=["x", "y"]
                ),
                selector_pb2.LabelRequirement(
                    key="b", operator=selector_pb2.LABEL_OPERATOR_DOES_NOT_EXIST
                ),
            ],
        ),
    )
    return policy_pb2.Policy(
        name="p",
        tier=policy_pb2.POLICY_TIER_ADMIN,
        etag="x",
        labels={"l": "POLICY_TIER_ADMIN"},
        targets=[policy_pb2.Target(endpoints=web), policy_pb2.Target(nodes={})],
        directions=[policy_pb2.POLICY_DIRECTION_INGRESS, policy_pb2.POLICY_DIRECTION_EGRESS],
        ingress=[
            policy_pb2.Rule(
                action=policy_pb2.RULE_ACTION_DENY,
                peers=[policy_pb2.Peer(cidr=block), policy_pb2.Peer(network="prod")],
                ports=[
                    policy_pb2.PortMatch(protocol=policy_pb2.PROTOCOL_TCP, port=1, end_port=9),
                    policy_pb2.PortMatch(protocol=policy_pb2.PROTOCOL_ICMP, icmp_type=0),
                ],
            )
        ],
    )


def test_rules_are_shown_in_words_and_a_closed_direction_too() -> None:
    ingress, egress = policy_view.rule_rows(policy())
    assert ingress.peers == "10.0.0.0/8 without 10.1.0.0/16; network prod"
    assert ingress.ports == "TCP 1-9, ICMP type 0"
    assert (egress.place, egress.action) == ("egress", "no rules")
    assert policy_view.targets(policy()) == (
        "endpoints of shop with app=PROTOCOL_TCP, a not in (x, y), no b; all nodes"
    )


def test_a_file_has_short_words_and_keeps_peoples_own() -> None:
    made = policy_view.document(policy())
    assert made["tier"] == "admin"
    assert made["labels"] == {"l": "POLICY_TIER_ADMIN"}
    assert "etag" not in made
    text = json.dumps(made)
    assert '"operator": "DoesNotExist"' in text
    assert '"match_labels": {"app": "PROTOCOL_TCP"}' in text


def matrix(sources: list[str], destinations: list[str], cells: str) -> api.GetMatrixResponse:
    actions = {"+": policy_pb2.RULE_ACTION_ALLOW, "-": policy_pb2.RULE_ACTION_DENY, "?": 0}
    rows = [
        api.MatrixRow(source=source, actions=[actions[cell] for cell in row])  # type: ignore[misc]  # 0 is unspecified
        for source, row in zip(sources, cells.split(), strict=True)
    ]
    return api.GetMatrixResponse(destinations=destinations, rows=rows)


def test_a_square_matrix_numbers_its_rows() -> None:
    answer = matrix(["a", "bb"], ["a", "bb"], "+- ?+")
    assert matrix_view.lines(answer) == ["      1 2", "1 a   . -", "2 bb  ? ."]
    assert "allowed (0), - denied (1), ? no addresses of one family (1)" in matrix_view.summary(
        answer
    )


def test_other_destinations_are_listed_below() -> None:
    names = [f"d{number}" for number in range(1, 11)]
    lines = matrix_view.lines(matrix(["src"], names, "+---------"))
    assert lines[0].split() == ["1"]
    assert lines[1].split() == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"]
    assert lines[2] == "src  + - - - - - - - - -"
    assert lines[-1] == "10 d10"


def test_an_explanation_says_everything() -> None:
    verdict = explain_pb2.Verdict(
        action=policy_pb2.RULE_ACTION_DENY,
        reason="because",
        asked=["p", "q"],
        otherwise=["if"],
        audited=["z"],
    )
    item = explain_pb2.Explanation(
        source_address="10.0.0.1",
        destination_address="10.0.0.2",
        action=policy_pb2.RULE_ACTION_DENY,
        ingress=verdict,
        path=explain_pb2.Path(
            kind=explain_pb2.PATH_KIND_SAME_NODE, hops=["n1"], description="both there"
        ),
        unrealized_nodes=["n1"],
    )
    assert policy_ask.explanation_lines(item) == [
        "10.0.0.1 -> 10.0.0.2: DENY",
        "  way      same node: n1  (both there)",
        "  ingress  deny: because",
        "           - if",
        "           asked: p, q",
        "           audited z would decide otherwise",
        "  not yet applied by n1",
    ]


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_expectations_are_checked_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(capsys, "policy", "test", str(EXAMPLE))
    assert (code, out) == (0, "")
    assert "expectations met" in err


def test_an_expectation_that_is_not_met_is_shown_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "endpoints: [{name: a, tenant: t}, {name: b, tenant: u}]\n"
        "tenants: [{name: u, isolation: tenant}]\n"
        "expect:\n  - {from: a, to: b, verdict: allow}\n  - {from: b, to: a, verdict: allow}\n"
    )
    code, out, err = command(capsys, "policy", "test", str(file))
    assert code == 1
    assert (
        f"{file}:4: a -> b, a protocol without ports\n  - expected allow\n  + found    deny" in out
    )
    assert "1 of 2 expectations met" in err


def test_a_file_that_is_wrong_is_no_failed_expectation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("files: [gone.yaml]\nexpect: [{from: a, to: b, verdict: allow}]\n")
    code, _, err = command(capsys, "policy", "test", str(file))
    assert code == 2
    assert "gone.yaml" in err
