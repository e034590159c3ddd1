"""Whose connections a change of groups concerns."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from services.agent.rules.concern import Effect, effect_on, users_of
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    GroupId,
    Mode,
    OwnedPeers,
    PolicyName,
    RuleSet,
    RuleSetId,
    Tier,
)

ADDRESS = ip_address("10.0.0.1")
GROUP, BLOCKS, KNOWN = GroupId("group"), GroupId("blocks"), GroupId("known")
NOTHING, RESTRICTS, RELAXES = Effect(), Effect(restricts=True), Effect(relaxes=True)
EITHER = RESTRICTS | RELAXES


def effect(rule: CompiledRule, before: set[GroupId], after: set[GroupId]) -> Effect:
    return effect_on(
        [rule], ADDRESS, lambda group, _: group in before, lambda group, _: group in after
    )


@pytest.mark.parametrize(
    ("action", "joins", "leaves"),
    [
        (Action.ALLOW, RELAXES, RESTRICTS),
        (Action.DENY, RESTRICTS, RELAXES),
        (Action.PASS, EITHER, EITHER),
    ],
)
def test_who_joins_or_leaves_a_group(action: Action, joins: Effect, leaves: Effect) -> None:
    rule = CompiledRule(0, action, groups=(GROUP,))
    assert effect(rule, set(), {GROUP}) == joins
    assert effect(rule, {GROUP}, set()) == leaves
    assert effect(rule, {GROUP}, {GROUP}) == NOTHING


def test_who_was_denied_by_the_block_changes_nothing_by_coming() -> None:
    rule = CompiledRule(0, Action.DENY, groups=(GROUP,), owned=(OwnedPeers(BLOCKS),))
    assert effect(rule, {BLOCKS}, {BLOCKS, GROUP}) == NOTHING
    assert effect(rule, set(), {GROUP}) == RESTRICTS


def test_who_comes_to_be_known_is_denied_by_labels_or_not_any_more() -> None:
    rule = CompiledRule(0, Action.DENY, groups=(GROUP,), owned=(OwnedPeers(BLOCKS, KNOWN),))
    assert effect(rule, {BLOCKS}, {BLOCKS, KNOWN}) == RELAXES
    assert effect(rule, {BLOCKS}, {BLOCKS, KNOWN, GROUP}) == NOTHING


def test_rules_are_found_by_all_groups_that_they_name() -> None:
    rule = CompiledRule(0, Action.DENY, groups=(GROUP,), owned=(OwnedPeers(BLOCKS, KNOWN),))

    def rule_set(mode: Mode) -> RuleSet:
        return RuleSet(
            RuleSetId("r"), PolicyName("p"), Direction.INGRESS, Tier.BASELINE, 0, mode, (rule,)
        )

    assert users_of([rule_set(Mode.ENFORCE)]) == dict.fromkeys((GROUP, BLOCKS, KNOWN), (rule,))
    assert users_of([rule_set(Mode.AUDIT)]) == {}
