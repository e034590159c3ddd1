"""The chains of `inet romana`. Pure.

    prerouting (raw)   sources: a packet of one of our interfaces has the address of its endpoint
    forward, input     established goes on; then egress of the endpoint that it comes from
      to_endpoint      then ingress of the endpoint that it is for; chains end here by a verdict
    input (after)      ingress of the node itself, if a policy is on it
    output             what the node sends to its endpoints is allowed, but for what was ended
    output (after)     egress of the node itself, if a policy is on it
    steer, ...         which device it goes through: `services.agent.rules.render_devices`
    postrouting (nat)  networks that ask for it: what leaves all networks has the node's address

What is not established begins something. A packet from the middle of a connection begins none: it
may be an answer, and then the verdict was that of the other direction. So one that comes of whom
ingress rules guard, or is for whom egress rules guard, is dropped: with either, rules would have to
be asked of the connection turned round. That holds for TCP and SCTP, whose packets tell; of others
that were ended, the flow is kept for a while (`ended`), and as long as packets of it come.

An interface of ours that no map knows is closed, both ways. What an egress chain allows goes to
`to_endpoint`, what an ingress chain allows is accepted, so that a packet meets both in one hook.
Dispatch is by maps, so its cost does not depend on the number of endpoints; rule sets are chains
that all endpoints share.

Rules of operators' own belong into a table of theirs, whose chains the kernel asks before ours at a
priority below 0: what they drop is dropped; what they mark with `marks.OPERATORS` we let through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import Final

from services.agent.kernel import marks
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.intervals import as_elements, bounds, union
from services.agent.kernel.nftables.table import (
    Base,
    Chain,
    Count,
    Dispatch,
    Element,
    Elements,
    Goto,
    Hook,
    In,
    Is,
    Jump,
    Key,
    Masquerade,
    Renew,
    Rule,
    Shape,
    Statement,
    Verdict,
    interface_key,
)
from services.agent.rules.block_sets import SHAPES
from services.agent.rules.device_chains import Devices, LegCounted, RuleCopied, RuleLed
from services.agent.rules.render_devices import DEVICE_SETS
from services.agent.rules.render_mirrors import MIRROR_SETS
from services.agent.rules.render_rules import (
    FAMILY,
    NUMBERS,
    OPERATORS,
    Counted,
    Logging,
    RenderedRuleSet,
    allowed,
    log_rules,
)
from services.agent.rules.resources import NetworkRules
from services.common.model.failsafe import Failsafe, Port
from services.common.model.rules import Direction, GroupId, Mode, Profile, RuleSetId, Tier

ENDED_SECONDS: Final = 600
"""How long the flow of a connection that was ended is kept, from the last packet of it."""
ENDED_MOST: Final = 262_144
"""As many as connections that a kernel tracks by default; a hundred bytes each."""

_ESTABLISHED_RELATED: Final = 2 | 4
_RAW: Final = -300
_FILTER: Final = 0
_SOURCE_NAT: Final = 100
_TO_DEVICE: Final = Is(Key.MARK, marks.native(0), marks.native(marks.STEERING), inverted=True)
_ICMPV6: Final = Is(Key.PROTOCOL, b"\x3a")
_TCP: Final = Is(Key.PROTOCOL, b"\x06")
_SCTP: Final = Is(Key.PROTOCOL, b"\x84")
_UDP: Final = Is(Key.PROTOCOL, b"\x11")
_NO_SYN: Final = Is(Key.TCP_FLAGS, b"\x02", b"\x17", inverted=True)
"""Of FIN, SYN, RST and ACK another one than SYN alone."""
_NO_INIT: Final = Is(Key.SCTP_CHUNK, b"\x01", inverted=True)
_NEIGHBOURS: Final = (133, 134, 135, 136)
"""Router and neighbour solicitations and advertisements: without them there is no IPv6."""
_LISTENER_REPORTS: Final = (131, 132, 143)
_LINK_LOCAL: Final = IPv6Network("fe80::/10")
_MULTICAST: Final = IPv6Network("ff00::/8")
_NAMES: Final = {4: table_names.SOURCES_4, 6: table_names.SOURCES_6}
_GUARDED: Final = {Direction.INGRESS: table_names.ANSWERING, Direction.EGRESS: table_names.ASKING}
_LENGTH_6: Final = 16

FIXED_SETS: Final[Mapping[str, Shape]] = {
    table_names.INTERFACES: Shape(Element.INTERFACE),
    table_names.SOURCES_4: Shape(Element.INTERFACE_ADDRESS_4),
    table_names.SOURCES_6: Shape(Element.INTERFACE_ADDRESS_6),
    table_names.FROM_ENDPOINT: Shape(Element.INTERFACE, is_map=True),
    table_names.TO_4: Shape(Element.ADDRESS_4, is_map=True),
    table_names.TO_6: Shape(Element.ADDRESS_6, is_map=True),
    table_names.ITSELF: Shape(Element.INTERFACES),
    table_names.SPEAKS_6: Shape(Element.INTERFACE),
    table_names.LINK_6: Shape(Element.INTERFACE_ADDRESS_6),
    table_names.ANY_LINK_6: Shape(Element.INTERFACE),
    table_names.GUESTS: Shape(Element.INTERFACE),
    table_names.ANSWERING: Shape(Element.INTERFACE),
    table_names.ASKING: Shape(Element.INTERFACE),
    table_names.ENDED_4: Shape(Element.FLOW_4, timeout=ENDED_SECONDS, size=ENDED_MOST),
    table_names.ENDED_6: Shape(Element.FLOW_6, timeout=ENDED_SECONDS, size=ENDED_MOST),
    **DEVICE_SETS,
    **MIRROR_SETS,
}


_NOBODY_ASKS: Final = Rule(
    (
        FAMILY[4],
        In(Key.INPUT, table_names.GUESTS),
        Is(Key.SOURCE_4, bytes(4)),
        Is(Key.DESTINATION_4, b"\xff" * 4),
        _UDP,
        Is(Key.PORT, (67).to_bytes(2, "big")),
        Verdict.ACCEPT,
    ),
    "asks who it is",
)
"""DHCP before there is an address."""


@dataclass(slots=True)
class Structure:
    """All of a table but the elements of groups and of what endpoints have."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Shape] = field(default_factory=dict)
    elements: dict[str, Elements] = field(default_factory=dict)
    """Of the sets in `sets`."""
    counters: dict[str, Counted | LegCounted | RuleLed | RuleCopied | None] = field(
        default_factory=dict
    )
    """What they count; None: see `names.DROPS`."""
    groups: frozenset[GroupId] = frozenset()
    """Those that have sets."""
    blocks: frozenset[GroupId] = frozenset()
    """The same of those that are made of blocks."""


