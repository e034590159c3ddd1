"""How packets that are marked for a device get there. Pure.

Each leg of a device has a table, in which all goes to it. In this order, before the rules of
networks (`services.agent.routing.steering`); `att` is an interface to a network with devices:

    unmarked                    goto NOT_STEERED
    iif att, RETURNED           goto NOT_STEERED    a device handed it back: on as without devices
    iif att, from an endpoint   goto NOT_STEERED    no packet is so: a reverse-path check asks
    number of a leg             lookup its table
    NOT_STEERED: nop

A device hands back packets whose source is an endpoint of this node: strict reverse-path filtering
takes them since the way back, which is asked for with the packet's mark (`src_valid_mark`), and an
interface that is not `att`, leads to the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from services.agent.kernel import marks, route_bytes
from services.agent.kernel.numbers import (
    FROM_DEVICE_PRIORITY,
    NOT_STEERED_PRIORITY,
    TO_DEVICE_PRIORITY,
    UNMARKED_PRIORITY,
)
from services.agent.kernel.state import Action, Rule
from services.agent.model import DeviceWay
from services.agent.routing.node_networks import Place


def device_name(way: DeviceWay) -> str:
    """What its table and its nexthop stand for; no network and no node is called so."""
    return f"/device/{way.number}"


def device_way(table: int, way: DeviceWay, nexthop: int) -> tuple[bytes, bytes]:
    """The route of a leg's table."""
    everything = IPv4Network(0) if way.address.version == 4 else IPv6Network(0)
    whole = everything.supernet(new_prefix=0)
    return route_bytes.route_key(table, whole), route_bytes.by_nexthop(nexthop)


def device_rules(
    ways: Iterable[DeviceWay], tables: Mapping[int, int], places: Iterable[Place]
) -> Iterator[Rule]:
    """All rules; `tables`: of the legs that this node can send to, `places`: where these are."""
    families = {place.network.cidr.version for place in places}
    for version in families:
        yield Rule(
            version,
            UNMARKED_PRIORITY,
            action=Action.GOTO,
            target=NOT_STEERED_PRIORITY,
            mask=marks.LEG,
        )
        yield Rule(version, NOT_STEERED_PRIORITY, action=Action.NOP)
    for place in places:
        for mark, mask in (
            (marks.RETURNED, marks.RETURNED),
            (0, marks.RETURNED | marks.FROM_OUTSIDE),
        ):
            yield Rule(
                place.network.cidr.version,
                FROM_DEVICE_PRIORITY,
                interface=place.interface.name,
                action=Action.GOTO,
                target=NOT_STEERED_PRIORITY,
                mark=mark,
                mask=mask,
            )
    for way in ways:
        if way.number in tables:
            yield Rule(
                way.address.version,
                TO_DEVICE_PRIORITY,
                tables[way.number],
                mark=marks.of_leg(way.number),
                mask=marks.LEG,
            )
