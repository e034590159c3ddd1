"""Waiting until agents have applied a change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from romana.ipam.v1 import sync_routes_pb2
from romana.policy.v1 import policy_service_pb2
from romana.sync.v1 import sync_pb2

from services.common.terminal.plural import count
from services.ctl.calls.session import Session
from services.ctl.failures.failure import Failure

RoutesWaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="Wait until all connected agents have applied it, at most this long; 0: do not wait.",
    ),
]
PolicyWaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="Wait until no node enforces the old rules, at most this long; 0: do not wait.",
    ),
]
PAUSE: Final = 0.2
"""Seconds between two questions."""
NAMED_MOST: Final = 10
"""Nodes that a message names."""
POLICIES_AT_ONCE: Final = 1000
"""Policies that one question names."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far agents are with a change."""

    late: Collection[str]
    """Nodes that have not applied it."""
    needed: int
    """How many nodes have to."""


async def wait_for_routes(session: Session, seconds: float) -> None:
    """Waits until all connected agents have applied what is in the store now; 0: does nothing.

    Raises Failure that says who has not.
    """
    ipam = session.ipam
    target = 0

    async def look() -> Progress:
        nonlocal target
        request = sync_routes_pb2.GetSyncStatusRequest()
        answer = await ipam.read(ipam.stub.GetSyncStatus, request)
        target = target or answer.current.revision
        connected = sum(item.connected for item in answer.statuses)
        return Progress(missing(answer.statuses, target), connected)

    hint = "`romana node show NAME` says what an agent lacks"
    await _wait(session, seconds, look, nobody="No agent is connected", hint=hint)


async def policy_revision(session: Session, seconds: float) -> int:
    """Is asked before a change that is waited for: its wait is for what is newer. 0: no wait."""
    if not seconds:
        return 0
    policy = session.policy
    request = policy_service_pb2.GetStatusRequest()
    return max((await policy.read(policy.stub.GetStatus, request)).revision, 1)


async def wait_for_policies(
    session: Session, seconds: float, policies: Sequence[str], since: int
) -> None:
    """Waits until no node enforces what was before `since` (`policy_revision`); 0 s: does nothing.

    Every node that needs one of `policies` has to have applied it. Raises Failure that says who has
    not.
    """
    policy = session.policy
    up_to = 0

    async def look() -> Progress:
        nonlocal up_to
        answer = await policy.read(
            policy.stub.GetRealization,
            policy_service_pb2.GetRealizationRequest(nodes_only=True, since=since, up_to=up_to),
        )
        up_to = up_to or answer.revision
        late, needed = set(answer.late), answer.concerned
        for start in range(0, len(policies), POLICIES_AT_ONCE):
            request = policy_service_pb2.GetRealizationRequest(
                policies=policies[start : start + POLICIES_AT_ONCE]
            )
            listed = await policy.every(
                policy.stub.GetRealization, request, lambda page: page.policies
            )
            for item in listed.items:
                late.update(item.missing)
                needed = max(needed, item.needed)
        return Progress(late, max(needed, len(late)))

    hint = "they may enforce the old rules; `romana agent status` there says why"
    await _wait(session, seconds, look, nobody="No node has to apply it", hint=hint)


async def _wait(
    session: Session,
    seconds: float,
    look: Callable[[], Awaitable[Progress]],
    *,
    nobody: str,
    hint: str,
) -> None:
    if not seconds:
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    noted = ""
    while True:
        progress = await look()
        late, needed = progress.late, progress.needed
        if not late:
            session.note(f"Applied by {count(needed, 'node')}" if needed else nobody)
            return
        note = f"Applied by {needed - len(late)} of {count(needed, 'node')} ..."
        if note != noted:
            session.note(note)
            noted = note
        if loop.time() >= end:
            raise Failure(
                f"the change is stored, but {len(late)} of {count(needed, 'node')} had not applied "
                f"it within {seconds:g} s: {named(sorted(late))}",
                status="DEADLINE_EXCEEDED",
                reason="NOT_APPLIED",
                hint=hint,
            )
        await asyncio.sleep(min(PAUSE, max(end - loop.time(), 0)))


def missing(statuses: Collection[sync_routes_pb2.NodeSyncStatus], target: int) -> list[str]:
    """Nodes with an agent that has not applied everything up to a revision."""
    return [
        item.node
        for item in statuses
        if item.connected
        and (item.applied.revision < target or any(map(_is_waited_for, item.failures)))
    ]


def _is_waited_for(failure: sync_pb2.Failure) -> bool:
    """What is wrong with an endpoint is no part of any change."""
    return not failure.resource.startswith("endpoint/")


def named(nodes: Sequence[str]) -> str:
    """The first few of many."""
    shown = ", ".join(nodes[:NAMED_MOST])
    return f"{shown} and {len(nodes) - NAMED_MOST} more" if len(nodes) > NAMED_MOST else shown
