"""How packets that are marked for a device get there. Pure.

Each arm of a device has a table, in which all goes to it. In this order, before the rules of
networks (`services.agent.routing.steering`); `att` is an interface to a network with devices, `n`
the network for whose endpoints an arm is that is on another `att` than n:

    unmarked                            goto NOT_STEERED
    iif att, arm, RETURNED, to n        lookup T(n)          from a device, beside n's own link
    iif att, arm, RETURNED              goto NOT_STEERED     the same: on as without devices
    iif att, from an endpoint           lookup main, host routes
    iif att, arm, FROM_ELSEWHERE        lookup T(n)
    number of an arm                    lookup its table
    NOT_STEERED: nop

No packet is as the two before the numbers say: reverse-path checks ask so. They ask for the way
back with the packet's mark (`src_valid_mark`), by the interface that it leaves by. What leaves for
a device by `att` came from an endpoint, or by n's own link. And a device hands back packets whose
source is an endpoint of this node: by an interface that is not `att` the way back leads to the
device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from services.agent.kernel import marks, route_bytes
from services.agent.kernel.numbers import (
    BESIDE_PRIORITY,
    FROM_DEVICE_PRIORITY,
    FROM_ENDPOINT_PRIORITY,
    NOT_STEERED_PRIORITY,
    TO_DEVICE_PRIORITY,
    UNMARKED_PRIORITY,
)
from services.agent.kernel.state import Action, Rule
from services.agent.model import DeviceWay
from services.agent.routing.node_networks import Place
from services.common.model.names import NetworkName


def device_name(way: DeviceWay) -> str:
    """What its table and its nexthop stand for; no network and no node is called so."""
    return f"/device/{way.number}"


def device_way(table: int, way: DeviceWay, nexthop: int) -> tuple[bytes, bytes]:
    """The route of a leg's table."""
    everything = IPv4Network(0) if way.address.version == 4 else IPv6Network(0)
    whole = everything.supernet(new_prefix=0)
    return route_bytes.route_key(table, whole), route_bytes.by_nexthop(nexthop)


def device_rules(
    ways: Iterable[DeviceWay], tables: Mapping[int, int], places: Mapping[NetworkName, Place]
) -> Iterator[Rule]:
    """All rules; `tables`: of the arms that this node can send to, `places`: all of this node's."""
    here = [way for way in ways if way.number in tables]
    families = {way.address.version for way in here}
    for version in families:
        yield Rule(
            version,
            UNMARKED_PRIORITY,
            action=Action.GOTO,
            target=NOT_STEERED_PRIORITY,
            mask=marks.LEG,
        )
        yield Rule(version, NOT_STEERED_PRIORITY, action=Action.NOP)
    for way in here:
        version, interface = way.address.version, places[way.network].interface.name
        yield from _beside(way, interface, places.get(way.serves))
        yield Rule(
            version,
            FROM_DEVICE_PRIORITY,
            interface=interface,
            action=Action.GOTO,
            target=NOT_STEERED_PRIORITY,
            mark=marks.of_leg(way.number) | marks.RETURNED,
            mask=marks.LEG | marks.CAME,
        )
        yield Rule(
            version,
            FROM_ENDPOINT_PRIORITY,
            route_bytes.MAIN_TABLE,
            interface=interface,
            mask=marks.CAME,
            suppressed=way.address.max_prefixlen - 1,
        )
        yield Rule(
            version,
            TO_DEVICE_PRIORITY,
            tables[way.number],
            mark=marks.of_leg(way.number),
            mask=marks.LEG,
        )


def _beside(way: DeviceWay, interface: str, served: Place | None) -> Iterator[Rule]:
    """Of an arm that is on another interface than the network for whose endpoints it is."""
    if served is None or served.interface.name == interface:
        return
    number = marks.of_leg(way.number)
    yield Rule(
        way.address.version,
        BESIDE_PRIORITY,
        served.table,
        destination=served.network.cidr,
        interface=interface,
        mark=number | marks.RETURNED,
        mask=marks.LEG | marks.CAME,
    )
    yield Rule(
        way.address.version,
        FROM_ENDPOINT_PRIORITY,
        served.table,
        interface=interface,
        mark=number | marks.FROM_ELSEWHERE,
        mask=marks.LEG | marks.CAME,
    )