def render(
    pieces: Mapping[RuleSetId, RenderedRuleSet],
    profiles: Iterable[Profile],
    node: Profile | None,
    networks: Iterable[NetworkRules],
    failsafe: Failsafe,
    logging: Logging | None,
    devices: Sequence[Devices],
) -> Structure:
    """The structure of the table.

    Args:
        pieces: Of the rule sets that profiles name; each must be there.
        profiles: Of endpoints, each as often as one likes.
        node: Of the node itself; None: no policy is on it.
        networks: All of them.
        failsafe: What policies on the node do not cut off.
        logging: How drops are logged; None: not.
        devices: What leads through devices, and copies to them.
    """
    made = Structure(sets=dict(FIXED_SETS), counters=dict.fromkeys(table_names.DROPS))
    made.elements = {name: {} for name in FIXED_SETS}
    _fixed(made, logging, guarded=any(table_names.STEER_GUARD in part.chains for part in devices))
    used: set[RuleSetId] = set()
    for profile in {*profiles, *([node] if node else ())}:
        for direction in Direction:
            if table_names.profile(direction, profile.of(direction)) not in made.chains:
                used.update(profile.of(direction))
                _profile(made, [pieces[one] for one in profile.of(direction)], direction, logging)
    for identity in used:
        _piece(made, pieces[identity])
    made.groups = frozenset(group for identity in used for group in pieces[identity].groups)
    made.blocks = frozenset(group for identity in used for group in pieces[identity].blocks)
    if node is not None:
        _node(made, node, failsafe)
    _masquerade(made, networks)
    for part in devices:
        made.chains.update(part.chains)
        made.sets.update(part.sets)
        made.elements.update(part.elements)
        made.counters.update(part.counters)
    return made


