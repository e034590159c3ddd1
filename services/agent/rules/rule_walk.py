"""Chains that find the rule which allows a packet, beside those that decide. Pure.

As `services.agent.rules.render` does it for verdicts: what is denied is left to that. Who walks
says what the rule that allows comes to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.agent.kernel.nftables.table import Chain, Goto, Jump, Rule, Statement, Verdict
from services.agent.rules.render_rules import RenderedRuleSet, matches
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    Mode,
    RuleSet,
    RuleSetId,
    Tier,
)

Statements: TypeAlias = tuple[Statement, ...]


def _as_it_is(statements: Statements) -> Statements:
    return statements


def _is_not(_: RuleSet) -> bool:
    return False


def _nothing(_: Direction) -> Sequence[Rule]:
    return ()


@dataclass(frozen=True, slots=True)
class Walk:
    """How it is done."""

    profile: Callable[[Direction, Iterable[RuleSetId]], str]
    """Name of the chain of a profile's rules of one direction."""
    rules: Callable[[RuleSetId], str]
    """Name of the chain of a rule set."""
    allowed: Callable[[RuleSet, CompiledRule], Statements]
    """What a rule that allows comes to."""
    not_denied: Callable[[Direction], Statement]
    """What follows where no rule of any tier has to allow."""
    matching: Callable[[Statements], Statements | None] = _as_it_is
    """How a way to match is written; None: nothing matches so."""
    is_sought: Callable[[RuleSet], bool] = _is_not
    """Whether a rule set has rules for which the walk is made."""
    none_left: Callable[[Direction], Sequence[Rule]] = _nothing
    """What follows the last such rule set, if there is one."""


def walk(
    how: Walk, ordered: Sequence[RuleSet], direction: Direction, chains: dict[str, Chain]
) -> None:
    """Adds the chains of a profile's rules of one direction."""
    name = how.profile(direction, [one.id for one in ordered])
    if name in chains:
        return
    rest = f"{name}-t"
    enforced = sorted((one for one in ordered if one.mode is Mode.ENFORCE), key=_order)
    last = next((one for one in reversed(enforced) if how.is_sought(one)), None)
    following = Tier.TENANT if any(one.tier is Tier.TENANT for one in enforced) else Tier.BASELINE
    head: list[Rule] = []
    for one in enforced:
        if one.tier is not Tier.ADMIN:
            continue
        if any(rule.action is Action.PASS for rule in one.rules):
            head += _rules(how, one, rest)
        else:
            head.append(_jump(how, one, chains))
    tail: list[Rule] = []
    if last is not None and last.tier is Tier.ADMIN:
        head += how.none_left(direction)
        tail += how.none_left(direction)
    for one in enforced:
        if one.tier is following:
            tail.append(_jump(how, one, chains))
            if one is last:
                tail += how.none_left(direction)
    if following is Tier.TENANT:
        tail.append(_NOT_ALLOWED)
    else:
        tail.append(Rule((how.not_denied(direction),), "not denied"))
    chains[name] = Chain((*head, Rule((Goto(rest),))))
    chains[rest] = Chain(tuple(tail))


_NOT_ALLOWED: Final = Rule((Verdict.ACCEPT,), "not allowed")


def _order(one: RuleSet) -> tuple[int, int, str, str]:
    return one.order


def _jump(how: Walk, rules: RuleSet, chains: dict[str, Chain]) -> Rule:
    name = how.rules(rules.id)
    if name not in chains:
        chains[name] = Chain(tuple(_rules(how, rules, "")))
    return Rule((Jump(name),), rules.policy)


def _rules(how: Walk, source: RuleSet, rest: str) -> Iterator[Rule]:
    for rule in source.rules:
        end: Statements = (Verdict.ACCEPT,)
        if rule.action is Action.ALLOW:
            end = how.allowed(source, rule)
        elif rule.action is Action.PASS:
            end = (Goto(rest),)
        note = f"{source.policy} {source.direction.value} {rule.number}"
        # sets of ports and prefixes are those of the rule set's own piece
        for _, statements in matches(RenderedRuleSet(source), rule):
            matching = how.matching(statements)
            if matching is not None:
                yield Rule((*matching, *end), note)
