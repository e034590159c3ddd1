"""Conditions of an object's status, by Kubernetes' conventions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """One condition."""

    type: str
    status: str
    """"True", "False" or "Unknown"."""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said, without when that began."""

    type: str
    reason: str
    """One word."""
    message: str
    """Not empty: the API server takes no empty text for one."""
    holds: bool = True


MESSAGE_MOST = 4096


def conditions(
    findings: Iterable[Finding], before: Sequence[Condition], generation: int, now: str
) -> list[Condition]:
    """As they are to be written: the time is that at which the status became what it is."""
    known = {one.type: one for one in before}
    found = []
    for finding in findings:
        status = str(finding.holds)
        had = known.get(finding.type)
        since = had.last_transition_time if had is not None and had.status == status else now
        found.append(
            Condition(
                finding.type,
                status,
                finding.reason,
                finding.message[:MESSAGE_MOST],
                generation,
                since or now,
            )
        )
    return found
