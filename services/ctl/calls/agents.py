"""What agents have applied of routes and policies, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from romana.ipam.v1 import sync_routes_pb2
from romana.policy.v1 import policy_service_pb2
from romana.sync.v1 import sync_pb2
from romana.topology.v1 import node_pb2

from services.common.terminal.table import Column, fields
from services.ctl.calls.session import Session
from services.ctl.failures.failure import Failure
from services.ctl.views import enum_text
from services.ctl.views.output import Output

FAILURES: tuple[Column[sync_pb2.Failure], ...] = (
    Column("NOT APPLIED", lambda item: item.resource),
    Column("WHY", lambda item: item.reason),
    Column("DETAIL", lambda item: item.message),
)


async def statuses(
    session: Session, nodes: Sequence[str] = ()
) -> sync_routes_pb2.GetSyncStatusResponse | None:
    """What is known of nodes' agents, unless ipam is away."""
    ipam = session.ipam
    try:
        return await ipam.once(
            ipam.stub.GetSyncStatus, sync_routes_pb2.GetSyncStatusRequest(nodes=nodes)
        )
    except Failure as error:
        session.note(f"What agents have applied is not known: {error.message}")
        return None


def in_short(status: sync_routes_pb2.NodeSyncStatus | None, current: int) -> str:
    """A node's agent in a word or two."""
    if status is None:
        return "never seen"
    if not status.connected:
        return "gone"
    if status.failures:
        return f"failing ({len(status.failures)})"
    return "in sync" if status.applied.revision >= current else "behind"


def column(answer: sync_routes_pb2.GetSyncStatusResponse) -> Column[node_pb2.Node]:
    """A column that says how each node's agent is."""
    known: Mapping[str, sync_routes_pb2.NodeSyncStatus] = {
        item.node: item for item in answer.statuses
    }
    current = answer.current.revision
    return Column("AGENT", lambda item: in_short(known.get(item.name), current), wide=True)


def show(out: Output, answer: sync_routes_pb2.GetSyncStatusResponse) -> None:
    """Prints what is known of one node's agent."""
    status = next(iter(answer.statuses), None)
    current = answer.current.revision
    out.line()
    if status is None:
        out.line("Its agent has not been seen.")
        return
    out.sheet(
        fields(
            [
                ("Agent", in_short(status, current)),
                ("Version", status.agent_version),
                ("Replica", status.replica),
                ("Applied", f"revision {status.applied.revision} of {current}"),
                ("Last heard", enum_text.moment(status.update_time)),
            ]
        )
    )
    if status.failures:
        out.line()
        out.screen.table(status.failures, FAILURES, wide=out.wide)


async def realization(
    session: Session, policies: Sequence[str] = ()
) -> Mapping[str, policy_service_pb2.PolicyRealization]:
    """How far policies are, by name; empty with a note if that is not known."""
    policy = session.policy
    try:
        listed = await policy.every(
            policy.stub.GetRealization,
            policy_service_pb2.GetRealizationRequest(policies=policies),
            lambda page: page.policies,
        )
    except Failure as error:
        session.note(f"What nodes have applied is not known: {error.message}")
        return {}
    return {item.policy: item for item in listed.items}


def policy_in_short(item: policy_service_pb2.PolicyRealization | None) -> str:
    """Such as "2/3 nodes", or "failing (1)"."""
    if item is None:
        return "?"
    if item.failures:
        return f"{item.applied}/{item.needed}, failing ({len(item.failures)})"
    return f"{item.applied}/{item.needed}"