def _fixed(made: Structure, logging: Logging | None, *, guarded: bool) -> None:
    closed = _drop(made, table_names.CLOSED, logging)
    made.chains[table_names.SOURCES] = Chain(
        (
            _rule(
                "endpoint", FAMILY[4], In(Key.INPUT_SOURCE_4, table_names.SOURCES_4), Verdict.ACCEPT
            ),
            _rule(
                "endpoint", FAMILY[6], In(Key.INPUT_SOURCE_6, table_names.SOURCES_6), Verdict.ACCEPT
            ),
            _rule("no source", In(Key.INPUT, table_names.INTERFACES), Goto(table_names.STRANGE)),
        ),
        Base(Hook.PREROUTING, _RAW),
    )
    spoofed = Rule(_drop(made, table_names.SPOOFED, logging), "spoofed")
    made.chains[table_names.STRANGE] = Chain((_NOBODY_ASKS, *_link_local(spoofed), spoofed))
    begin = (
        _rule("goes on", _state(_ESTABLISHED_RELATED), Verdict.ACCEPT),
        _rule("operators", OPERATORS, Verdict.ACCEPT),
    )
    judged = (
        _rule("endpoint", Dispatch(Key.INPUT, table_names.FROM_ENDPOINT)),
        Rule((In(Key.INPUT, table_names.INTERFACES), *closed), "closed"),
    )
    ended, mid_stream = tuple(_ended()), tuple(_mid_stream(made))
    itself = _rule("itself", In(Key.THROUGH, table_names.ITSELF), Verdict.ACCEPT)
    guard = _rule("to a device", _TO_DEVICE, Jump(table_names.STEER_GUARD))
    made.chains[table_names.FORWARD] = Chain(
        (
            *((guard,) if guarded else ()),
            *begin,
            itself,
            *ended,
            *mid_stream,
            *judged,
            _rule("", Goto(table_names.TO_ENDPOINT)),
        ),
        Base(Hook.FORWARD, _FILTER),
    )
    # no `mid_stream`: what the node began with its endpoints is allowed
    made.chains[table_names.INPUT] = Chain(
        (*begin, *_neighbours(), *_guests_ask(), *ended, *judged), Base(Hook.INPUT, _FILTER)
    )
    made.chains[table_names.OUTPUT] = Chain(
        (*begin, *ended, *mid_stream), Base(Hook.OUTPUT, _FILTER)
    )
    made.chains[table_names.TO_ENDPOINT] = Chain(
        (
            _rule("endpoint", FAMILY[4], Dispatch(Key.DESTINATION_4, table_names.TO_4)),
            _rule("endpoint", FAMILY[6], Dispatch(Key.DESTINATION_6, table_names.TO_6)),
            Rule((In(Key.OUTPUT, table_names.INTERFACES), *closed), "closed"),
            _rule("elsewhere", Verdict.ACCEPT),
        )
    )


def _ended() -> Iterable[Rule]:
    """What still comes of connections that were ended, from either side."""
    for version, forth, back, name in (
        (4, Key.FLOW_4, Key.BACK_4, table_names.ENDED_4),
        (6, Key.FLOW_6, Key.BACK_6, table_names.ENDED_6),
    ):
        for key in (forth, back):
            yield _rule(
                "ended",
                FAMILY[version],
                In(key, name),
                Renew(key, name),
                Count(table_names.CUT),
                Verdict.DROP,
            )


