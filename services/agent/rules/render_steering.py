"""The chains that all packets meet where rules lead through devices. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from services.agent.kernel import marks
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import (
    Base,
    Chain,
    Count,
    Dispatch,
    Goto,
    Hook,
    In,
    Is,
    Jump,
    Key,
    MarkConnection,
    Rule,
    Statement,
    Verdict,
    interface_key,
    noted,
)
from services.agent.rules.device_chains import BY, LED, NOT_LED, PINNED, REPLY
from services.agent.rules.render_rules import FAMILY, OPERATORS
from services.common.model.rules import Direction

_AFTER_TRANSLATION: Final = -90
_BEFORE_FILTER: Final = -1
_DROP: Final = (Verdict.DROP,)


def render_steering(
    chains: dict[str, Chain], interfaces: Iterable[str], leading: Collection[Direction]
) -> None:
    """Adds them: for interfaces on which devices are, and directions of rules that lead."""
    # Most packets are led nowhere: they meet these few rules, and each costs all of them.
    chains[table_names.STEER] = Chain(
        (
            *_from_devices(interfaces),
            noted("replies", REPLY, Goto(table_names.STEER_REPLIES)),
            noted("led until now", LED, Goto(table_names.STEER_LED)),
            *_beginnings(leading),
        ),
        Base(Hook.PREROUTING, _AFTER_TRANSLATION),
    )
    chains[table_names.STEER_RETURNED] = Chain(
        (
            noted("operators", OPERATORS, Verdict.ACCEPT),
            noted("from a device", Dispatch(Key.INPUT_ETHER, table_names.FROM_DEVICE)),
        )
    )
    chains[table_names.STEER_LED] = Chain(
        (
            noted("operators", OPERATORS, Verdict.ACCEPT),
            noted("led already", *_led_already(Direction.EGRESS), Verdict.ACCEPT),
            *_beginnings(leading),
            noted("not any more", MarkConnection(0, marks.STEERING)),
        )
    )
    chains[table_names.STEER_TO] = Chain(
        (*_beginnings_to(leading), noted("", Goto(table_names.UNSTEERED)))
    )
    chains[table_names.UNSTEERED] = Chain(
        (
            noted("not any more", LED, MarkConnection(0, marks.STEERING)),
            noted("directly", Verdict.ACCEPT),
        )
    )
    for direction, name in table_names.NOT_LED.items():
        chains[name] = Chain(
            (noted("operators", OPERATORS, Verdict.ACCEPT), *_between_neighbours(direction))
        )
    learned = Is(Key.CONNECTION_MARK, marks.native(marks.LEARNED), marks.native(marks.LEARNED))
    chains[table_names.STEER_REPLIES] = Chain(
        (
            noted("not led", NOT_LED, Verdict.ACCEPT),
            noted("operators", OPERATORS, Verdict.ACCEPT),
            noted("led already", *_led_already(Direction.INGRESS), Verdict.ACCEPT),
            noted(
                "led",
                Dispatch(Key.CONNECTION_MARK, table_names.LED, marks.native(PINNED)),
            ),
            noted("another node's", learned, Verdict.ACCEPT),
            noted("by a device that is gone", Goto(table_names.LOST)),
        )
    )
    drop = (Count(table_names.NO_DEVICE), Verdict.DROP)
    chains[table_names.LOST] = Chain((noted("no device", *drop),))
    guard = Dispatch(Key.MARK, table_names.GUARDED, marks.native(marks.STEERING))
    chains[table_names.STEER_GUARD] = Chain((noted("to a device", guard),))
    chains[table_names.STEER_OUTPUT] = Chain(
        (
            # the node knows a shorter way than the one that it uses
            noted("no redirects", FAMILY[4], _icmp(1), Is(Key.ICMP_TYPE, b"\x05"), *_DROP),
            noted("no redirects", FAMILY[6], _icmp(58), Is(Key.ICMP_TYPE, b"\x89"), *_DROP),
        ),
        Base(Hook.OUTPUT, _BEFORE_FILTER),
    )


def _from_devices(interfaces: Iterable[str]) -> Iterator[Rule]:
    """Asks for senders' MAC addresses only where devices are."""
    for interface in sorted(interfaces):
        here = Is(Key.INPUT, interface_key(interface))
        yield noted("where devices are", here, Jump(table_names.STEER_RETURNED))


def _beginnings(leading: Collection[Direction]) -> Iterator[Rule]:
    """What is judged: by whom it comes from, then by whom it is for."""
    if Direction.EGRESS in leading:
        yield noted("from an endpoint", Dispatch(Key.INPUT, table_names.STEERED_FROM))
    yield from _beginnings_to(leading)


def _beginnings_to(leading: Collection[Direction]) -> Iterator[Rule]:
    if Direction.INGRESS in leading:
        to_4, to_6 = table_names.STEERED_TO_4, table_names.STEERED_TO_6
        yield noted("to an endpoint", FAMILY[4], Dispatch(Key.DESTINATION_4, to_4))
        yield noted("to an endpoint", FAMILY[6], Dispatch(Key.DESTINATION_6, to_6))


def _led_already(direction: Direction) -> tuple[Statement, ...]:
    """What this node leads by rules of a direction comes from an endpoint first: of an egress rule
    as the connection began, of an ingress rule the answers. What is so and comes from outside has
    been at the device, and returns by somebody else, such as a gateway."""
    return (
        LED,
        Is(
            Key.CONNECTION_MARK,
            marks.native(BY[direction]),
            marks.native(marks.LEARNED | marks.INGRESS),
        ),
        In(Key.INPUT, table_names.INTERFACES, inverted=True),
    )


def _between_neighbours(direction: Direction) -> Iterator[Rule]:
    """What is for the link alone is led nowhere, nor what is for the node itself: an endpoint may
    send it, and nothing of it has an endpoint's address as its destination."""
    asked: list[tuple[int, Key, tuple[bytes, bytes]]] = [
        (6, Key.SOURCE_6, _LINK_6),
        (6, Key.SOURCE_6, _NOTHING_6),
    ]
    if direction is Direction.EGRESS:
        asked += [
            (4, Key.DESTINATION_4, _MULTICAST_4),
            (4, Key.DESTINATION_4, _BROADCAST_4),
            (6, Key.DESTINATION_6, _MULTICAST_6),
            (6, Key.DESTINATION_6, _LINK_6),
        ]
    for version, key, (value, mask) in asked:
        yield noted("the link's", FAMILY[version], Is(key, value, mask), Verdict.ACCEPT)
    if direction is Direction.EGRESS:
        local = Is(Key.DESTINATION_KIND, marks.native(_LOCAL))
        yield noted("the node's", local, Verdict.ACCEPT)


_LOCAL: Final = 2
"""RTN_LOCAL."""
_MULTICAST_4: Final = bytes((224, 0, 0, 0)), bytes((240, 0, 0, 0))
_BROADCAST_4: Final = bytes((255,) * 4), bytes((255,) * 4)
_MULTICAST_6: Final = b"\xff" + bytes(15), b"\xff" + bytes(15)
_LINK_6: Final = b"\xfe\x80" + bytes(14), b"\xff\xc0" + bytes(14)
_NOTHING_6: Final = bytes(16), bytes((255,) * 16)


def _icmp(number: int) -> Is:
    return Is(Key.PROTOCOL, bytes((number,)))
