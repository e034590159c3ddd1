"""What a node is told beside what its kernel has."""

from __future__ import annotations

import pytest
from romana.policy.v1 import policy_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1 import sync_rules_pb2 as pb
from romana.sync.v1 import sync_pb2

from services.common.rpc.kernel_text import Differing, rules_beside_told

TOLD = [
    pb.RuleResource(
        endpoint=pb.EndpointRules(name="web", ingress=pb.Profile(rule_sets=["a", "b"]))
    ),
    pb.RuleResource(endpoint=pb.EndpointRules(name="other", ingress=pb.Profile(rule_sets=["a"]))),
    pb.RuleResource(
        rules=pb.RuleSet(
            id="a",
            policy="p",
            direction=policy_pb2.POLICY_DIRECTION_INGRESS,
            rules=[pb.CompiledRule(number=0), pb.CompiledRule(number=1)],
        )
    ),
    pb.RuleResource(
        rules=pb.RuleSet(id="b", policy="q", direction=policy_pb2.POLICY_DIRECTION_INGRESS)
    ),
]


def has(rule: str, wanted: int, there: int, policy: str = "p", packets: int = 0) -> pb.KernelRule:
    return pb.KernelRule(
        policy=policy,
        direction=policy_pb2.POLICY_DIRECTION_INGRESS,
        rule=rule,
        wanted=wanted,
        there=there,
        packets=packets,
    )


def answer(
    *rules: pb.KernelRule, holds_all: bool = True, **kernel: object
) -> api.GetKernelRulesResponse:
    return api.GetKernelRulesResponse(
        kernel=pb.KernelRules(rules=rules, **kernel),  # type: ignore[arg-type]
        holds_all=holds_all,
    )


def test_all_of_it_is_there() -> None:
    found = rules_beside_told(TOLD, answer(has("0", 2, 2, packets=7), has("1", 0, 0)))
    assert found.agrees
    assert found.verdict == "Its kernel has all of this."
    assert [(one.rule.subject, one.rule.policy, one.kernel, one.packets) for one in found.rules][
        :3
    ] == [("web", "p", "yes", 7), ("web", "p", "yes", 0), ("web", "q", "", 0)]


@pytest.mark.parametrize(
    ("rules", "kernel", "differences"),
    [
        ([has("0", 2, 1), has("1", 1, 1)], "1 of 2", []),
        ([has("0", 2, 0), has("1", 1, 1)], "no", []),
        (
            [has("1", 1, 1)],
            "no",
            [Differing("missing", "rule p ingress 0, which its agent does not keep")],
        ),
        (
            [has("0", 1, 1), has("1", 1, 1), has("0", 1, 1, "gone")],
            "yes",
            [Differing("strange", "rule gone ingress 0, which its agent is not told")],
        ),
        ([has("0", 1, 1), has("1", 1, 1), has("default", 1, 1)], "yes", []),
    ],
)
def test_rules_that_are_not_both_told_and_there(
    rules: list[pb.KernelRule], kernel: str, differences: list[Differing]
) -> None:
    said = sync_pb2.KernelDifference(kind=sync_pb2.DIFFERENCE_KIND_CHANGED, object="set s")
    found = rules_beside_told(TOLD, answer(*rules, differences=[said]))
    assert not found.agrees
    assert found.rules[0].kernel == kernel
    assert list(found.differences) == [*differences, Differing("changed", "set s")]


def test_an_agent_that_is_behind_or_knows_nothing_says_so() -> None:
    whole = has("0", 1, 1), has("1", 1, 1)
    behind = rules_beside_told(TOLD, answer(*whole, holds_all=False))
    assert (behind.agrees, behind.verdict) == (False, "Its agent does not hold all of this yet.")
    waiting = rules_beside_told(TOLD, answer(waiting=True))
    assert not waiting.agrees
    assert waiting.verdict == "Its agent knows no rules yet, and leaves its kernel as it is."


def test_what_is_left_out_is_told() -> None:
    found = rules_beside_told(TOLD, answer(has("0", 1, 1), has("1", 1, 1), left_out=3))
    assert found.differences == (Differing("", "and 3 more"),)
