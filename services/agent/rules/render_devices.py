"""The chains of `inet romana` that lead connections through devices. Pure.

A node leads through a device what rules of its own endpoints say, both directions, and needs no
other node for it: the device that a connection has is in the connection's mark. What the node sends
to a device comes back to it, or goes on to another node, and the answer comes to this node again,
by the device or not; not by it, it goes there first.

    steer (prerouting)     after connection tracking, and after destinations were translated
      from a device        by interface and MAC address: it goes on, and is not led anywhere again
      replies              of what is led: to the connection's device
      led until now        what comes back by another way than from the device goes on, too
      beginnings           egress rules of the endpoint that it comes from, then ingress rules of
                           the one that it is for, as in the hooks that decide; by the rule that
                           allows it, to a device or directly
    steer_guard            at the head of `forward`: what is marked for a device leaves for that
                           device, or not at all

Each packet of the direction in which a connection began is judged anew, so a change of rules holds
from the next packet on. The device stays that of the connection as long as it is up. A node that
sees packets come from a device which another node leads there learns it, and sends answers to it
without a detour.

Marks: `services.agent.kernel.marks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from services.agent.kernel import marks
from services.agent.kernel.nftables import table_names
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
    Mark,
    MarkConnection,
    Rule,
    Shape,
    Statement,
    Verdict,
    interface_key,
)
from services.agent.rules.device_legs import ArmHere, GroupHere, LegHere, NetworkHere
from services.agent.rules.device_shares import shares
from services.agent.rules.render_rules import FAMILY, OPERATORS, RenderedRuleSet, matches
from services.common.model.devices import DeviceGroupName, OnLoss, WhenDown
from services.common.model.names import NetworkName
from services.common.model.rules import (
    Action,
    Direction,
    Mode,
    PolicyName,
    Profile,
    RuleSet,
    RuleSetId,
    Tier,
)

_AFTER_TRANSLATION: Final = -90
_BEFORE_FILTER: Final = -1
_ORIGINAL: Final = Is(Key.CONNECTION_DIRECTION, b"\x00")
_REPLY: Final = Is(Key.CONNECTION_DIRECTION, b"\x01")
_SHARE: Final = {4: Key.SHARE_4, 6: Key.SHARE_6}
_SHARE_BACK: Final = {4: Key.SHARE_BACK_4, 6: Key.SHARE_BACK_6}
_SOURCE: Final = {4: Key.SOURCE_4, 6: Key.SOURCE_6}
_DESTINATION: Final = {4: Key.DESTINATION_4, 6: Key.DESTINATION_6}
_NEXTHOP: Final = {4: Key.NEXTHOP_4, 6: Key.NEXTHOP_6}
_PINNED: Final = marks.LEG | marks.LEARNED | marks.INGRESS
_KINDS: Final = 0, marks.INGRESS, marks.LEARNED
"""Of connections' marks, beside the number."""
_BY: Final = {Direction.EGRESS: 0, Direction.INGRESS: marks.INGRESS}
_NOT_LED: Final = Is(Key.CONNECTION_MARK, marks.native(0), marks.native(marks.LEG))
_LED: Final = Is(Key.CONNECTION_MARK, marks.native(0), marks.native(marks.LEG), inverted=True)

DEVICE_SETS: Final[Mapping[str, Shape]] = {
    table_names.STEERED_FROM: Shape(Element.INTERFACE, is_map=True),
    table_names.STEERED_TO_4: Shape(Element.ADDRESS_4, is_map=True),
    table_names.STEERED_TO_6: Shape(Element.ADDRESS_6, is_map=True),
}
"""In which endpoints are that have rules by way of devices."""


@dataclass(frozen=True, slots=True)
class LegCounted:
    """What a counter of a device counts."""

    group: DeviceGroupName
    device: str
    network: str


@dataclass(frozen=True, slots=True)
class RuleLed:
    """What a counter of a rule that leads through devices counts."""

    policy: PolicyName
    direction: Direction
    rule: str
    group: DeviceGroupName


_Named: TypeAlias = Callable[[DeviceGroupName, NetworkName, Direction], str]


@dataclass(frozen=True, slots=True)
class RuleCopied:
    """What a counter of a rule that has copies made counts."""

    policy: PolicyName
    direction: Direction
    rule: str
    group: DeviceGroupName


