"""Says what becomes of a connection in one direction, by compiled rules.

The one place in Python that knows the meaning of tiers (`services.common.model.rules`): the policy
service explains by it, and an agent finds by it the established connections that are no longer
allowed. The kernel's rules must agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.common.model.devices import DeviceGroupName
from services.common.model.network import Address
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    GroupId,
    Mode,
    Packet,
    PortMatch,
    Protocol,
    RuleSet,
    Tier,
)

IsMember: TypeAlias = Callable[[GroupId, Address], bool]
"""Says whether an address is in a group."""

NO_RULE: Final = -1


@dataclass(frozen=True, slots=True)
class Judgment:
    action: Action
    """ALLOW or DENY."""
    by: RuleSet | None = None
    """What decided; None: nothing did, or no TENANT rule matched."""
    rule: int = NO_RULE
    """Number of the rule that decided."""
    tier: Tier | None = None
    """Of what decided; TENANT without `by`: that no rule matched did. None: the default."""
    via: DeviceGroupName | None = None
    """What it allows goes through a device of this group."""
    mirror: DeviceGroupName | None = None
    """A device of this group gets copies of it."""


def judge(sets: Iterable[RuleSet], packet: Packet, is_member: IsMember) -> Judgment:
    """Judges by the rule sets of one direction, in any order; those in AUDIT mode do not count."""
    enforced = sorted((one for one in sets if one.mode is Mode.ENFORCE), key=lambda one: one.order)
    isolated = passed = False
    for one in enforced:
        if one.tier is Tier.ADMIN and passed:
            continue
        if one.tier is Tier.BASELINE and isolated:
            break
        isolated = isolated or one.tier is Tier.TENANT
        rule = first_match(one, packet, is_member)
        if rule is None:
            continue
        if rule.action is Action.PASS:
            passed = True
            continue
        return Judgment(rule.action, one, rule.number, one.tier, rule.via, rule.mirror)
    if isolated:
        return Judgment(Action.DENY, tier=Tier.TENANT)
    return Judgment(Action.ALLOW)


def first_match(rules: RuleSet, packet: Packet, is_member: IsMember) -> CompiledRule | None:
    """The first rule that matches; None: none does."""
    ingress = rules.direction is Direction.INGRESS
    peer = packet.source if ingress else packet.destination
    for rule in rules.rules:
        if matches_peer(rule, peer, is_member) and matches_port(rule, packet):
            return rule
    return None


def matches_peer(rule: CompiledRule, peer: Address, is_member: IsMember) -> bool:
    """Says whether an address is one of the rule's peers."""
    if rule.any_peer:
        return True
    return (
        any(is_member(group, peer) for group in rule.groups)
        or any(
            peer in block.cidr and not any(peer in other for other in block.exceptions)
            for block in rule.blocks
        )
        or any(
            is_member(one.blocks, peer) and not (one.known and is_member(one.known, peer))
            for one in rule.owned
        )
    )


def matches_port(rule: CompiledRule, packet: Packet) -> bool:
    """Says whether what is spoken to is one of the rule's ports."""
    return not rule.ports or any(_is_port(one, packet) for one in rule.ports)


def _is_port(port: PortMatch, packet: Packet) -> bool:
    if port.protocol is None:
        return True
    if port.protocol is not packet.protocol:
        return False
    if port.protocol in {Protocol.ICMP, Protocol.ICMPV6}:
        return port.icmp_type in {None, packet.icmp_type} and (
            port.icmp_code in {None, packet.icmp_code}
        )
    return not port.first or port.first <= packet.port <= port.last