def _mid_stream(made: Structure) -> Iterable[Rule]:
    drop = (Count(table_names.CUT), Verdict.DROP)
    made.chains[table_names.MID_STREAM] = Chain(
        (
            _rule("may be an answer", In(Key.INPUT, table_names.ANSWERING), *drop),
            _rule("may be an answer", In(Key.OUTPUT, table_names.ASKING), *drop),
        )
    )
    yield _rule("begins nothing", _TCP, _NO_SYN, Jump(table_names.MID_STREAM))
    yield _rule("begins nothing", _SCTP, _NO_INIT, Jump(table_names.MID_STREAM))


def _link_local(spoofed: Rule) -> Iterable[Rule]:
    """IPv6 before and beside an endpoint's address: only between neighbours, and only for one that
    has such an address."""
    speaks = In(Key.INPUT, table_names.SPEAKS_6)
    nothing = Is(Key.SOURCE_6, bytes(16))
    from_link = _within(Key.SOURCE_6, _LINK_LOCAL)
    to_all = _within(Key.DESTINATION_6, _MULTICAST)
    to_link = _within(Key.DESTINATION_6, _LINK_LOCAL)
    known: tuple[Statement, ...] = (In(Key.INPUT_SOURCE_6, table_names.LINK_6),)
    for source in (known, (In(Key.INPUT, table_names.ANY_LINK_6), from_link)):
        yield _rule("link", FAMILY[6], *source, to_all, Verdict.ACCEPT)
        yield _rule("link", FAMILY[6], *source, to_link, Verdict.ACCEPT)
    for kind in (135, *_LISTENER_REPORTS):
        is_kind = Is(Key.ICMP_TYPE, bytes((kind,)))
        yield _rule("link", FAMILY[6], speaks, nothing, to_all, _ICMPV6, is_kind, Verdict.ACCEPT)
    yield Rule((FAMILY[6], speaks, *spoofed.statements), spoofed.note)
    # what every kernel sends by itself when a link comes up is no attack
    for unknown in (from_link, nothing):
        yield _rule("no IPv6", FAMILY[6], unknown, to_all, Verdict.DROP)


def _neighbours() -> Iterable[Rule]:
    for kind in _NEIGHBOURS:
        yield _rule(
            "neighbours",
            FAMILY[6],
            _ICMPV6,
            Is(Key.HOP_LIMIT, b"\xff"),
            Is(Key.ICMP_TYPE, bytes((kind,))),
            Verdict.ACCEPT,
        )


def _guests_ask() -> Iterable[Rule]:
    """Guests of VMs ask the node who they are, whatever their rules say, closed ones too."""
    for family, port in ((4, 67), (6, 547)):
        yield _rule(
            "asks who it is",
            FAMILY[family],
            In(Key.INPUT, table_names.GUESTS),
            _UDP,
            Is(Key.PORT, port.to_bytes(2, "big")),
            Verdict.ACCEPT,
        )


def _profile(
    made: Structure,
    pieces: Sequence[RenderedRuleSet],
    direction: Direction,
    logging: Logging | None,
) -> None:
    """The chain by which one direction is judged: see `services.common.model.judging`."""
    ordered = sorted(pieces, key=lambda piece: piece.source.order)
    name = table_names.profile(direction, [piece.source.id for piece in pieces])
    rest = f"{name}-t"
    head: list[Rule] = []
    passes = False
    for piece in ordered:
        if piece.source.tier is not Tier.ADMIN:
            continue
        if not piece.passes:
            head.append(_jump(piece))
            continue
        passes = True
        head += [
            Rule((*rule.statements, Goto(rest)), rule.note) if index in piece.passes else rule
            for index, rule in enumerate(piece.rules)
        ]
    tail = _tail(made, ordered, direction, logging)
    if passes:
        made.chains[rest] = Chain(tail)
        tail = (_rule("", Goto(rest)),)
    made.chains[name] = Chain((*head, *tail))


