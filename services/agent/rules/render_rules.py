"""A rule set as a chain of the kernel. Pure.

A rule of ours becomes one rule of the kernel for each way to match it: each group and family, all
prefixes of a family, each protocol. What it allows goes on to whatever comes after this direction;
see `services.agent.rules.render`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.agent.kernel import marks
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.intervals import Ranges, as_elements, of_blocks, union
from services.agent.kernel.nftables.table import (
    Between,
    Chain,
    Count,
    Element,
    Elements,
    Goto,
    In,
    Is,
    Key,
    Limit,
    Log,
    Rule,
    Shape,
    Statement,
    Verdict,
)
from services.common.model.rules import (
    MAX_PORT,
    Action,
    CompiledRule,
    Direction,
    GroupId,
    Mode,
    OwnedPeers,
    PolicyName,
    PortMatch,
    Protocol,
    RuleSet,
    Tier,
)

FAMILY: Final = {4: Is(Key.FAMILY, b"\x02"), 6: Is(Key.FAMILY, b"\x0a")}
NUMBERS: Final = {
    Protocol.TCP: 6,
    Protocol.UDP: 17,
    Protocol.SCTP: 132,
    Protocol.ICMP: 1,
    Protocol.ICMPV6: 58,
}
OPERATORS: Final = Is(
    Key.MARK,
    marks.native(marks.OPERATORS & marks.OPERATORS_MASK),
    marks.native(marks.OPERATORS_MASK),
)
"""What operators' own rules let pass."""
DEFAULT: Final = "default"
"""Instead of a rule's number: none of a TENANT policy's rules."""
_LENGTH: Final = {4: 4, 6: 16}
_SOURCE: Final = {4: Key.SOURCE_4, 6: Key.SOURCE_6}
_DESTINATION: Final = {4: Key.DESTINATION_4, 6: Key.DESTINATION_6}
_ADDRESS: Final = {4: Element.ADDRESS_4, 6: Element.ADDRESS_6}

Alternative = tuple[int, tuple[Statement, ...]]
"""One way to match, and the family it is of; 0: either."""


@dataclass(frozen=True, slots=True)
class Logging:
    """Whether and how what is denied is logged."""

    group: int
    """Of nflog."""
    rate: int
    """Packets a second, of each rule."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter counts."""

    policy: PolicyName
    direction: Direction
    rule: str
    """Its number, or `default`."""


@dataclass(slots=True)
class RenderedRuleSet:
    """What a rule set becomes."""

    source: RuleSet
    rules: list[Rule] = field(default_factory=list)
    """Of its chain."""
    passes: frozenset[int] = frozenset()
    """Indexes of those that end by a PASS: these have no verdict yet."""
    chains: dict[str, Chain] = field(default_factory=dict)
    """For logs."""
    sets: dict[str, tuple[Shape, Elements]] = field(default_factory=dict)
    counters: dict[str, Counted] = field(default_factory=dict)
    groups: frozenset[GroupId] = frozenset()
    blocks: frozenset[GroupId] = frozenset()
    """Groups that are made of blocks."""


def render_rules(source: RuleSet, logging: Logging | None) -> RenderedRuleSet:
    """Makes a rule set's piece of the table."""
    piece = RenderedRuleSet(source)
    audited = source.mode is Mode.AUDIT
    passes: set[int] = set()
    groups: set[GroupId] = set()
    blocks: set[GroupId] = set()
    for rule in source.rules:
        groups.update(rule.groups)
        groups.update(one.known for one in rule.owned if one.known is not None)
        blocks.update(one.blocks for one in rule.owned)
        end = _end(piece, rule.action, str(rule.number), logging)
        note = f"{source.policy} {source.direction.value} {rule.number}"
        for _, statements in matches(piece, rule):
            if rule.action is Action.PASS and not audited:
                passes.add(len(piece.rules))
            piece.rules.append(Rule((*statements, *end), note))
    if audited and source.tier is Tier.TENANT:
        end = _end(piece, Action.DENY, DEFAULT, logging)
        piece.rules.append(Rule(end, f"{source.policy} {source.direction.value} default"))
    piece.passes = frozenset(passes)
    piece.groups = frozenset(groups)
    piece.blocks = frozenset(blocks)
    return piece


def allowed(direction: Direction) -> Statement:
    """What follows when one direction allows."""
    return Goto(table_names.TO_ENDPOINT) if direction is Direction.EGRESS else Verdict.ACCEPT


def log_rules(logging: Logging, prefix: str, last: Statement) -> Chain:
    """A chain that logs, now and then, and ends."""
    return Chain(
        (
            Rule((Limit(logging.rate, logging.rate), Log(logging.group, prefix))),
            Rule((last,)),
        )
    )


