"""Rule sets for tests."""

from __future__ import annotations

from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    Mode,
    PolicyName,
    PortMatch,
    RuleSet,
    RuleSetId,
    Tier,
)


def rules(
    name: str,
    *entries: CompiledRule,
    direction: Direction = Direction.INGRESS,
    tier: Tier = Tier.TENANT,
    priority: int = 0,
    mode: Mode = Mode.ENFORCE,
) -> RuleSet:
    return RuleSet(
        RuleSetId(f"{name}-{hash(entries)}"),
        PolicyName(name),
        direction,
        tier,
        priority,
        mode,
        entries,
    )


def allow(*ports: PortMatch, **rest: object) -> CompiledRule:
    any_peer = not rest.get("groups") and not rest.get("blocks")
    return CompiledRule(0, Action.ALLOW, any_peer=any_peer, ports=ports, **rest)  # type: ignore[arg-type]
