"""The chains of profiles, and of the rule sets that they go through. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import Chain, Goto, Jump, Rule, noted
from services.agent.rules import block_sets, page_sets
from services.agent.rules.render_rules import Logging, RenderedRuleSet, allowed
from services.agent.rules.structure import Structure
from services.common.model.rules import Direction, Mode, Tier


def render_profile(
    made: Structure,
    pieces: Sequence[RenderedRuleSet],
    direction: Direction,
    logging: Logging | None,
) -> None:
    """The chain by which one direction is judged: see `services.common.model.judging`."""
    ordered = sorted(pieces, key=lambda piece: piece.source.order)
    name = table_names.profile(direction, [piece.source.id for piece in pieces])
    rest = f"{name}-t"
    head: list[Rule] = []
    passes = False
    for piece in ordered:
        if piece.source.tier is not Tier.ADMIN:
            continue
        if not piece.passes:
            head.append(_jump(piece))
            continue
        passes = True
        head += [
            Rule((*rule.statements, Goto(rest)), rule.note) if index in piece.passes else rule
            for index, rule in enumerate(piece.rules)
        ]
    tail = _tail(made, ordered, direction, logging)
    if passes:
        made.chains[rest] = Chain(tail)
        tail = (noted("", Goto(rest)),)
    made.chains[name] = Chain((*head, *tail))


def _tail(
    made: Structure,
    ordered: Sequence[RenderedRuleSet],
    direction: Direction,
    logging: Logging | None,
) -> tuple[Rule, ...]:
    """What comes after ADMIN."""
    tenant = [piece for piece in ordered if piece.source.tier is Tier.TENANT]
    audited = [_jump(piece) for piece in tenant if piece.source.mode is Mode.AUDIT]
    enforced = [_jump(piece) for piece in tenant if piece.source.mode is Mode.ENFORCE]
    if enforced:
        drop = Rule(made.drop(table_names.DENIED[direction], logging), "not allowed")
        return (*audited, *enforced, drop)
    baseline = [_jump(piece) for piece in ordered if piece.source.tier is Tier.BASELINE]
    return (*audited, *baseline, noted("not denied", allowed(direction)))


def render_rule_set(made: Structure, piece: RenderedRuleSet) -> None:
    if not piece.passes:
        made.chains[table_names.rule_set(piece.source.id)] = Chain(tuple(piece.rules))
    made.chains.update(piece.chains)
    made.counters.update(piece.counters)
    for name, (shape, elements) in piece.sets.items():
        made.sets[name], made.elements[name] = shape, elements
    for identity in piece.groups:
        for version, shape in page_sets.SHAPES.items():
            made.sets[table_names.group(identity, version)] = shape
    for identity in piece.blocks:
        for version, shape in block_sets.SHAPES.items():
            made.sets[table_names.blocks(identity, version)] = shape


def _jump(piece: RenderedRuleSet) -> Rule:
    return noted(f"{piece.source.policy}", Jump(table_names.rule_set(piece.source.id)))