def _end(
    piece: RenderedRuleSet, action: Action, number: str, logging: Logging | None
) -> tuple[Statement, ...]:
    """What a rule does when it matches; a PASS is left open."""
    source = piece.source
    name = table_names.counter(source.policy, source.direction, number)
    piece.counters[name] = Counted(source.policy, source.direction, number)
    audited = source.mode is Mode.AUDIT
    last: Statement
    if audited:
        last = Verdict.RETURN
    elif action is Action.PASS:
        return (Count(name),)
    elif action is Action.ALLOW:
        return Count(name), allowed(source.direction)
    else:
        last = Verdict.DROP
    if logging is None or action is not Action.DENY:
        return Count(name), last
    word, letter = ("audit", "a") if audited else ("deny", "d")
    prefix = f"romana {word} {source.direction.value} {source.policy} {number}: "
    chain = f"{letter}-{table_names.digest(source.policy, source.direction.value, number)}"
    piece.chains[chain] = log_rules(logging, prefix, last)
    return Count(name), Goto(chain)


def matches(piece: RenderedRuleSet, rule: CompiledRule) -> Iterator[Alternative]:
    """Every way to match a rule: cheap comparisons first, look-ups after them."""
    ports = list(_ports(piece, rule.ports))
    for family, peer in _peers(piece, rule):
        for other, port in ports:
            if family and other and family != other:
                continue
            one = family or other
            # a family is needed where addresses are read, and for ICMP of its own version
            first = (FAMILY[one],) if one else ()
            yield one, (*first, *port, *peer)


def _peers(piece: RenderedRuleSet, rule: CompiledRule) -> Iterator[Alternative]:
    if rule.any_peer:
        yield 0, ()
        return
    keys = _SOURCE if piece.source.direction is Direction.INGRESS else _DESTINATION
    for version, key in keys.items():
        for group in rule.groups:
            yield version, (In(key, table_names.group(group, version)),)
        for one in rule.owned:
            yield version, tuple(_owned(one, key, version))
        ranges = of_blocks(rule.blocks, version)
        if ranges:
            yield version, _in_ranges(piece, key, version, ranges)


def _owned(peers: OwnedPeers, key: Key, version: int) -> Iterator[Statement]:
    yield In(key, table_names.blocks(peers.blocks, version))
    if peers.known is not None:
        yield In(key, table_names.group(peers.known, version), inverted=True)


def _in_ranges(
    piece: RenderedRuleSet, key: Key, version: int, ranges: Ranges
) -> tuple[Statement, ...]:
    length = _LENGTH[version]
    if len(ranges) == 1:
        first, last = ranges[0]
        if first == 0 and last == (1 << 8 * length) - 1:
            return ()
        prefixes = list(ipaddress.summarize_address_range(*_address_pair(version, first, last)))
        if len(prefixes) == 1:
            mask = prefixes[0].netmask.packed
            whole = prefixes[0].prefixlen == prefixes[0].max_prefixlen
            return (Is(key, first.to_bytes(length, "big"), b"" if whole else mask),)
        return (Between(key, first.to_bytes(length, "big"), last.to_bytes(length, "big")),)
    name = f"b{version}-{table_names.digest(repr(ranges))}"
    shape = Shape(_ADDRESS[version], is_interval=True)
    piece.sets[name] = shape, as_elements(ranges, length)
    return (In(key, name),)


def _address_pair(
    version: int, first: int, last: int
) -> (
    tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]
    | tuple[ipaddress.IPv6Address, ipaddress.IPv6Address]
):
    if version == 4:
        return ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
    return ipaddress.IPv6Address(first), ipaddress.IPv6Address(last)


def _ports(piece: RenderedRuleSet, ports: Sequence[PortMatch]) -> Iterator[Alternative]:
    if not ports or any(port.protocol is None for port in ports):
        yield 0, ()
        return
    for protocol in Protocol:
        asked = [port for port in ports if port.protocol is protocol]
        if not asked:
            continue
        is_protocol = Is(Key.PROTOCOL, bytes((NUMBERS[protocol],)))
        if protocol.has_ports:
            yield 0, (is_protocol, *_port_numbers(piece, asked))
        else:
            version = 4 if protocol is Protocol.ICMP else 6
            for icmp in _icmp(asked):
                yield version, (is_protocol, *icmp)


def _port_numbers(piece: RenderedRuleSet, ports: Sequence[PortMatch]) -> tuple[Statement, ...]:
    if any(not port.first for port in ports):
        return ()
    ranges = union((port.first, port.last) for port in ports)
    if len(ranges) > 1:
        name = f"p-{table_names.digest(repr(ranges))}"
        piece.sets[name] = Shape(Element.PORT, is_interval=True), as_elements(ranges, 2)
        return (In(Key.PORT, name),)
    first, last = ranges[0]
    if first == last:
        return (Is(Key.PORT, first.to_bytes(2, "big")),)
    return (Between(Key.PORT, first.to_bytes(2, "big"), min(last, MAX_PORT).to_bytes(2, "big")),)


def _icmp(ports: Sequence[PortMatch]) -> Iterator[tuple[Statement, ...]]:
    for port in ports:
        statements: list[Statement] = []
        if port.icmp_type is not None:
            statements.append(Is(Key.ICMP_TYPE, bytes((port.icmp_type,))))
        if port.icmp_code is not None:
            statements.append(Is(Key.ICMP_CODE, bytes((port.icmp_code,))))
        yield tuple(statements)
