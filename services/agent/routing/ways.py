"""The way back of translated connections: marks, and the rules of policy routing for them. Pure.

What NAT translates is routed by addresses that its sender never saw, so addresses do not say which
way it came. A connection's mark does:

    HOST            begun by an endpoint with an address of this node, or about to be masqueraded
    MAIN            begun by somebody on an interface of no network: a bridge, the node's other link
    one per `att`   begun by somebody on this interface to networks

It is set while packets go as the connection was begun, if they are for a network and translated;
of MAIN all that are for a network, since masquerading is decided after routing. Answers of what was
translated get it. Rules, in their place among those of `services.agent.routing.steering`:

    mark HOST            lookup main, host routes only    to an endpoint of this node, past gateways
    iif att, mark att    lookup main, host routes only    translated to an endpoint of this node
    mark att, to subnet  lookup main                      one of `att` that is no network's
    mark att, to cidr    lookup T(n)                      where networks share `att`
    mark att             lookup T(n)                      back by `att`
    after NOWHERE:
    any but HOST         goto PASSED                      back by main

Both directions bear the mark, so each of the rules is the way back of another, and reverse-path
checks agree (with `src_valid_mark`). Host routes and not all of main: that has VLANs' subnets, and
nobody shall get past a gateway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from services.agent.kernel import marks, route_bytes
from services.agent.kernel.nftables.intervals import as_elements, bounds, union
from services.agent.kernel.nftables.table import (
    Base,
    Chain,
    Dispatch,
    Element,
    Elements,
    Goto,
    Hook,
    Image,
    In,
    Is,
    Key,
    Mark,
    MarkConnection,
    Shape,
    Statement,
    Verdict,
    interface_key,
)
from services.agent.kernel.nftables.table import Rule as Line
from services.agent.kernel.numbers import (
    NEAR_WAY_PRIORITY,
    NO_WAY_PRIORITY,
    PASSED_PRIORITY,
    TRANSLATED_PRIORITY,
    WAY_PRIORITY,
)
from services.agent.kernel.state import Action, Rule
from services.agent.routing.node_networks import Place, gateway_table
from services.common.model.names import NetworkName
from services.common.model.network import Prefix

HOST: Final = 0x00010000
MAIN: Final = 0x00100000
_STEP: Final = 0x00010000
"""An interface's way is MAIN and so many of these as its number; MAIN itself has none."""

VALID_MARK: Final = "net/ipv4/conf/all/src_valid_mark"
"""Has reverse-path checks of IPv4 see marks; IPv6 has no such checks."""

_BEFORE_TRANSLATION: Final = -110
_AFTER_TRANSLATION: Final = -90
_BITS: Final = {4: 32, 6: 128}

_NETWORKS: Final = {4: "networks4", 6: "networks6"}
_ATTACHMENTS: Final = "attachments"
_CAME_BY: Final = "came_by"
_SPEAKS: Final = "endpoint_speaks"
_BACK: Final = "back"
_SOURCE: Final = {4: Key.SOURCE_4, 6: Key.SOURCE_6}
_DESTINATION: Final = {4: Key.DESTINATION_4, 6: Key.DESTINATION_6}
_ADDRESS: Final = {4: Element.ADDRESS_4, 6: Element.ADDRESS_6}
_FAMILY: Final = {4: Is(Key.FAMILY, b"\x02"), 6: Is(Key.FAMILY, b"\x0a")}
_BEGINS: Final = Is(Key.CONNECTION_STATE, marks.native(0), marks.native(8), inverted=True)
_IS_ANSWER: Final = Is(Key.CONNECTION_DIRECTION, b"\1")
_NOT_TRANSLATED: Final = Is(Key.CONNECTION_STATUS, marks.native(0), marks.native(0x30))
_NOT_REDIRECTED: Final = Is(Key.CONNECTION_STATUS, marks.native(0), marks.native(0x20))
_TO_THIS_NODE: Final = Is(Key.DESTINATION_KIND, marks.native(2))
_HAS_WAY: Final = Is(Key.CONNECTION_MARK, marks.native(0), marks.native(marks.WAYS), inverted=True)
_TO_BE_MASQUERADED: Final = Is(
    Key.MARK, marks.native(0), marks.native(marks.MASQUERADED), inverted=True
)


def way(interface: str, ways: Mapping[str, int]) -> int:
    """The mark of what came in by an interface to networks; MAIN if there are too many of them."""
    return MAIN + ways.get(interface, 0) * _STEP


def way_rules(
    places: Mapping[NetworkName, Place], ways: Mapping[str, int]
) -> Iterator[tuple[NetworkName, Rule]]:
    """Rules of policy routing, with the network that they are for."""
    return ((name, rule) for name, place in places.items() for rule in _rules(place, places, ways))


