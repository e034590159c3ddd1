"""The structure of `inet romana`: all of it but members of groups and what endpoints have. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.agent.kernel.nftables.table import (
    Chain,
    Count,
    Elements,
    Goto,
    Shape,
    Statement,
    Verdict,
)
from services.agent.rules.device_chains import LegCounted, RuleCopied, RuleLed
from services.agent.rules.render_rules import Counted, Logging, log_rules
from services.common.model.rules import GroupId


@dataclass(slots=True)
class Structure:
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Shape] = field(default_factory=dict)
    elements: dict[str, Elements] = field(default_factory=dict)
    """Of the sets in `sets`."""
    counters: dict[str, Counted | LegCounted | RuleLed | RuleCopied | None] = field(
        default_factory=dict
    )
    """What they count; None: see `table_names.DROPS`."""
    groups: frozenset[GroupId] = frozenset()
    """Those that have sets."""
    blocks: frozenset[GroupId] = frozenset()
    """The same of those that are made of blocks."""

    def drop(self, counter: str, logging: Logging | None) -> tuple[Statement, ...]:
        """Counts, logs if asked for, and drops."""
        if logging is None:
            return Count(counter), Verdict.DROP
        chain = f"d-{counter}"
        self.chains[chain] = log_rules(logging, f"romana deny {counter}: ", Verdict.DROP)
        return Count(counter), Goto(chain)
