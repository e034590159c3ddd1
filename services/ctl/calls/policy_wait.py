"""Which nodes have applied policies: for people, and to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from romana.policy.v1 import policy_service_pb2 as api

from services.common.terminal.plural import count
from services.ctl.calls.agents import PAUSE, named
from services.ctl.calls.session import Session
from services.ctl.failures.failure import Failure

WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="Wait until no node enforces what was before, at most so long; 0: do not.",
    ),
]
AT_ONCE = 1000
"""Policies that one question names."""


async def realization(
    session: Session, policies: Sequence[str] = ()
) -> Mapping[str, api.PolicyRealization]:
    """How far policies are, by name; empty with a note if that is not known."""
    policy = session.policy
    try:
        listed = await policy.every(
            policy.stub.GetRealization,
            api.GetRealizationRequest(policies=policies),
            lambda page: page.policies,
        )
    except Failure as error:
        session.note(f"What nodes have applied is not known: {error.message}")
        return {}
    return {item.policy: item for item in listed.items}


def in_short(item: api.PolicyRealization | None) -> str:
    """Such as "2/3 nodes", or "failing (1)"."""
    if item is None:
        return "?"
    if item.failures:
        return f"{item.applied}/{item.needed}, failing ({len(item.failures)})"
    return f"{item.applied}/{item.needed}"


async def mark(session: Session, seconds: float) -> int:
    """To be asked before a change that is waited for, if it is: what was then is over after it."""
    if not seconds:
        return 0
    policy = session.policy
    return max((await policy.read(policy.stub.GetStatus, api.GetStatusRequest())).revision, 1)


async def wait(session: Session, seconds: float, policies: Sequence[str], before: int) -> None:
    """Waits until no node enforces what was before; 0 s: does nothing.

    Args:
        session: Asks the policy service.
        seconds: At most so long.
        policies: Those that were written: every node that needs them has to have applied them.
        before: What `mark` said.

    Raises:
        Failure: not all nodes have applied it; says which.
    """
    if not seconds:
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    said, up_to = "", 0
    while True:
        far = await _how_far(session, policies, before, up_to)
        up_to = up_to or far.revision
        if not far.late:
            nodes = count(far.needed, "node")
            session.note(f"Applied by {nodes}" if far.needed else "No node has anything to apply")
            return
        progress = f"Applied by {far.needed - len(far.late)} of {count(far.needed, 'node')} ..."
        if progress != said:
            session.note(progress)
            said = progress
        if loop.time() >= end:
            raise Failure(
                f"it is done, but {len(far.late)} of {count(far.needed, 'node')} had not applied "
                f"it within {seconds:g} s: {named(sorted(far.late))}",
                status="DEADLINE_EXCEEDED",
                reason="NOT_APPLIED",
                hint="they may enforce what was before; `romana agent status` there says why",
            )
        await asyncio.sleep(min(PAUSE, max(end - loop.time(), 0)))


@dataclass(frozen=True, slots=True)
class _HowFar:
    late: set[str]
    """Nodes that may enforce what was before."""
    needed: int
    """How many are waited for."""
    revision: int
    """What is asked about is in the store up to it."""


async def _how_far(session: Session, policies: Sequence[str], before: int, up_to: int) -> _HowFar:
    policy = session.policy
    answer = await policy.read(
        policy.stub.GetRealization,
        api.GetRealizationRequest(nodes_only=True, since=before, up_to=up_to),
    )
    late, needed = set(answer.late), answer.concerned
    for start in range(0, len(policies), AT_ONCE):
        listed = await policy.every(
            policy.stub.GetRealization,
            api.GetRealizationRequest(policies=policies[start : start + AT_ONCE]),
            lambda page: page.policies,
        )
        for item in listed.items:
            late.update(item.missing)
            needed = max(needed, item.needed)
    return _HowFar(late, max(needed, len(late)), answer.revision)
