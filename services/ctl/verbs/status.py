"""`romana status`: are the services there, and in which state?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from grpc.aio import UnaryUnaryMultiCallable
from grpc_health.v1 import health_pb2, health_pb2_grpc
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.topology.v1 import topology_service_pb2 as topology_api

from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import Column
from services.ctl.calls.remote import Remote, Stub
from services.ctl.calls.session import Session
from services.ctl.calls.verb import single, verb
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure
from services.ctl.views.output import Json

app = single()

HEALTH = {
    health_pb2.HealthCheckResponse.SERVING: "serving",
    health_pb2.HealthCheckResponse.NOT_SERVING: "not serving",
}

Detail: TypeAlias = (
    ipam_api.GetStatusResponse | topology_api.GetStatusResponse | policy_api.GetStatusResponse
)
Req = TypeVar("Req")
AnyDetail = TypeVar(
    "AnyDetail",
    ipam_api.GetStatusResponse,
    topology_api.GetStatusResponse,
    policy_api.GetStatusResponse,
)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What a service says about itself, or why it does not."""

    service: str
    address: str
    health: str
    """Such as "serving"; "unreachable" when it does not answer."""
    round_trip_ms: float | None = None
    detail: Detail | None = None
    """None: it does not say; `problem` says why."""
    problem: str = ""
    hint: str = ""

    @property
    def serving(self) -> bool:
        """It takes calls."""
        return self.health == "serving"


COLUMNS: tuple[Column[ServiceState], ...] = (
    Column("SERVICE", lambda item: item.service),
    Column("ADDRESS", lambda item: item.address),
    Column("HEALTH", lambda item: item.health),
    Column("ROLE", lambda item: _role(item.detail)),
    Column("MS", lambda item: _milliseconds(item.round_trip_ms), right=True),
    Column("VERSION", lambda item: item.detail.version if item.detail else ""),
    Column("REVISION", lambda item: _revision(item.detail), right=True),
    Column("HOLDS", lambda item: _holds(item.detail), wide=True),
    Column("UNREADABLE", lambda item: _unreadable(item.detail), wide=True),
    Column("ACTIVE AT", lambda item: _active_address(item.detail), wide=True),
    Column("REPLICA", lambda item: item.detail.replica if item.detail else "", wide=True),
    Column("EPOCH", lambda item: item.detail.epoch if item.detail else "", wide=True),
)


@verb(
    app,
    "status",
    examples="""
        romana status
        romana status -o json | jq -r '.[] | select(.health != "serving").service'
        romana status -o json | jq -r '.[] | [.service, .status.version, .status.revision] | @tsv'
    """,
)
async def status(session: Session) -> ExitCode:
    """Asks all replicas for their health. Exit code 1: one does not serve; 5: not reachable."""
    topology, ipam, policy = session.topology, session.ipam, session.policy
    states = await asyncio.gather(
        *(
            _ask(one, one.stub.GetStatus, topology_api.GetStatusRequest())
            for one in session.replicas(topology)
        ),
        *(
            _ask(one, one.stub.GetStatus, ipam_api.GetStatusRequest())
            for one in session.replicas(ipam)
        ),
        *(
            _ask(one, one.stub.GetStatus, policy_api.GetStatusRequest())
            for one in session.replicas(policy)
        ),
    )
    session.out.listing(
        states,
        COLUMNS,
        document=document,
        name=lambda item: item.service,
        empty="",
    )
    for state in states:
        if state.problem and not session.out.for_programs:
            named = "" if state.problem.startswith(state.service) else f"{state.service}: "
            session.note(f"{named}{state.problem}")
            if state.hint:
                session.note(f"Hint: {state.hint}")
        if state.detail and state.detail.unreadable and not session.out.for_programs:
            records = count(len(state.detail.unreadable), "record")
            session.note(f"{state.service} cannot read {records} of etcd: see -o wide")
        if isinstance(state.detail, policy_api.GetStatusResponse) and state.detail.disputed:
            for claim in state.detail.disputed if not session.out.for_programs else ():
                session.note(f"policy does not believe an agent: {claim}")
    if any(state.health == "unreachable" for state in states):
        return ExitCode.UNREACHABLE
    return ExitCode.OK if all(state.serving for state in states) else ExitCode.NEGATIVE


def document(state: ServiceState) -> dict[str, Json]:
    """A state as JSON values; the same keys whatever the state.

    `status` is the service's GetStatusResponse, null if it gave none; `replica`, `version`, `epoch`
    and `revision` are in that of every service.
    """
    return {
        "service": state.service,
        "address": state.address,
        "health": state.health,
        "round_trip_ms": state.round_trip_ms,
        "status": plain(state.detail) if state.detail else None,
        "problem": state.problem,
    }


async def _ask(
    remote: Remote[Stub], method: UnaryUnaryMultiCallable[Req, AnyDetail], request: Req
) -> ServiceState:
    """Connects first, so that the round trip is that of a call."""
    health = health_pb2_grpc.HealthStub(remote.channel)
    state = ServiceState(remote.name, remote.address, "unreachable")
    try:
        answer = await remote.once(health.Check, health_pb2.HealthCheckRequest())
        begun = time.perf_counter()
        await remote.once(health.Check, health_pb2.HealthCheckRequest())
        spent = (time.perf_counter() - begun) * 1000
    except Failure as error:
        return replace(state, problem=error.message, hint=error.hint)
    state = replace(
        state, health=HEALTH.get(answer.status, "unknown"), round_trip_ms=round(spent, 2)
    )
    try:
        detail = await remote.once(method, request)
    except Failure as error:
        return replace(state, problem=error.message, hint=error.hint)
    return replace(state, detail=detail)


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _role(detail: Detail | None) -> str:
    if detail is None:
        return ""
    if isinstance(detail, ipam_api.GetStatusResponse):
        return "active" if detail.active else "standby"
    return "replica"  # any of them writes


def _active_address(detail: Detail | None) -> str:
    return detail.active_address if isinstance(detail, ipam_api.GetStatusResponse) else ""


def _unreadable(detail: Detail | None) -> str:
    return ", ".join(detail.unreadable) if detail is not None else ""


def _revision(detail: Detail | None) -> str:
    return "" if detail is None else str(detail.revision or "-")


def _holds(detail: Detail | None) -> str:
    if detail is None:
        return ""
    if not detail.revision:
        return "not known: it has not read the store"
    if isinstance(detail, topology_api.GetStatusResponse):
        held = {"network": detail.networks, "group": detail.groups, "node": detail.nodes}
    elif isinstance(detail, ipam_api.GetStatusResponse):
        held = {"address": detail.addresses, "block": detail.blocks}
    else:
        held = {"policy": detail.policies, "endpoint": detail.endpoints, "agent": detail.agents}
    return ", ".join(count(number, noun) for noun, number in held.items())
