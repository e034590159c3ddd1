"""What a node enforces, in words."""

from __future__ import annotations

from romana.policy.v1 import policy_pb2 as policy
from romana.policy.v1 import sync_rules_pb2 as pb

from services.common.rpc.rule_text import EnforcedRule, enforced

RULES = pb.RuleSet(
    id="1",
    policy="p",
    direction=policy.POLICY_DIRECTION_INGRESS,
    tier=policy.POLICY_TIER_ADMIN,
    mode=policy.POLICY_MODE_ENFORCE,
    rules=[
        pb.CompiledRule(
            number=0,
            action=policy.RULE_ACTION_ALLOW,
            groups=["a", "b"],
            blocks=[policy.CidrBlock(cidr="10.0.0.0/8", **{"except": ["10.1.0.0/16"]})],
            owned=[pb.OwnedPeers(blocks="c")],
            ports=[policy.PortMatch(protocol=policy.PROTOCOL_TCP, port=80, end_port=90)],
            via="firewalls",
        ),
        pb.CompiledRule(number=1, action=policy.RULE_ACTION_DENY, any_peer=True),
        pb.CompiledRule(number=2, action=policy.RULE_ACTION_DENY),
    ],
)
EMPTY = pb.RuleSet(
    id="2", policy="q", tier=policy.POLICY_TIER_TENANT, mode=policy.POLICY_MODE_AUDIT
)


def told(*resources: pb.RuleResource) -> list[EnforcedRule]:
    return list(enforced(resources))


def test_the_node_is_first_and_rule_sets_are_in_the_order_in_which_they_are_asked() -> None:
    profile = pb.Profile(rule_sets=["2", "1"])
    found = told(
        pb.RuleResource(id="endpoint/e", endpoint=pb.EndpointRules(name="e", ingress=profile)),
        pb.RuleResource(id="node/n", node=pb.NodeRules(name="n", egress=profile)),
        pb.RuleResource(id="rules/1", rules=RULES),
        pb.RuleResource(id="rules/2", rules=EMPTY),
    )
    assert [(each.subject, each.direction, each.policy, each.rule) for each in found] == [
        ("the node", "ingress", "", ""),
        ("the node", "egress", "q", ""),
        *(("the node", "egress", "p", number) for number in "012"),
        ("e", "ingress", "q", ""),
        *(("e", "ingress", "p", number) for number in "012"),
        ("e", "egress", "", ""),
    ]


def test_a_rule_is_said_with_all_that_it_does() -> None:
    profile = pb.Profile(rule_sets=["1", "2"])
    first, second, third, last, _ = told(
        pb.RuleResource(id="endpoint/e", endpoint=pb.EndpointRules(name="e", ingress=profile)),
        pb.RuleResource(id="rules/1", rules=RULES),
        pb.RuleResource(id="rules/2", rules=EMPTY),
    )
    assert (first.tier, first.action, first.ports) == ("admin", "allow via firewalls", "TCP 80-90")
    assert first.peers == "10.0.0.0/8 without 10.1.0.0/16; 2 address groups; 1 block group"
    assert (second.action, second.peers, second.ports) == ("deny", "any", "any")
    assert third.peers == "nobody"
    assert last.action == "no rules (audit)"
