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

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Network
from typing import Final

from services.agent.kernel import marks
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import (
    Base,
    Chain,
    Count,
    Dispatch,
    Element,
    Goto,
    Hook,
    In,
    Is,
    Jump,
    Key,
    Renew,
    Rule,
    Shape,
    Statement,
    Verdict,
    interface_key,
    noted,
)
from services.agent.rules.device_chains import HAS_ARM, Devices
from services.agent.rules.render_devices import DEVICE_SETS
from services.agent.rules.render_masquerade import render_masquerade
from services.agent.rules.render_mirrors import MIRROR_SETS
from services.agent.rules.render_profiles import render_profile, render_rule_set
from services.agent.rules.render_rules import FAMILY, NUMBERS, OPERATORS, Logging, RenderedRuleSet
from services.agent.rules.resources import NetworkRules
from services.agent.rules.structure import Structure
from services.common.model.failsafe import Failsafe, Port
from services.common.model.rules import Direction, Profile, RuleSetId

ENDED_SECONDS: Final = 600
"""How long the flow of a connection that was ended is kept, from the last packet of it."""
ENDED_MOST: Final = 262_144
"""As many as connections that a kernel tracks by default; a hundred bytes each."""

_ESTABLISHED_RELATED: Final = 2 | 4
_RAW: Final = -300
_FILTER: Final = 0
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
_LISTENER_QUERIES: Final = (130,)
_LISTENER_REPORTS: Final = (131, 132, 143)
"""Without them switches forward no solicitations to a node, and again there is no IPv6."""
_LINK_LOCAL: Final = IPv6Network("fe80::/10")
_MULTICAST: Final = IPv6Network("ff00::/8")

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
                render_profile(
                    made, [pieces[one] for one in profile.of(direction)], direction, logging
                )
    for identity in used:
        render_rule_set(made, pieces[identity])
    made.groups = frozenset(group for identity in used for group in pieces[identity].groups)
    made.blocks = frozenset(group for identity in used for group in pieces[identity].blocks)
    if node is not None:
        _node(made, node, failsafe)
    render_masquerade(made, networks)
    for part in devices:
        made.chains.update(part.chains)
        made.sets.update(part.sets)
        made.elements.update(part.elements)
        made.counters.update(part.counters)
    return made


def _fixed(made: Structure, logging: Logging | None, *, guarded: bool) -> None:
    closed = made.drop(table_names.CLOSED, logging)
    made.chains[table_names.SOURCES] = Chain(
        (
            noted(
                "endpoint", FAMILY[4], In(Key.INPUT_SOURCE_4, table_names.SOURCES_4), Verdict.ACCEPT
            ),
            noted(
                "endpoint", FAMILY[6], In(Key.INPUT_SOURCE_6, table_names.SOURCES_6), Verdict.ACCEPT
            ),
            noted("no source", In(Key.INPUT, table_names.INTERFACES), Goto(table_names.STRANGE)),
        ),
        Base(Hook.PREROUTING, _RAW),
    )
    spoofed = Rule(made.drop(table_names.SPOOFED, logging), "spoofed")
    made.chains[table_names.STRANGE] = Chain((_NOBODY_ASKS, *_link_local(spoofed), spoofed))
    begin = (
        noted("goes on", _state(_ESTABLISHED_RELATED), Verdict.ACCEPT),
        noted("operators", OPERATORS, Verdict.ACCEPT),
    )
    judged = (
        noted("endpoint", Dispatch(Key.INPUT, table_names.FROM_ENDPOINT)),
        Rule((In(Key.INPUT, table_names.INTERFACES), *closed), "closed"),
    )
    ended, mid_stream = tuple(_ended()), tuple(_mid_stream(made))
    itself = noted("itself", In(Key.THROUGH, table_names.ITSELF), Verdict.ACCEPT)
    guard = noted("to a device", _TO_DEVICE, Jump(table_names.STEER_GUARD))
    made.chains[table_names.FORWARD] = Chain(
        (
            *((guard,) if guarded else ()),
            *begin,
            itself,
            *ended,
            *mid_stream,
            *judged,
            noted("", Goto(table_names.TO_ENDPOINT)),
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
            noted("endpoint", FAMILY[4], Dispatch(Key.DESTINATION_4, table_names.TO_4)),
            noted("endpoint", FAMILY[6], Dispatch(Key.DESTINATION_6, table_names.TO_6)),
            Rule((In(Key.OUTPUT, table_names.INTERFACES), *closed), "closed"),
            noted("elsewhere", Verdict.ACCEPT),
        )
    )