def _tail(
    made: Structure,
    ordered: Sequence[RenderedRuleSet],
    direction: Direction,
    logging: Logging | None,
) -> tuple[Rule, ...]:
    """What comes after ADMIN."""
    tenant = [piece for piece in ordered if piece.source.tier is Tier.TENANT]
    audited = [_jump(piece) for piece in tenant if piece.source.mode is Mode.AUDIT]
    enforced = [_jump(piece) for piece in tenant if piece.source.mode is Mode.ENFORCE]
    if enforced:
        drop = Rule(_drop(made, table_names.DENIED[direction], logging), "not allowed")
        return (*audited, *enforced, drop)
    baseline = [_jump(piece) for piece in ordered if piece.source.tier is Tier.BASELINE]
    return (*audited, *baseline, _rule("not denied", allowed(direction)))


def _piece(made: Structure, piece: RenderedRuleSet) -> None:
    if not piece.passes:
        made.chains[table_names.rule_set(piece.source.id)] = Chain(tuple(piece.rules))
    made.chains.update(piece.chains)
    made.counters.update(piece.counters)
    for name, (shape, elements) in piece.sets.items():
        made.sets[name], made.elements[name] = shape, elements
    for identity in piece.groups:
        made.sets[table_names.group(identity, 4)] = Shape(Element.ADDRESS_4)
        made.sets[table_names.group(identity, 6)] = Shape(Element.ADDRESS_6)
    for identity in piece.blocks:
        for version, shape in SHAPES.items():
            made.sets[table_names.blocks(identity, version)] = shape


def _node(made: Structure, profile: Profile, failsafe: Failsafe) -> None:
    loopback = interface_key("lo")
    begin = (
        _rule("goes on", _state(_ESTABLISHED_RELATED), Verdict.ACCEPT),
        _rule("operators", OPERATORS, Verdict.ACCEPT),
        *_neighbours(),
    )
    made.chains[table_names.NODE_INPUT] = Chain(
        (
            *begin,
            *_guests_ask(),
            _rule("itself", Is(Key.INPUT, loopback), Verdict.ACCEPT),
            *map(_open, failsafe.inbound),
            _rule("node", Goto(table_names.profile(Direction.INGRESS, profile.ingress))),
        ),
        Base(Hook.INPUT, _FILTER + 1),
    )
    made.chains[table_names.NODE_OUTPUT] = Chain(
        (
            *begin,
            _rule("copies", *_FOR_DEVICES, Verdict.ACCEPT),
            _rule("itself", Is(Key.OUTPUT, loopback), Verdict.ACCEPT),
            _rule("to endpoints", In(Key.OUTPUT, table_names.INTERFACES), Verdict.ACCEPT),
            *map(_open, failsafe.outbound),
            _rule("node", Goto(table_names.profile(Direction.EGRESS, profile.egress))),
        ),
        Base(Hook.OUTPUT, _FILTER),
    )


def _open(port: Port) -> Rule:
    protocol = Is(Key.PROTOCOL, bytes((NUMBERS[port.protocol],)))
    return _rule("failsafe", protocol, Is(Key.PORT, port.number.to_bytes(2, "big")), Verdict.ACCEPT)


_FOR_DEVICES: Final = (
    Is(Key.MARK, marks.native(0), marks.native(marks.LEG), inverted=True),
    Is(
        Key.MARK,
        marks.native(marks.OPERATORS & marks.LEG),
        marks.native(marks.LEG),
        inverted=True,
    ),
)
"""Bears the number of a device's arm: what the node itself sends so are copies for devices."""


