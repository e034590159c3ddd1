"""The chains that find the rule which leads a packet through devices. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import (
    Chain,
    Count,
    Elements,
    Goto,
    Jump,
    Rule,
    Verdict,
    interface_key,
    noted,
)
from services.agent.rules.device_chains import NOT_LED, Devices, RuleLed
from services.agent.rules.rule_walk import Statements, Walk, walk
from services.common.model.devices import DeviceGroupName
from services.common.model.rules import CompiledRule, Direction, Mode, Profile, RuleSet, RuleSetId


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


def render_led_rules(
    made: Devices, profiles: Iterable[Profile], sets: Mapping[RuleSetId, RuleSet]
) -> tuple[frozenset[Direction], Sequence[DeviceGroupName]]:
    """Adds them; the directions of rules that lead somewhere, and the groups that they name."""
    leading: set[Direction] = set()
    named: dict[DeviceGroupName, None] = {}
    how = _how(made, named)
    for profile in profiles:
        for direction in Direction:
            rules = [sets[one] for one in profile.of(direction)]
            if is_led(rules):
                leading.add(direction)
                walk(how, rules, direction, made.chains)
    return frozenset(leading), tuple(named)


def _how(made: Devices, named: dict[DeviceGroupName, None]) -> Walk:
    def allowed(source: RuleSet, rule: CompiledRule) -> Statements:
        if rule.via is None:
            return (_directly(source.direction),)
        named.setdefault(rule.via)
        number = str(rule.number)
        led = table_names.led_rule(source.policy, source.direction, number)
        made.counters[led] = RuleLed(source.policy, source.direction, number, rule.via)
        made.chains[led] = Chain(
            (
                noted("", Jump(table_names.NOT_LED[source.direction])),
                noted("", Count(led), Goto(table_names.entry(rule.via, source.direction))),
            )
        )
        return (Goto(led),)

    return Walk(
        table_names.steered,
        table_names.steered_rules,
        allowed,
        _directly,
        is_sought=lambda one: is_led([one]),
        none_left=_decided,
    )


def _directly(direction: Direction) -> Goto:
    """What follows when one direction allows without a device."""
    return Goto(table_names.STEER_TO if direction is Direction.EGRESS else table_names.UNSTEERED)


def _decided(direction: Direction) -> Sequence[Rule]:
    """After the last rules that lead: what follows of ingress may only end that it is led."""
    if direction is Direction.INGRESS:
        return (noted("not led", NOT_LED, Verdict.ACCEPT),)
    return ()