def _ended() -> Iterable[Rule]:
    """What still comes of connections that were ended, from either side."""
    for version, forth, back, name in (
        (4, Key.FLOW_4, Key.BACK_4, table_names.ENDED_4),
        (6, Key.FLOW_6, Key.BACK_6, table_names.ENDED_6),
    ):
        for key in (forth, back):
            yield noted(
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
            noted("may be an answer", In(Key.INPUT, table_names.ANSWERING), *drop),
            noted("may be an answer", In(Key.OUTPUT, table_names.ASKING), *drop),
        )
    )
    yield noted("begins nothing", _TCP, _NO_SYN, Jump(table_names.MID_STREAM))
    yield noted("begins nothing", _SCTP, _NO_INIT, Jump(table_names.MID_STREAM))


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
        yield noted("link", FAMILY[6], *source, to_all, Verdict.ACCEPT)
        yield noted("link", FAMILY[6], *source, to_link, Verdict.ACCEPT)
    for kind in (135, *_LISTENER_REPORTS):
        is_kind = Is(Key.ICMP_TYPE, bytes((kind,)))
        yield noted("link", FAMILY[6], speaks, nothing, to_all, _ICMPV6, is_kind, Verdict.ACCEPT)
    yield Rule((FAMILY[6], speaks, *spoofed.statements), spoofed.note)
    # what every kernel sends by itself when a link comes up is no attack
    for unknown in (from_link, nothing):
        yield noted("no IPv6", FAMILY[6], unknown, to_all, Verdict.DROP)


def _neighbours() -> Iterable[Rule]:
    for kind in _NEIGHBOURS:
        yield noted(
            "neighbours",
            FAMILY[6],
            _ICMPV6,
            Is(Key.HOP_LIMIT, b"\xff"),
            Is(Key.ICMP_TYPE, bytes((kind,))),
            Verdict.ACCEPT,
        )


def _listeners(kinds: Iterable[int]) -> Iterable[Rule]:
    """In which groups of its links the node is."""
    for kind in kinds:
        is_kind = Is(Key.ICMP_TYPE, bytes((kind,)))
        yield noted("listeners", FAMILY[6], _ICMPV6, is_kind, Verdict.ACCEPT)


def _guests_ask() -> Iterable[Rule]:
    """Guests of VMs ask the node who they are, whatever their rules say, closed ones too."""
    for family, port in ((4, 67), (6, 547)):
        yield noted(
            "asks who it is",
            FAMILY[family],
            In(Key.INPUT, table_names.GUESTS),
            _UDP,
            Is(Key.PORT, port.to_bytes(2, "big")),
            Verdict.ACCEPT,
        )


def _node(made: Structure, profile: Profile, failsafe: Failsafe) -> None:
    loopback = interface_key("lo")
    begin = (
        noted("goes on", _state(_ESTABLISHED_RELATED), Verdict.ACCEPT),
        noted("operators", OPERATORS, Verdict.ACCEPT),
        *_neighbours(),
    )
    made.chains[table_names.NODE_INPUT] = Chain(
        (
            *begin,
            *_listeners(_LISTENER_QUERIES),
            *_guests_ask(),
            noted("itself", Is(Key.INPUT, loopback), Verdict.ACCEPT),
            *map(_open, failsafe.inbound),
            noted("node", Goto(table_names.profile(Direction.INGRESS, profile.ingress))),
        ),
        Base(Hook.INPUT, _FILTER + 1),
    )
    made.chains[table_names.NODE_OUTPUT] = Chain(
        (
            *begin,
            *_listeners(_LISTENER_REPORTS),
            noted("copies", *HAS_ARM, Verdict.ACCEPT),
            noted("itself", Is(Key.OUTPUT, loopback), Verdict.ACCEPT),
            noted("to endpoints", In(Key.OUTPUT, table_names.INTERFACES), Verdict.ACCEPT),
            *map(_open, failsafe.outbound),
            noted("node", Goto(table_names.profile(Direction.EGRESS, profile.egress))),
        ),
        Base(Hook.OUTPUT, _FILTER),
    )


def _open(port: Port) -> Rule:
    protocol = Is(Key.PROTOCOL, bytes((NUMBERS[port.protocol],)))
    return noted("failsafe", protocol, Is(Key.PORT, port.number.to_bytes(2, "big")), Verdict.ACCEPT)


def _state(bits: int) -> Is:
    return Is(Key.CONNECTION_STATE, marks.native(0), marks.native(bits), inverted=True)


def _within(key: Key, prefix: IPv6Network) -> Is:
    return Is(key, prefix.network_address.packed, prefix.netmask.packed)
