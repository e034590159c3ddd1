"""What a node is told beside what its kernel has."""

from __future__ import annotations

import pytest
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1 import sync_routes_pb2 as routes_pb
from romana.ipam.v1 import utilization_pb2
from romana.policy.v1 import policy_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1 import sync_rules_pb2 as pb
from romana.sync.v1 import sync_pb2

from services.common.rpc.kernel_text import Differing, routes_beside_told, rules_beside_told

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
    assert [(one.rule.subject, one.rule.policy, one.kernel, one.packets) for one in found.items][
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
    assert found.items[0].kernel == kernel
    assert list(found.differences) == [*differences, Differing("changed", "set s")]


def test_an_agent_that_is_behind_or_knows_nothing_says_so() -> None:
    whole = has("0", 1, 1), has("1", 1, 1)
    behind = rules_beside_told(TOLD, answer(*whole, holds_all=False))
    assert (behind.agrees, behind.verdict) == (False, "Its agent does not hold all of this yet.")
    waiting = rules_beside_told(TOLD, answer(waiting=True))
    assert not waiting.agrees
    assert waiting.verdict == "Its agent knows no rules yet, and leaves its kernel as it is."


def test_what_is_left_out_is_told() -> None:
    found = rules_beside_told(TOLD, answer(has("0", 1, 1), left_out=1, more_differences=3))
    assert [one.kernel for one in found.items][:2] == ["yes", "?"]
    assert found.differences == (Differing("", "and 3 more"),)


def way(
    prefix: str, next_hop: str = "192.0.2.2", *, kept: bool = True, there: bool = True
) -> routes_pb.KernelRoute:
    return routes_pb.KernelRoute(
        network="net", prefix=prefix, node="n2", kept=kept, there=there, next_hop=next_hop
    )


@pytest.mark.parametrize(
    ("routes", "kernel", "differences"),
    [
        ([way("10.0.1.0/24")], "yes", []),
        ([way("10.0.1.0/24", "", kept=False, there=False)], "by the gateway", []),
        (
            [way("10.0.1.0/24", "192.0.2.9")],
            "by 192.0.2.9",
            [
                Differing(
                    "changed", "route 10.0.1.0/24 of network net: by 192.0.2.9 and not by 192.0.2.2"
                )
            ],
        ),
        (
            [],
            "no",
            [
                Differing(
                    "missing", "route 10.0.1.0/24 of network net, which its agent does not hold"
                )
            ],
        ),
        (
            [way("10.0.1.0/24"), way("10.0.9.0/24")],
            "yes",
            [Differing("strange", "route 10.0.9.0/24 of network net, which its agent is not told")],
        ),
    ],
)
def test_routes(
    routes: list[routes_pb.KernelRoute], kernel: str, differences: list[Differing]
) -> None:
    own = utilization_pb2.Route(
        network="net", prefix="10.0.0.0/24", node="n1", next_hop="192.0.2.1"
    )
    told = ipam_api.GetNodeRoutesResponse(
        own=[own],
        remote=[
            utilization_pb2.Route(
                network="net", prefix="10.0.1.0/24", node="n2", next_hop="192.0.2.2"
            )
        ],
    )
    answer = ipam_api.GetKernelRoutesResponse(
        kernel=routes_pb.KernelRoutes(routes=[way("10.0.0.0/24", ""), *routes]), holds_all=True
    )
    found = routes_beside_told(told, answer)
    assert [one.kernel for one in found.items] == [kernel]
    assert list(found.differences) == differences
    assert found.agrees is (not differences)
