"""The chains and map entries of each device: what it hands back, and how it is sent to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from services.agent.kernel import marks
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import (
    Chain,
    Count,
    Element,
    Goto,
    In,
    Is,
    Key,
    Mark,
    MarkConnection,
    Rule,
    Shape,
    Verdict,
    interface_key,
    noted,
)
from services.agent.rules.device_chains import BY, ORIGINAL, REPLY, Devices, LegCounted
from services.agent.rules.device_legs import ArmHere, GroupHere, LegHere, NetworkHere
from services.agent.rules.render_rules import FAMILY
from services.common.model.devices import OnLoss
from services.common.model.rules import Direction

_NEXTHOP: Final = {4: Key.NEXTHOP_4, 6: Key.NEXTHOP_6}


def render_legs(made: Devices, groups: Iterable[GroupHere]) -> None:
    """Adds what is told by legs."""
    for name, element in (
        (table_names.FROM_DEVICE, Element.INTERFACE_ETHER),
        (table_names.LED, Element.MARK),
        (table_names.GUARDED, Element.MARK),
    ):
        made.sets[name] = Shape(element, is_map=True)
        made.elements.setdefault(name, {})
    for group in groups:
        for arm in group.arms:
            _arm(made, group, arm)
        for network in group.networks:
            for direction in Direction:
                for leg in network.legs:
                    _leg(made, group, network, leg, direction)


def _arm(made: Devices, group: GroupHere, arm: ArmHere) -> None:
    """What comes from it, and how it is sent to."""
    number, bits = arm.number, marks.of_leg(arm.number)
    learned, native = bits | marks.LEARNED, marks.native
    returned, to_it = table_names.from_leg(number), table_names.to_leg(number)
    for mac in arm.macs:
        key = interface_key(arm.interface) + bytes.fromhex(mac.replace(":", "")) + bytes(2)
        made.elements[table_names.FROM_DEVICE][key] = returned
    set_learned = MarkConnection(learned, marks.STEERING)
    made.chains[returned] = Chain(
        (
            noted(
                "another node leads it",
                ORIGINAL,
                Is(Key.CONNECTION_MARK, native(0), native(marks.LEG)),
                set_learned,
            ),
            noted(
                "another node leads it",
                ORIGINAL,
                Is(Key.CONNECTION_MARK, native(marks.LEARNED), native(marks.LEARNED)),
                set_learned,
            ),
            noted("", Mark(bits | marks.RETURNED, marks.STEERING)),
            noted("on", Verdict.ACCEPT),
        )
    )
    counter = table_names.leg_counter(arm.leg)
    made.counters[counter] = LegCounted(group.name, arm.device, arm.network)
    made.chains[to_it] = Chain(
        (
            noted("", Count(counter)),
            noted(
                "from an endpoint",
                In(Key.INPUT, table_names.INTERFACES),
                Mark(bits, marks.STEERING),
                Verdict.ACCEPT,
            ),
            *_from_outside(arm, bits),
        )
    )
    if arm.is_up:
        made.elements[table_names.LED][native(learned)] = to_it
    guard = table_names.guard_leg(number)
    version = arm.address.version
    made.chains[guard] = Chain(
        (
            noted("", FAMILY[version], Is(_NEXTHOP[version], arm.address.packed), Verdict.ACCEPT),
            noted("another way", Count(table_names.ASTRAY), Verdict.DROP),
        )
    )
    for came in (0, marks.FROM_OUTSIDE, marks.FROM_ELSEWHERE):
        made.elements[table_names.GUARDED][native(bits | came)] = guard


def _leg(
    made: Devices, group: GroupHere, network: NetworkHere, leg: LegHere, direction: Direction
) -> None:
    """How rules of a direction lead through it."""
    first, back = leg.first(direction), leg.last(direction).number
    mark = marks.of_leg(first.number) | BY[direction]
    made.chains[table_names.pin_leg(first.number, direction)] = Chain(
        (
            noted("", MarkConnection(mark, marks.STEERING)),
            noted("", REPLY, Goto(table_names.to_leg(back))),
            noted("", Goto(table_names.to_leg(first.number))),
        )
    )
    if leg.is_up:
        answers = table_names.to_leg(back)
    elif group.on_loss is OnLoss.CUT:
        answers = table_names.LOST
    else:
        answers = table_names.lost(group.name, network.network, direction)
    made.elements[table_names.LED][marks.native(mark)] = answers


def _from_outside(arm: ArmHere, bits: int) -> Iterator[Rule]:
    """Marks for the arm what does not come from an endpoint."""
    by_it = (Is(Key.INPUT, interface_key(arm.interface)),) if arm.is_elsewhere else ()
    yield noted(
        "from outside", *by_it, Mark(bits | marks.FROM_OUTSIDE, marks.STEERING), Verdict.ACCEPT
    )
    if arm.is_elsewhere:
        yield noted(
            "from elsewhere", Mark(bits | marks.FROM_ELSEWHERE, marks.STEERING), Verdict.ACCEPT
        )
