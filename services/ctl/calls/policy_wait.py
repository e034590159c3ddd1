"""Which nodes have applied policies: for people, and to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
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
        help="Wait until every node that needs it has applied it, at most so long; 0: do not.",
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


async def wait(session: Session, seconds: float, policies: Sequence[str], *, gone: bool) -> None:
    """Waits until the policies are applied by every node that needs them; 0 s: does nothing.

    Args:
        gone: policies were removed: until every connected node has applied all there is for it.

    Raises:
        Failure: they were not; says by whom.
    """
    if not seconds:
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    said = ""
    while True:
        late, needed = await _late(session, policies, gone=gone)
        if not late:
            nodes = count(needed, "node")
            session.note(f"Applied by {nodes}" if needed else "No node has anything to apply")
            return
        progress = f"Applied by {needed - len(late)} of {count(needed, 'node')} ..."
        if progress != said:
            session.note(progress)
            said = progress
        if loop.time() >= end:
            raise Failure(
                f"it is done, but {len(late)} of {count(needed, 'node')} had not "
                f"applied it within {seconds:g} s: {named(sorted(late))}",
                status="DEADLINE_EXCEEDED",
                reason="NOT_APPLIED",
                hint="`romana policy show NAME` says what is missing",
            )
        await asyncio.sleep(min(PAUSE, max(end - loop.time(), 0)))


async def _late(session: Session, policies: Sequence[str], *, gone: bool) -> tuple[set[str], int]:
    """Nodes that lack something, and how many are waited for."""
    policy = session.policy
    late: set[str] = set()
    needed = 0
    for start in range(0, len(policies), AT_ONCE):
        listed = await policy.every(
            policy.stub.GetRealization,
            api.GetRealizationRequest(policies=policies[start : start + AT_ONCE]),
            lambda page: page.policies,
        )
        for item in listed.items:
            late.update(item.missing)
            needed = max(needed, item.needed)
    if gone:
        answer = await policy.read(
            policy.stub.GetRealization, api.GetRealizationRequest(nodes_only=True)
        )
        connected = [item for item in answer.nodes if item.connected]
        late.update(item.node for item in connected if not item.current)
        needed = max(needed, len(connected))
    return late, max(needed, len(late))
