"""The chains of groups of devices: which device a connection gets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from services.agent.kernel import marks
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import (
    Chain,
    Count,
    Dispatch,
    Element,
    Goto,
    Is,
    Key,
    Rule,
    Shape,
    Verdict,
    noted,
)
from services.agent.rules.device_chains import BY, PINNED, Devices
from services.agent.rules.device_legs import GroupHere, LegHere, NetworkHere
from services.agent.rules.device_shares import shares
from services.agent.rules.render_rules import FAMILY
from services.common.model.devices import DeviceGroupName, OnLoss, WhenDown
from services.common.model.names import NetworkName
from services.common.model.rules import Direction

_SHARE: Final = {4: Key.SHARE_4, 6: Key.SHARE_6}
_SHARE_BACK: Final = {4: Key.SHARE_BACK_4, 6: Key.SHARE_BACK_6}
_SOURCE: Final = {4: Key.SOURCE_4, 6: Key.SOURCE_6}
_DESTINATION: Final = {4: Key.DESTINATION_4, 6: Key.DESTINATION_6}
_KINDS: Final = 0, marks.INGRESS, marks.LEARNED
"""Of connections' marks, beside the number."""

_Named: TypeAlias = Callable[[DeviceGroupName, NetworkName, Direction], str]


class GroupRenderer:
    """Adds the chains of groups to what is made."""

    def __init__(self, made: Devices, groups: Mapping[DeviceGroupName, GroupHere]) -> None:
        self._made = made
        self._groups = groups

    def render(self, names: Iterable[DeviceGroupName]) -> None:
        """Of groups that rules name, known or not, and of all that are known."""
        for name in dict.fromkeys((*names, *self._groups)):
            self._entries(name)
        for group in self._groups.values():
            for network in group.networks:
                for direction in Direction:
                    self._lost(group, network, direction)

    def _entries(self, name: DeviceGroupName) -> None:
        """Where rules lead to, by the network of the endpoint whose rules they are."""
        group = self._groups.get(name)
        for direction in Direction:
            keys = _SOURCE if direction is Direction.EGRESS else _DESTINATION
            rules = []
            for network in group.networks if group is not None else ():
                cidr = network.cidr
                rules.append(
                    noted(
                        network.network,
                        FAMILY[cidr.version],
                        Is(keys[cidr.version], cidr.network_address.packed, cidr.netmask.packed),
                        Goto(table_names.through(name, network.network, direction)),
                    )
                )
            self._made.chains[table_names.entry(name, direction)] = Chain(
                (*rules, *self._down(group, direction))
            )
            for network in group.networks if group is not None else ():
                assert group is not None
                self._through(group, network, direction)

    def _down(self, group: GroupHere | None, direction: Direction) -> Iterator[Rule]:
        """What becomes of what a group does not take, whatever the network."""
        if group is not None and group.when_down is WhenDown.OPEN:
            yield noted("open", Goto(table_names.UNSTEERED))
        elif group is not None and group.next in self._groups:
            assert group.next is not None
            yield noted("next", Goto(table_names.entry(group.next, direction)))
        else:
            yield noted("closed", Count(table_names.NO_DEVICE), Verdict.DROP)

    def _through(self, group: GroupHere, network: NetworkHere, direction: Direction) -> None:
        """The device that the connection has, or one for it."""
        made, name = self._made, group.name
        pinned, taken = (
            table_names.pinned(name, network.network, direction),
            table_names.shares(name, network.network, direction),
        )
        for each in (pinned, taken):
            made.sets[each] = Shape(Element.MARK, is_map=True)
            made.elements[each] = {}
        # what went to the next group stays there when this one is back
        for leg in self._legs_on(group, network):
            first = leg.first(direction).number
            its_own = marks.of_leg(first) | BY[direction]
            if leg.is_up:
                # led, or learned, by either arm: it keeps the device
                for number in (leg.inside.number, leg.outside.number):
                    for kind in _KINDS:
                        mark = marks.native(marks.of_leg(number) | kind)
                        made.elements[pinned][mark] = table_names.pin_leg(first, direction)
                made.elements[pinned][marks.native(its_own)] = table_names.to_leg(first)
            elif group.on_loss is OnLoss.CUT:
                made.elements[pinned][marks.native(its_own)] = table_names.LOST
        if not group.is_down:
            for share, leg in enumerate(shares(network.legs)):
                pin = table_names.pin_leg(leg.first(direction).number, direction)
                made.elements[taken][marks.native(share)] = pin
        version = network.cidr.version
        made.chains[table_names.through(name, network.network, direction)] = Chain(
            (
                noted("its own", Dispatch(Key.CONNECTION_MARK, pinned, marks.native(PINNED))),
                noted("its share", FAMILY[version], Dispatch(_SHARE[version], taken)),
                *self._down_on(group, network, direction, table_names.through),
            )
        )

    def _legs_on(self, group: GroupHere, network: NetworkHere) -> Iterator[LegHere]:
        """Legs on a network, and those of the groups that come next."""
        for one in (group, *self._following(group)):
            for there in one.networks:
                if there.network == network.network:
                    yield from there.legs

    def _following(self, group: GroupHere) -> Iterator[GroupHere]:
        """The groups that come next, one after the other."""
        seen = {group.name}
        following = group.next
        while following is not None and following not in seen and following in self._groups:
            seen.add(following)
            yield self._groups[following]
            following = self._groups[following].next

    def _lost(self, group: GroupHere, network: NetworkHere, direction: Direction) -> None:
        """For replies of connections whose device is down."""
        version = network.cidr.version
        taken = table_names.shares(group.name, network.network, direction)
        self._made.chains[table_names.lost(group.name, network.network, direction)] = Chain(
            (
                noted("its share", FAMILY[version], Dispatch(_SHARE_BACK[version], taken)),
                *self._down_on(group, network, direction, table_names.lost),
            )
        )

    def _down_on(
        self, group: GroupHere, network: NetworkHere, direction: Direction, chain: _Named
    ) -> Iterator[Rule]:
        """What becomes of what a group does not take on a network."""
        if group.when_down is WhenDown.OPEN:
            yield noted("open", Goto(table_names.UNSTEERED))
            return
        for one in self._following(group):
            if any(there.network == network.network for there in one.networks):
                yield noted("next", Goto(chain(one.name, network.network, direction)))
                return
            if one.when_down is WhenDown.OPEN:
                yield noted("open", Goto(table_names.UNSTEERED))
                return
        yield noted("closed", Count(table_names.NO_DEVICE), Verdict.DROP)
