"""What this node says of a device: another thing only after as many probes in a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Judgement:
    """As of the last probe."""

    is_up: bool | None = None
    """None: nothing was asked yet."""
    reason: str = ""
    """Why it is not up."""
    contrary: int = 0
    """Probes in a row that say otherwise."""


def judged(before: Judgement, problem: str, threshold: int) -> Judgement:
    """After a probe; `problem`: why it was not answered, empty: it was. The first one decides."""
    is_up = not problem
    if before.is_up is None:
        return Judgement(is_up, problem)
    if is_up == before.is_up:
        return replace(before, contrary=0)
    if before.contrary + 1 < threshold:
        return replace(before, contrary=before.contrary + 1)
    return Judgement(is_up, problem)