@dataclass(slots=True)
class Devices:
    """What is made: a part of the table's structure."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Shape] = field(default_factory=dict)
    elements: dict[str, Elements] = field(default_factory=dict)
    counters: dict[str, LegCounted | RuleLed | RuleCopied] = field(default_factory=dict)


def is_led(rules: Iterable[RuleSet]) -> bool:
    """Whether some of these rule sets lead anything through devices."""
    return any(
        rule.via is not None for one in rules if one.mode is Mode.ENFORCE for rule in one.rules
    )


def led_elements(
    interface: str,
    addresses: Sequence[bytes],
    profile: Profile,
    sets: Mapping[RuleSetId, RuleSet],
) -> Mapping[str, Elements]:
    """What an endpoint has in the maps of devices."""
    found: dict[str, Elements] = {}
    if is_led(sets[one] for one in profile.egress):
        chain = table_names.steered(Direction.EGRESS, profile.egress)
        found[table_names.STEERED_FROM] = {interface_key(interface): chain}
    if is_led(sets[one] for one in profile.ingress):
        chain = table_names.steered(Direction.INGRESS, profile.ingress)
        for address in addresses:
            name = table_names.STEERED_TO_4 if len(address) == 4 else table_names.STEERED_TO_6
            found.setdefault(name, {})[address] = chain
    return found


def render_devices(
    groups: Mapping[DeviceGroupName, GroupHere],
    profiles: Iterable[Profile],
    sets: Mapping[RuleSetId, RuleSet],
) -> Devices:
    """All of it; nothing where no group is known and no rule names one."""
    return _Renderer(groups, sets).render(profiles)


class _Renderer:
    """Collects chains and maps."""

    def __init__(
        self, groups: Mapping[DeviceGroupName, GroupHere], sets: Mapping[RuleSetId, RuleSet]
    ) -> None:
        self._groups = groups
        self._sets = sets
        self._made = Devices()
        self._named: dict[DeviceGroupName, None] = {}
        """Groups that rules name, known or not, and what comes after them."""
        self._leading: set[Direction] = set()
        """Of rules of endpoints here that lead somewhere."""

    def render(self, profiles: Iterable[Profile]) -> Devices:
        for profile in profiles:
            for direction in Direction:
                rules = [self._sets[one] for one in profile.of(direction)]
                if is_led(rules):
                    self._leading.add(direction)
                    self._profile(rules, direction)
        if not (self._leading or self._groups):
            return self._made
        self._fixed()
        for group in self._groups.values():
            self._named[group.name] = None
        for name in list(self._named):
            self._entries(name)
        self._maps()
        return self._made

    # The ways of a packet.

    def _fixed(self) -> None:
        made = self._made.chains
        # Most packets are led nowhere: they meet these few rules, and each costs all of them.
        made[table_names.STEER] = Chain(
            (
                *self._from_devices(),
                _rule("replies", _REPLY, Goto(table_names.STEER_REPLIES)),
                _rule("led until now", _LED, Goto(table_names.STEER_LED)),
                *self._beginnings(),
            ),
            Base(Hook.PREROUTING, _AFTER_TRANSLATION),
        )
        made[table_names.STEER_LED] = Chain(
            (
                _rule("operators", OPERATORS, Verdict.ACCEPT),
                _rule("led already", *_led_already(Direction.EGRESS), Verdict.ACCEPT),
                *self._beginnings(),
                _rule("not any more", MarkConnection(0, marks.STEERING)),
            )
        )
        made[table_names.STEER_TO] = Chain(
            (*self._beginnings_to(), _rule("", Goto(table_names.UNSTEERED)))
        )
        made[table_names.UNSTEERED] = Chain(
            (
                _rule("not any more", _LED, MarkConnection(0, marks.STEERING)),
                _rule("directly", Verdict.ACCEPT),
            )
        )
        for direction, name in table_names.NOT_LED.items():
            made[name] = Chain(
                (_rule("operators", OPERATORS, Verdict.ACCEPT), *_between_neighbours(direction))
            )
        learned = Is(Key.CONNECTION_MARK, marks.native(marks.LEARNED), marks.native(marks.LEARNED))
        made[table_names.STEER_REPLIES] = Chain(
            (
                _rule("not led", _NOT_LED, Verdict.ACCEPT),
                _rule("operators", OPERATORS, Verdict.ACCEPT),
                _rule("led already", *_led_already(Direction.INGRESS), Verdict.ACCEPT),
                _rule(
                    "led",
                    Dispatch(Key.CONNECTION_MARK, table_names.LED, marks.native(_PINNED)),
                ),
                _rule("another node's", learned, Verdict.ACCEPT),
                _rule("by a device that is gone", Goto(table_names.LOST)),
            )
        )
        drop = (Count(table_names.NO_DEVICE), Verdict.DROP)
        made[table_names.LOST] = Chain((_rule("no device", *drop),))
        guard = Dispatch(Key.MARK, table_names.GUARDED, marks.native(marks.STEERING))
        made[table_names.STEER_GUARD] = Chain((_rule("to a device", guard),))
        made[table_names.STEER_OUTPUT] = Chain(
            (
                # the node knows a shorter way than the one that it uses
                _rule("no redirects", FAMILY[4], _icmp(1), Is(Key.ICMP_TYPE, b"\x05"), *_DROP),
                _rule("no redirects", FAMILY[6], _icmp(58), Is(Key.ICMP_TYPE, b"\x89"), *_DROP),
            ),
            Base(Hook.OUTPUT, _BEFORE_FILTER),
        )

    def _from_devices(self) -> Iterator[Rule]:
        """Asks for senders' MAC addresses only where devices are."""
        interfaces = {arm.interface for group in self._groups.values() for arm in group.arms}
        for interface in sorted(interfaces):
            here = Is(Key.INPUT, interface_key(interface))
            yield _rule("where devices are", here, Jump(table_names.STEER_RETURNED))
        self._made.chains[table_names.STEER_RETURNED] = Chain(
            (
                _rule("operators", OPERATORS, Verdict.ACCEPT),
                _rule("from a device", Dispatch(Key.INPUT_ETHER, table_names.FROM_DEVICE)),
            )
        )

    def _beginnings(self) -> Iterator[Rule]:
        """What is judged: by whom it comes from, then by whom it is for."""
        if Direction.EGRESS in self._leading:
            yield _rule("from an endpoint", Dispatch(Key.INPUT, table_names.STEERED_FROM))
        yield from self._beginnings_to()

    def _beginnings_to(self) -> Iterator[Rule]:
        if Direction.INGRESS in self._leading:
            to_4, to_6 = table_names.STEERED_TO_4, table_names.STEERED_TO_6
            yield _rule("to an endpoint", FAMILY[4], Dispatch(Key.DESTINATION_4, to_4))
            yield _rule("to an endpoint", FAMILY[6], Dispatch(Key.DESTINATION_6, to_6))

    def _maps(self) -> None:
        """What is told by legs."""
        for name, element in (
            (table_names.FROM_DEVICE, Element.INTERFACE_ETHER),
            (table_names.LED, Element.MARK),
            (table_names.GUARDED, Element.MARK),
        ):
            self._made.sets[name] = Shape(element, is_map=True)
            self._made.elements.setdefault(name, {})
        for group in self._groups.values():
            for arm in group.arms:
                self._arm(group, arm)
            for network in group.networks:
                for direction in Direction:
                    for leg in network.legs:
                        self._leg(group, network, leg, direction)
                    self._lost(group, network, direction)

    def _arm(self, group: GroupHere, arm: ArmHere) -> None:
        """What comes from it, and how it is sent to."""
        made, number, bits = self._made, arm.number, marks.of_leg(arm.number)
        learned, native = bits | marks.LEARNED, marks.native
        returned, to_it = table_names.from_leg(number), table_names.to_leg(number)
        for mac in arm.macs:
            key = interface_key(arm.interface) + bytes.fromhex(mac.replace(":", "")) + bytes(2)
            made.elements[table_names.FROM_DEVICE][key] = returned
        set_learned = MarkConnection(learned, marks.STEERING)
        made.chains[returned] = Chain(
            (
                _rule(
                    "another node leads it",
                    _ORIGINAL,
                    Is(Key.CONNECTION_MARK, native(0), native(marks.LEG)),
                    set_learned,
                ),
                _rule(
                    "another node leads it",
                    _ORIGINAL,
                    Is(Key.CONNECTION_MARK, native(marks.LEARNED), native(marks.LEARNED)),
                    set_learned,
                ),
                _rule("", Mark(bits | marks.RETURNED, marks.STEERING)),
                _rule("on", Verdict.ACCEPT),
            )
        )
        counter = table_names.leg_counter(arm.leg)
        made.counters[counter] = LegCounted(group.name, arm.device, arm.network)
        made.chains[to_it] = Chain(
            (
                _rule("", Count(counter)),
                _rule(
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
                _rule(
                    "", FAMILY[version], Is(_NEXTHOP[version], arm.address.packed), Verdict.ACCEPT
                ),
                _rule("another way", Count(table_names.ASTRAY), Verdict.DROP),
            )
        )
        for came in (0, marks.FROM_OUTSIDE, marks.FROM_ELSEWHERE):
            made.elements[table_names.GUARDED][native(bits | came)] = guard

    def _leg(
        self, group: GroupHere, network: NetworkHere, leg: LegHere, direction: Direction
    ) -> None:
        """How rules of a direction lead through it."""
        made, first, back = self._made, leg.first(direction), leg.last(direction).number
        mark = marks.of_leg(first.number) | _BY[direction]
        made.chains[table_names.pin_leg(first.number, direction)] = Chain(
            (
                _rule("", MarkConnection(mark, marks.STEERING)),
                _rule("", _REPLY, Goto(table_names.to_leg(back))),
                _rule("", Goto(table_names.to_leg(first.number))),
            )
        )
        if leg.is_up:
            answers = table_names.to_leg(back)
        elif group.on_loss is OnLoss.CUT:
            answers = table_names.LOST
        else:
            answers = table_names.lost(group.name, network.network, direction)
        made.elements[table_names.LED][marks.native(mark)] = answers

    # Groups.

    def _entries(self, name: DeviceGroupName) -> None:
        """Where rules lead to, by the network of the endpoint whose rules they are."""
        group = self._groups.get(name)
        for direction in Direction:
            keys = _SOURCE if direction is Direction.EGRESS else _DESTINATION
            rules = []
            for network in group.networks if group is not None else ():
                cidr = network.cidr
                rules.append(
                    _rule(
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
            yield _rule("open", Goto(table_names.UNSTEERED))
        elif group is not None and group.next in self._groups:
            assert group.next is not None
            yield _rule("next", Goto(table_names.entry(group.next, direction)))
        else:
            yield _rule("closed", Count(table_names.NO_DEVICE), Verdict.DROP)

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
            its_own = marks.of_leg(first) | _BY[direction]
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
                _rule("its own", Dispatch(Key.CONNECTION_MARK, pinned, marks.native(_PINNED))),
                _rule("its share", FAMILY[version], Dispatch(_SHARE[version], taken)),
                *self._down_on(group, network, direction, table_names.through),
            )
        )

    def _legs_on(self, group: GroupHere, network: NetworkHere) -> Iterator[LegHere]:
        """Legs on a network, and those of the groups that come next."""
        seen: set[DeviceGroupName] = set()
        following: GroupHere | None = group
        while following is not None and following.name not in seen:
            seen.add(following.name)
            for one in following.networks:
                if one.network == network.network:
                    yield from one.legs
            following = self._groups.get(following.next) if following.next is not None else None

    def _lost(self, group: GroupHere, network: NetworkHere, direction: Direction) -> None:
        """For replies of connections whose device is down."""
        version = network.cidr.version
        taken = table_names.shares(group.name, network.network, direction)
        self._made.chains[table_names.lost(group.name, network.network, direction)] = Chain(
            (
                _rule("its share", FAMILY[version], Dispatch(_SHARE_BACK[version], taken)),
                *self._down_on(group, network, direction, table_names.lost),
            )
        )

    def _down_on(
        self, group: GroupHere, network: NetworkHere, direction: Direction, chain: _Named
    ) -> Iterator[Rule]:
        """What becomes of what a group does not take on a network."""
        if group.when_down is WhenDown.OPEN:
            yield _rule("open", Goto(table_names.UNSTEERED))
            return
        following = self._groups.get(group.next) if group.next is not None else None
        if following is not None and any(
            one.network == network.network for one in following.networks
        ):
            yield _rule("next", Goto(chain(following.name, network.network, direction)))
        elif following is not None and following.when_down is WhenDown.OPEN:
            yield _rule("open", Goto(table_names.UNSTEERED))
        else:
            yield _rule("closed", Count(table_names.NO_DEVICE), Verdict.DROP)

    # Rules.

    def _profile(self, ordered: Sequence[RuleSet], direction: Direction) -> None:
        """As `services.agent.rules.render` does it for verdicts: what is denied is left to that."""
        name = table_names.steered(direction, [one.id for one in ordered])
        if name in self._made.chains:
            return
        rest = f"{name}-t"
        enforced = sorted(
            (one for one in ordered if one.mode is Mode.ENFORCE), key=lambda one: one.order
        )
        last = [one for one in enforced if is_led([one])][-1]
        head: list[Rule] = []
        for one in enforced:
            if one.tier is not Tier.ADMIN:
                continue
            if any(rule.action is Action.PASS for rule in one.rules):
                head += self._rules(one, rest)
            else:
                head.append(self._jump(one))
        following = (
            Tier.TENANT if any(one.tier is Tier.TENANT for one in enforced) else Tier.BASELINE
        )
        tail: list[Rule] = []
        if last.tier is Tier.ADMIN:
            head += _decided(direction)
            tail += _decided(direction)
        for one in enforced:
            if one.tier is following:
                tail.append(self._jump(one))
                if one is last:
                    tail += _decided(direction)
        if following is Tier.TENANT:
            tail.append(_rule("not allowed", Verdict.ACCEPT))
        else:
            tail.append(_rule("not denied", _directly(direction)))
        self._made.chains[name] = Chain((*head, _rule("", Goto(rest))))
        self._made.chains[rest] = Chain(tuple(tail))

    def _jump(self, rules: RuleSet) -> Rule:
        name = table_names.steered_rules(rules.id)
        if name not in self._made.chains:
            self._made.chains[name] = Chain(tuple(self._rules(rules, "")))
        return _rule(rules.policy, Jump(name))

    def _rules(self, source: RuleSet, rest: str) -> Iterator[Rule]:
        for rule in source.rules:
            end: tuple[Statement, ...] = (Verdict.ACCEPT,)
            if rule.via is not None and rule.action is Action.ALLOW:
                self._named.setdefault(rule.via)
                number = str(rule.number)
                led = table_names.led_rule(source.policy, source.direction, number)
                self._made.counters[led] = RuleLed(
                    source.policy, source.direction, number, rule.via
                )
                self._made.chains[led] = Chain(
                    (
                        _rule("", Jump(table_names.NOT_LED[source.direction])),
                        _rule(
                            "",
                            Count(led),
                            Goto(table_names.entry(rule.via, source.direction)),
                        ),
                    )
                )
                end = (Goto(led),)
            elif rule.action is Action.ALLOW:
                end = (_directly(source.direction),)
            elif rule.action is Action.PASS:
                end = (Goto(rest),)
            note = f"{source.policy} {source.direction.value} {rule.number}"
            # sets of ports and prefixes are those of the rule set's own piece
            for _, statements in matches(RenderedRuleSet(source), rule):
                yield _rule(note, *statements, *end)


_DROP: Final = (Verdict.DROP,)


def _from_outside(arm: ArmHere, bits: int) -> Iterator[Rule]:
    """Marks for the arm what does not come from an endpoint."""
    by_it = (Is(Key.INPUT, interface_key(arm.interface)),) if arm.is_elsewhere else ()
    yield _rule(
        "from outside", *by_it, Mark(bits | marks.FROM_OUTSIDE, marks.STEERING), Verdict.ACCEPT
    )
    if arm.is_elsewhere:
        yield _rule(
            "from elsewhere", Mark(bits | marks.FROM_ELSEWHERE, marks.STEERING), Verdict.ACCEPT
        )


def _led_already(direction: Direction) -> tuple[Statement, ...]:
    """What this node leads by rules of a direction comes from an endpoint first: of an egress rule
    as the connection began, of an ingress rule the answers. What is so and comes from outside has
    been at the device, and returns by somebody else, such as a gateway."""
    return (
        _LED,
        Is(
            Key.CONNECTION_MARK,
            marks.native(_BY[direction]),
            marks.native(marks.LEARNED | marks.INGRESS),
        ),
        In(Key.INPUT, table_names.INTERFACES, inverted=True),
    )


def _directly(direction: Direction) -> Goto:
    """What follows when one direction allows without a device."""
    return Goto(table_names.STEER_TO if direction is Direction.EGRESS else table_names.UNSTEERED)


def _decided(direction: Direction) -> Iterator[Rule]:
    """After the last rules that lead: what follows of ingress may only end that it is led."""
    if direction is Direction.INGRESS:
        yield _rule("not led", _NOT_LED, Verdict.ACCEPT)


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
        yield _rule("the link's", FAMILY[version], Is(key, value, mask), Verdict.ACCEPT)
    if direction is Direction.EGRESS:
        local = Is(Key.DESTINATION_KIND, marks.native(_LOCAL))
        yield _rule("the node's", local, Verdict.ACCEPT)


_LOCAL: Final = 2
"""RTN_LOCAL."""
_MULTICAST_4: Final = bytes((224, 0, 0, 0)), bytes((240, 0, 0, 0))
_BROADCAST_4: Final = bytes((255,) * 4), bytes((255,) * 4)
_MULTICAST_6: Final = b"\xff" + bytes(15), b"\xff" + bytes(15)
_LINK_6: Final = b"\xfe\x80" + bytes(14), b"\xff\xc0" + bytes(14)
_NOTHING_6: Final = bytes(16), bytes((255,) * 16)


def _icmp(number: int) -> Is:
    return Is(Key.PROTOCOL, bytes((number,)))


def _rule(note: str, *statements: Statement) -> Rule:
    return Rule(statements, note)