def _rules(
    place: Place, places: Mapping[NetworkName, Place], ways: Mapping[str, int]
) -> Iterator[Rule]:
    network, interface = place.network, place.interface.name
    version, mark = network.cidr.version, way(interface, ways)
    for iif, value in (("", HOST), (interface, mark)):
        yield Rule(
            version,
            TRANSLATED_PRIORITY,
            route_bytes.MAIN_TABLE,
            interface=iif,
            suppressed=_BITS[version] - 1,
            mark=value,
            mask=marks.WAYS,
        )
    if mark != MAIN:
        for subnet in _beside(place):
            yield Rule(
                version,
                NEAR_WAY_PRIORITY,
                route_bytes.MAIN_TABLE,
                destination=subnet,
                mark=mark,
                mask=marks.WAYS,
            )
        if place.shared:
            yield Rule(
                version,
                NEAR_WAY_PRIORITY,
                place.table,
                destination=network.cidr,
                mark=mark,
                mask=marks.WAYS,
            )
        yield Rule(
            version,
            WAY_PRIORITY,
            gateway_table(place, places),
            mark=mark,
            mask=marks.WAYS,
        )
    yield Rule(
        version,
        NO_WAY_PRIORITY,
        action=Action.GOTO,
        target=PASSED_PRIORITY,
        mark=MAIN,
        mask=MAIN,
    )


def _beside(place: Place) -> Iterator[Prefix]:
    """Subnets of the interface that are not the network's: who is there is reached directly."""
    cidr = place.network.cidr
    for own in place.interface.addresses:
        subnet = own.network
        if subnet.version == cidr.version and not own.is_link_local and not _meet(subnet, cidr):
            yield subnet


def _meet(one: Prefix, other: Prefix) -> bool:
    first, last = bounds(one)
    return first <= bounds(other)[1] and bounds(other)[0] <= last


def way_table(places: Mapping[NetworkName, Place], ways: Mapping[str, int]) -> Image:
    """The table by which packets and connections get marks."""
    by = {place.interface.name: way(place.interface.name, ways) for place in places.values()}
    came_by = {value: f"came-by-{value >> 16:x}" for value in sorted(set(by.values()))}
    keys = {interface_key(name): came_by[value] for name, value in sorted(by.items())}
    return Image(
        chains={
            "to_this_node": Chain(
                (
                    _line(In(Key.INPUT, _ATTACHMENTS), Verdict.ACCEPT),
                    *(
                        _line(_BEGINS, *speaks, _TO_THIS_NODE, _connection(HOST))
                        for speaks in _each(_SOURCE)
                    ),
                ),
                Base(Hook.PREROUTING, _BEFORE_TRANSLATION),
            ),
            "translated": Chain(
                (
                    _line(_IS_ANSWER, Goto(_BACK)),
                    _line(In(Key.INPUT, _ATTACHMENTS), _NOT_REDIRECTED, Verdict.ACCEPT),
                    _line(Dispatch(Key.INPUT, _CAME_BY)),
                    *(_line(*speaks, Goto(_SPEAKS)) for speaks in _each(_SOURCE)),
                    *(_line(*inside, *_both(MAIN)) for inside in _each(_DESTINATION)),
                ),
                Base(Hook.PREROUTING, _AFTER_TRANSLATION),
            ),
            _SPEAKS: Chain(
                (
                    _line(_NOT_REDIRECTED, Verdict.ACCEPT),
                    *(_line(_HAS_WAY, *inside, *_both(HOST)) for inside in _each(_DESTINATION)),
                    _line(_HAS_WAY, *_both(MAIN)),
                    *(
                        _line(_TO_BE_MASQUERADED, *inside, *_both(HOST))
                        for inside in _each(_DESTINATION)
                    ),
                )
            ),
            **{
                name: Chain(tuple(_line(*inside, *_both(value)) for inside in _each(_DESTINATION)))
                for value, name in came_by.items()
            },
            _BACK: Chain(
                (
                    _line(_NOT_TRANSLATED, Verdict.ACCEPT),
                    *(
                        _line(_is_way(value), Mark(value, marks.WAYS), Verdict.ACCEPT)
                        for value in sorted({HOST, MAIN, *came_by})
                    ),
                )
            ),
            # of the node itself; the kind `route` has them routed anew
            "own_answers": Chain(
                (_line(_IS_ANSWER, Goto(_BACK)),),
                Base(Hook.OUTPUT, _AFTER_TRANSLATION, "route"),
            ),
        },
        sets={
            _ATTACHMENTS: Shape(Element.INTERFACE),
            _CAME_BY: Shape(Element.INTERFACE, is_map=True),
            **{_NETWORKS[version]: Shape(_ADDRESS[version], is_interval=True) for version in _BITS},
        },
        elements={
            _ATTACHMENTS: dict.fromkeys(keys, ""),
            _CAME_BY: keys,
            **{_NETWORKS[version]: _elements(places, version) for version in _BITS},
        },
    )


def _elements(places: Mapping[NetworkName, Place], version: int) -> Elements:
    """All addresses of one family that networks here have."""
    networks = [place.network for place in places.values()]
    ranges = union(bounds(one.cidr) for one in networks if one.cidr.version == version)
    return as_elements(ranges, _BITS[version] // 8)


def _each(keys: Mapping[int, Key]) -> Iterator[tuple[Statement, ...]]:
    """That an address is of a network; of either family."""
    for version, key in keys.items():
        yield _FAMILY[version], In(key, _NETWORKS[version])


def _is_way(value: int) -> Is:
    return Is(Key.CONNECTION_MARK, marks.native(value), marks.native(marks.WAYS))


def _connection(value: int) -> MarkConnection:
    return MarkConnection(value, marks.WAYS)


def _both(value: int) -> tuple[Statement, ...]:
    return _connection(value), Mark(value, marks.WAYS), Verdict.ACCEPT


def _line(*statements: Statement) -> Line:
    return Line(statements)
