"""Expectations of policies, and the examples, which have some."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import InvalidInput
from services.common.model.rules import Mode
from services.policy.explain.trial import Outcome, check_expectations, read_trial
from services.policy.forms.documents import read_document

EXAMPLES = Path(__file__).parents[3] / "examples" / "policies"
WORLD = """
networks: [{name: prod, cidr: 10.0.0.0/16, isolation: tenant}]
nodes: [{name: n1, addresses: [192.0.2.1]}]
endpoints:
  - {name: a, tenant: t, node: n1, addresses: [10.0.0.5]}
  - {name: b, tenant: u, node: n1, addresses: [10.0.0.6]}
  - {name: free, tenant: u}
policies:
  - name: open
    tier: admin
    targets: [{endpoints: {tenants: [t]}}]
    ingress: [{ports: [{protocol: tcp, port: 80}]}]
"""


def trial(expectation: str, files: dict[str, str] | None = None) -> list[Outcome]:
    text = f"{WORLD}expect: [{expectation}]\n"
    return check_expectations(
        read_trial(text.encode(), lambda name: (files or {})[name].encode(), source="t.yaml")
    )


@pytest.mark.parametrize(
    ("expectation", "holds"),
    [
        ("{from: b, to: a, verdict: deny}", [True]),
        ("{from: b, to: a, verdict: allow}", [False]),
        ("{from: b, to: a, port: 80, verdict: allow, policy: open}", [True]),
        ("{from: b, to: a, port: 80, verdict: allow, policy: other}", [False]),
        ("{from: b, to: a, verdict: deny, policy: isolation/network/prod}", [True]),
        ("{from: 203.0.113.1, to: a, verdict: allow, policy: default}", [True]),
        ("{from: [a, b], to: [free, n1], verdict: allow}", [True, True, True, True]),
    ],
)
def test_expectations_hold_or_do_not(expectation: str, holds: list[bool]) -> None:
    assert [one.holds for one in trial(expectation)] == holds


def test_a_failure_says_what_was_found_and_why() -> None:
    (outcome,) = trial("{from: b, to: a, protocol: udp, port: 80, verdict: allow}")
    assert (outcome.asked, outcome.expected, outcome.found) == ("UDP 80", "allow", "deny")
    assert outcome.line == 13
    assert any("isolation/network/prod" in line for line in outcome.why)


@pytest.mark.parametrize(
    ("expectation", "path"),
    [
        ("{from: nobody, to: a, verdict: deny}", "expect[0]"),
        ("{from: a, to: b}", "expect[0].verdict"),
        ("{from: a, to: b, verdict: maybe}", "expect[0].verdict"),
        ("{to: b, verdict: deny}", "expect[0].from"),
        ("{from: a, to: b, verdict: deny, prt: 80}", "expect[0].prt"),
        ("", "expect"),
    ],
)
def test_what_is_wrong_with_the_file_is_refused(expectation: str, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        trial(expectation)
    assert path in [violation.path for violation in caught.value.violations]


def test_a_policy_in_a_file_that_is_wrong_is_refused_with_the_files_name() -> None:
    text = "files: [other.yaml]\nexpect: [{from: 10.0.0.1, to: 10.0.0.2, verdict: allow}]"
    with pytest.raises(InvalidInput, match=r"other\.yaml"):
        read_trial(text.encode(), lambda _: b"policies: [{name: p}]")


def test_the_expectations_of_the_examples_hold() -> None:
    file = EXAMPLES / "tests.yaml"
    found = check_expectations(
        read_trial(file.read_bytes(), lambda name: (file.parent / name).read_bytes())
    )
    assert len(found) > 30
    assert [one for one in found if not one.holds] == []


def test_the_examples_would_notice_a_policy_that_is_not_there() -> None:
    file = EXAMPLES / "tests.yaml"
    read = read_trial(file.read_bytes(), lambda name: (file.parent / name).read_bytes())
    for policy in list(read.policies):
        if policy.mode is Mode.AUDIT:
            continue  # it decides nothing
        read.policies.remove(policy)
        failed = [one for one in check_expectations(read) if not one.holds]
        assert failed, f"nothing is expected of {policy.name}"
        read.policies.append(policy)


@pytest.mark.parametrize(
    "name",
    [path.name for path in sorted(EXAMPLES.iterdir()) if path.name != "tests.yaml"],
)
def test_every_example_is_read(name: str) -> None:
    assert read_document((EXAMPLES / name).read_bytes()).policies
