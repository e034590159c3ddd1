"""The chains of `inet romana` that have copies of packets made for devices. Pure.

Where a packet is forwarded, and after rules have let it pass: then the node of an endpoint sees it
once, on its way from there or to there, whatever devices it is led through.

    copy_egress (forward)    egress rules of the endpoint that began the connection: as it began by
                             the interface that it came in by, answers by that which they leave by
    copies (forward)         in a table of each family, see `services.agent.routing.copy_plan`:
                             sends a copy of what is marked for an arm of a device
    copy_ingress (forward)   ingress rules of the endpoint that it is for, the other way round
    copies (forward)         again
    copied (forward)         marks are as they were

Answers are judged by the same rules, turned round: nothing is written down of a connection, and a
change of rules holds for both directions at once. Marks have done their work by then, but that what
goes to a device is not masqueraded; so of a packet that bears the number of an arm it is only kept
that it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from services.agent.kernel import marks
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import (
    Base,
    Between,
    Chain,
    Count,
    Dispatch,
    Element,
    Elements,
    Goto,
    Hook,
    In,
    Is,
    Key,
    Mark,
    Rule,
    Shape,
    Statement,
    Verdict,
    interface_key,
)
from services.agent.rules.device_chains import Devices, RuleCopied
from services.agent.rules.device_legs import GroupHere
from services.agent.rules.device_shares import shares
from services.agent.rules.render_rules import FAMILY, OPERATORS
from services.agent.rules.rule_walk import Statements, Walk, walk
from services.common.model.devices import DeviceGroupName
from services.common.model.rules import CompiledRule, Direction, Mode, Profile, RuleSet, RuleSetId

MIRROR_SETS: Final[Mapping[str, Shape]] = {
    name: Shape(Element.INTERFACE, is_map=True)
    for name in (
        table_names.COPIED_FROM,
        table_names.COPIED_BACK,
        table_names.COPIED_TO,
        table_names.COPIED_BACK_FROM,
    )
}
"""In which endpoints are that have rules which have copies made."""

_AFTER_FILTER: Final = 10
_ORIGINAL: Final = Is(Key.CONNECTION_DIRECTION, b"\x00")
_SHARE: Final = {
    False: {4: Key.SHARE_4, 6: Key.SHARE_6},
    True: {4: Key.SHARE_BACK_4, 6: Key.SHARE_BACK_6},
}
_SOURCE: Final = {4: Key.SOURCE_4, 6: Key.SOURCE_6}
_DESTINATION: Final = {4: Key.DESTINATION_4, 6: Key.DESTINATION_6}
_TURNED: Final = {
    Key.SOURCE_4: Key.DESTINATION_4,
    Key.DESTINATION_4: Key.SOURCE_4,
    Key.SOURCE_6: Key.DESTINATION_6,
    Key.DESTINATION_6: Key.SOURCE_6,
    Key.PORT: Key.SOURCE_PORT,
}
_ANSWERS: Final = {8: 0, 13: 14, 15: 16, 17: 18, 128: 129}
"""Types of ICMP of both versions that have answers."""
_HAS_NUMBER: Final = Is(Key.MARK, marks.native(0), marks.native(marks.LEG), inverted=True)


def _came(value: int) -> Is:
    return Is(Key.MARK, marks.native(value), marks.native(marks.CAME))


def copies_of(rules: Iterable[RuleSet]) -> frozenset[DeviceGroupName]:
    """The groups that get copies by some of these rule sets."""
    return frozenset(
        rule.mirror
        for one in rules
        if one.mode is Mode.ENFORCE
        for rule in one.rules
        if rule.mirror is not None
    )


def mirrored_elements(
    interface: str, profile: Profile, sets: Mapping[RuleSetId, RuleSet]
) -> Mapping[str, Elements]:
    """What an endpoint has in the maps of copies."""
    found: dict[str, Elements] = {}
    for direction, forth, back in (
        (Direction.EGRESS, table_names.COPIED_FROM, table_names.COPIED_BACK),
        (Direction.INGRESS, table_names.COPIED_TO, table_names.COPIED_BACK_FROM),
    ):
        identities = profile.of(direction)
        if copies_of(sets[one] for one in identities):
            for name, is_back in ((forth, False), (back, True)):
                chain = table_names.copied(direction, identities, back=is_back)
                found[name] = {interface_key(interface): chain}
    return found


def render_mirrors(
    groups: Mapping[DeviceGroupName, GroupHere],
    profiles: Iterable[Profile],
    sets: Mapping[RuleSetId, RuleSet],
) -> Devices:
    """All of it; nothing where no rule has copies made."""
    made = Devices()
    named: dict[DeviceGroupName, None] = {}
    for profile in profiles:
        for direction in Direction:
            rules = [sets[one] for one in profile.of(direction)]
            if copies_of(rules):
                named.update(dict.fromkeys(sorted(copies_of(rules))))
                for back in (False, True):
                    walk(_how(made, back=back), rules, direction, made.chains)
    if not named:
        return made
    _fixed(made)
    for name in named:
        group = groups.get(name)
        for direction in Direction:
            for back in (False, True):
                entry = table_names.copy_entry(name, direction, back=back)
                made.chains[entry] = _entry(group, direction, back=back)
        if group is not None:
            _devices(made, group)
    return made


def _how(made: Devices, *, back: bool) -> Walk:
    def allowed(source: RuleSet, rule: CompiledRule) -> Statements:
        if rule.mirror is None:
            return (Verdict.ACCEPT,)
        number = str(rule.number)
        counter = table_names.copied_counter(source.policy, source.direction, number)
        made.counters[counter] = RuleCopied(source.policy, source.direction, number, rule.mirror)
        return Count(counter), Goto(
            table_names.copy_entry(rule.mirror, source.direction, back=back)
        )

    names = partial(table_names.copied, back=back), partial(table_names.copied_rules, back=back)
    if back:
        return Walk(*names, allowed, lambda _: Verdict.ACCEPT, _turned)
    return Walk(*names, allowed, lambda _: Verdict.ACCEPT)


def _turned(statements: Statements) -> Statements | None:
    """What matches the answers; None: there are none."""
    found: list[Statement] = []
    for one in statements:
        if isinstance(one, Is) and one.key is Key.ICMP_TYPE:
            if one.value[0] not in _ANSWERS:
                return None
            found.append(replace(one, value=bytes((_ANSWERS[one.value[0]],))))
        elif isinstance(one, Is | Between | In):
            found.append(replace(one, key=_TURNED.get(one.key, one.key)))
        else:
            found.append(one)
    return tuple(found)


def _fixed(made: Devices) -> None:
    was_led = Rule((_HAS_NUMBER, Mark(marks.RETURNED, marks.CAME)), "to a device, or from one")
    not_any_more = (
        Rule((_HAS_NUMBER, _came(0), Mark(0, marks.STEERING)), "copied"),
        was_led,
    )
    operators = Rule((OPERATORS, Verdict.ACCEPT), "operators")
    for name, begin, forth, back, priority in (
        (
            table_names.COPY_EGRESS,
            (operators, was_led),
            (Key.INPUT, table_names.COPIED_FROM),
            (Key.OUTPUT, table_names.COPIED_BACK),
            0,
        ),
        (
            table_names.COPY_INGRESS,
            (operators, *not_any_more),
            (Key.OUTPUT, table_names.COPIED_TO),
            (Key.INPUT, table_names.COPIED_BACK_FROM),
            2,
        ),
    ):
        made.chains[name] = Chain(
            (
                *begin,
                Rule((_ORIGINAL, Dispatch(*forth)), "as it began"),
                Rule((Is(Key.CONNECTION_DIRECTION, b"\x01"), Dispatch(*back)), "answers"),
            ),
            Base(Hook.FORWARD, _AFTER_FILTER + priority),
        )
    made.chains[table_names.COPIED] = Chain(
        (operators, *not_any_more), Base(Hook.FORWARD, _AFTER_FILTER + 4)
    )


def _entry(group: GroupHere | None, direction: Direction, *, back: bool) -> Chain:
    """By the network of the endpoint whose rules it is: to the device that has the connection."""
    own = _SOURCE if (direction is Direction.EGRESS) is not back else _DESTINATION
    rules = []
    for network in group.networks if group is not None else ():
        assert group is not None
        cidr = network.cidr
        rules.append(
            Rule(
                (
                    FAMILY[cidr.version],
                    Is(own[cidr.version], cidr.network_address.packed, cidr.netmask.packed),
                    Dispatch(
                        _SHARE[back][cidr.version],
                        table_names.copy_shares(group.name, network.network),
                    ),
                ),
                network.network,
            )
        )
    return Chain((*rules, Rule((Verdict.ACCEPT,), "nobody gets it")))


def _devices(made: Devices, group: GroupHere) -> None:
    for network in group.networks:
        name = table_names.copy_shares(group.name, network.network)
        made.sets[name] = Shape(Element.MARK, is_map=True)
        made.elements[name] = {
            marks.native(share): table_names.copy_to(leg.inside.number)
            for share, leg in enumerate(shares(network.legs))
        }
        for leg in network.legs:
            bits = marks.of_leg(leg.inside.number)
            made.chains[table_names.copy_to(leg.inside.number)] = _copy_to(bits)


def _copy_to(bits: int) -> Chain:
    return Chain(
        (
            Rule(
                (_HAS_NUMBER, Mark(bits | marks.FROM_OUTSIDE, marks.STEERING), Verdict.ACCEPT),
                "to a device, or from one",
            ),
            Rule((Mark(bits, marks.STEERING), Verdict.ACCEPT), ""),
        )
    )
