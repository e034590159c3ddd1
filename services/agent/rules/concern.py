"""Whose connections a change of groups concerns. Pure.

Whoever joins a group that is denied, or leaves one that is allowed, may have connections that have
to end. Most who come change nothing by it: their block was denied before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from services.common.model.judging import IsMember, matches_peer
from services.common.model.network import Address
from services.common.model.rules import Action, CompiledRule, GroupId, Mode, RuleSet

Users: TypeAlias = Mapping[GroupId, tuple[CompiledRule, ...]]
"""Rules that name a group, by group; not those that are only audited."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of connections."""

    restricts: bool = False
    """Some may be denied that were allowed."""
    relaxes: bool = False
    """Some may be allowed that were denied."""

    def __or__(self, other: Effect) -> Effect:
        return Effect(self.restricts or other.restricts, self.relaxes or other.relaxes)


def users_of(sets: Iterable[RuleSet]) -> Users:
    """The rules of these that name groups."""
    found: dict[GroupId, dict[CompiledRule, None]] = {}
    for one in sets:
        if one.mode is Mode.AUDIT:
            continue
        for rule in one.rules:
            for group in rule.named_groups:
                found.setdefault(group, {})[rule] = None
    return {group: tuple(rules) for group, rules in found.items()}


def effect_on(
    rules: Iterable[CompiledRule], address: Address, before: IsMember, after: IsMember
) -> Effect:
    """What it means for an address that groups are others now."""
    effect = Effect()
    for rule in rules:
        was, is_now = matches_peer(rule, address, before), matches_peer(rule, address, after)
        if was == is_now:
            continue
        if rule.action is Action.PASS:  # whatever comes after it
            return Effect(restricts=True, relaxes=True)
        denies = is_now is (rule.action is Action.DENY)
        effect |= Effect(restricts=denies, relaxes=not denies)
    return effect