def _masquerade(made: Structure, networks: Iterable[NetworkRules]) -> None:
    rules: list[Rule] = []
    known = list(networks)
    for version, source, destination, element in (
        (4, Key.SOURCE_4, Key.DESTINATION_4, Element.ADDRESS_4),
        (6, Key.SOURCE_6, Key.DESTINATION_6, Element.ADDRESS_6),
    ):
        length = 4 if version == 4 else 16
        ours = [network for network in known if network.cidr.version == version]
        from_ranges = union(bounds(network.cidr) for network in ours if network.masquerade)
        if not from_ranges:
            continue
        to_ranges = union(bounds(network.cidr) for network in ours)
        inside = f"b{version}-{table_names.digest(repr(to_ranges))}"
        asking = f"b{version}-{table_names.digest(repr(from_ranges))}"
        for name, ranges in ((inside, to_ranges), (asking, from_ranges)):
            made.sets[name] = Shape(element, is_interval=True)
            made.elements[name] = as_elements(ranges, length)
        family = FAMILY[version]
        rules += [
            _rule("inside", family, In(destination, inside), Verdict.ACCEPT),
            _rule("leaves all networks", family, In(source, asking), Masquerade()),
        ]
    if rules:
        # a device sees, and knows again, whose it really is; what leaves from there is its own
        made.chains[table_names.MASQUERADE] = Chain(
            (_rule("to a device", *_FOR_DEVICES, Verdict.ACCEPT), *rules),
            Base(Hook.POSTROUTING, _SOURCE_NAT, "nat"),
        )


def _drop(made: Structure, counter: str, logging: Logging | None) -> tuple[Statement, ...]:
    """Counts, logs if asked for, and drops."""
    if logging is None:
        return Count(counter), Verdict.DROP
    chain = f"d-{counter}"
    made.chains[chain] = log_rules(logging, f"romana deny {counter}: ", Verdict.DROP)
    return Count(counter), Goto(chain)


def _jump(piece: RenderedRuleSet) -> Rule:
    return _rule(f"{piece.source.policy}", Jump(table_names.rule_set(piece.source.id)))


def _rule(note: str, *statements: Statement) -> Rule:
    return Rule(statements, note)


def _state(bits: int) -> Is:
    return Is(Key.CONNECTION_STATE, marks.native(0), marks.native(bits), inverted=True)


def _within(key: Key, prefix: IPv6Network) -> Is:
    return Is(key, prefix.network_address.packed, prefix.netmask.packed)


def _link_address(mac: str) -> bytes:
    """The link-local address that a kernel makes of a MAC address: RFC 4291, appendix A."""
    packed = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((packed[0] ^ 2,)) + packed[1:3] + b"\xff\xfe" + packed[3:]
    return _LINK_LOCAL.network_address.packed[:8] + identifier


def local_elements(
    interface: str,
    addresses: Sequence[bytes],
    mac: str,
    profile: Profile | None,
    guarded: Collection[Direction],
    *,
    dhcp: bool,
) -> Mapping[str, Elements]:
    """What an endpoint has in the sets and maps.

    Args:
        interface: In the node's namespace.
        addresses: Packed.
        mac: Its own; empty: it is not known.
        profile: None: it is closed.
        guarded: Directions in which rules are in force.
        dhcp: A guest asks the node who it is.
    """
    name = interface_key(interface)
    found: dict[str, Elements] = {
        table_names.INTERFACES: {name: ""},
        table_names.ITSELF: {name + name: ""},
    }
    if dhcp:
        found[table_names.GUESTS] = {name: ""}
    for direction in guarded:
        found[_GUARDED[direction]] = {name: ""}
    if any(len(address) == _LENGTH_6 for address in addresses):
        found[table_names.SPEAKS_6] = {name: ""}
        if mac:
            found[table_names.LINK_6] = {name + _link_address(mac): ""}
        else:
            found[table_names.ANY_LINK_6] = {name: ""}
    for address in addresses:
        version = 4 if len(address) == 4 else 6
        found.setdefault(_NAMES[version], {})[name + address] = ""
        if profile is not None:
            to = table_names.TO_4 if version == 4 else table_names.TO_6
            chain = table_names.profile(Direction.INGRESS, profile.ingress)
            found.setdefault(to, {})[address] = chain
    if profile is not None:
        chain = table_names.profile(Direction.EGRESS, profile.egress)
        found[table_names.FROM_ENDPOINT] = {name: chain}
    return found
