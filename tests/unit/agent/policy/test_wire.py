from __future__ import annotations

import ipaddress
from pathlib import Path

from romana.policy.v1 import policy_pb2, sync_rules_pb2

from services.agent.rules.messages import parse_resource
from services.agent.rules.resources import Unreadable
from services.agent.rules.spool import FILE, RuleSpool
from services.common.model.rules import Action, CidrBlock, GroupPage, PortMatch, Protocol, RuleSet
from services.common.sync.model import Position

PAGE = sync_rules_pb2.RuleResource(
    id="page/g/0a000000",
    page=sync_rules_pb2.GroupPage(group="g", base=bytes((10, 0, 0, 0)), members=5),
)


def _rules(**port: int) -> bytes:
    block = policy_pb2.CidrBlock(cidr="10.0.0.0/8")
    getattr(block, "except").append("10.1.0.0/16")
    rule = sync_rules_pb2.CompiledRule(
        number=2,
        action=policy_pb2.RULE_ACTION_ALLOW,
        blocks=[block],
        ports=[policy_pb2.PortMatch(protocol=policy_pb2.PROTOCOL_TCP, **port)],
    )
    rules = sync_rules_pb2.RuleSet(
        id="r",
        policy="p",
        direction=policy_pb2.POLICY_DIRECTION_INGRESS,
        tier=policy_pb2.POLICY_TIER_TENANT,
        rules=[rule],
    )
    return sync_rules_pb2.RuleResource(id="rules/r", rules=rules).SerializeToString()


def test_a_rule_set_is_read() -> None:
    found = parse_resource(_rules(port=80, end_port=90))
    assert isinstance(found, RuleSet)
    (rule,) = found.rules
    assert (rule.number, rule.action) == (2, Action.ALLOW)
    assert rule.ports == (PortMatch(Protocol.TCP, 80, 90),)
    assert rule.blocks == (
        CidrBlock(ipaddress.ip_network("10.0.0.0/8"), (ipaddress.ip_network("10.1.0.0/16"),)),
    )


def test_a_page_is_read() -> None:
    found = parse_resource(PAGE.SerializeToString())
    assert found == GroupPage("g", 10 << 24, 32, 5)  # type: ignore[arg-type]


def test_what_is_wrong_fails_alone_and_says_where() -> None:
    found = parse_resource(_rules(port=90, end_port=80))
    assert isinstance(found, Unreadable)
    assert "rules.rules[0].ports[0]" in found.message
    assert isinstance(parse_resource(b"\xff\xff"), Unreadable)
    assert isinstance(parse_resource(b""), Unreadable)


def test_a_compiled_rule_says_its_tier_and_its_action() -> None:
    tierless = sync_rules_pb2.RuleResource.FromString(_rules(port=80))
    tierless.rules.ClearField("tier")
    assert isinstance(parse_resource(tierless.SerializeToString()), Unreadable)
    actionless = sync_rules_pb2.RuleResource.FromString(_rules(port=80))
    actionless.rules.rules[0].ClearField("action")
    assert isinstance(parse_resource(actionless.SerializeToString()), Unreadable)


def test_the_spool_gives_back_what_it_was_given(tmp_path: Path) -> None:
    spool, held = RuleSpool(tmp_path), {"page/g/0a000000": PAGE.SerializeToString()}
    position = Position("e", 7, 0xFEDC)
    spool.save(held, position)
    found = spool.load()
    assert (dict(found.held), found.position, found.complete) == (held, position, True)


def test_a_spool_keeps_what_is_whole(tmp_path: Path) -> None:
    spool, held = RuleSpool(tmp_path), {"page/g/0a000000": PAGE.SerializeToString()}
    spool.save(held, Position("e", 7, 0xFEDC))
    spool.save({**held, "more": b"x"}, Position("e", 8, 0))
    assert dict(spool.load().held) == held


def test_a_spool_that_is_cut_short_is_none(tmp_path: Path) -> None:
    spool = RuleSpool(tmp_path)
    spool.save({"a": b"xyz"}, Position("e", 7, 1))
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-1])
    assert not spool.load().complete
