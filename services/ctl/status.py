"""`romana status`: are the services there, and in which state?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from grpc_health.v1 import health_pb2, health_pb2_grpc
from romana.ipam.v1 import ipam_service_pb2 as api

from services.ctl.exits import ExitCode
from services.ctl.failure import Failure
from services.ctl.output import Json, plain
from services.ctl.remote import Remote, Stub
from services.ctl.session import Session
from services.ctl.table import Column
from services.ctl.verb import single, verb

app = single()

HEALTH = {
    health_pb2.HealthCheckResponse.SERVING: "serving",
    health_pb2.HealthCheckResponse.NOT_SERVING: "not serving",
}


@dataclass(frozen=True, slots=True)
class State:
    """What a service says about itself, or why it does not."""

    service: str
    address: str
    health: str
    """Such as "serving"; "unreachable" when it does not answer."""
    round_trip_ms: float | None
    detail: api.GetStatusResponse | None
    problem: str

    @property
    def serving(self) -> bool:
        """It takes calls."""
        return self.health == "serving"


COLUMNS: tuple[Column[State], ...] = (
    Column("SERVICE", lambda item: item.service),
    Column("ADDRESS", lambda item: item.address),
    Column("HEALTH", lambda item: item.health),
    Column("MS", lambda item: _milliseconds(item.round_trip_ms), right=True),
    Column("REPLICA", lambda item: _replica(item.detail)),
    Column("REVISION", lambda item: str(item.detail.revision) if item.detail else "", right=True),
    Column("EPOCH", lambda item: item.detail.epoch if item.detail else "", wide=True),
    Column("ACTIVE AT", lambda item: item.detail.active_address if item.detail else "", wide=True),
    Column("ADDRESSES", lambda item: str(item.detail.addresses) if item.detail else "", wide=True),
    Column("BLOCKS", lambda item: str(item.detail.blocks) if item.detail else "", wide=True),
)


@verb(
    app,
    "status",
    examples="""
        romana status
        romana status -o json | jq -r '.[] | select(.health != "serving").service'
    """,
)
async def status(session: Session) -> ExitCode:
    """Asks every service for its health. Exit code 1: one does not serve; 5: not reachable."""
    topology, ipam = await asyncio.gather(_ask(session.topology), _ask_ipam(session))
    states = (topology, ipam)
    session.out.listing(
        states,
        COLUMNS,
        document=document,
        name=lambda item: item.service,
        empty="",
    )
    for state in states:
        if state.problem and not session.out.for_programs:
            session.note(state.problem)
    if any(state.health == "unreachable" for state in states):
        return ExitCode.UNREACHABLE
    return ExitCode.OK if all(state.serving for state in states) else ExitCode.NEGATIVE


def document(state: State) -> dict[str, Json]:
    """A state as JSON values; the same keys whatever the state."""
    return {
        "service": state.service,
        "address": state.address,
        "health": state.health,
        "round_trip_ms": state.round_trip_ms,
        "status": plain(state.detail) if state.detail else None,
        "problem": state.problem,
    }


async def _ask(remote: Remote[Stub]) -> State:
    """Connects first, so that the round trip is that of a call."""
    stub = health_pb2_grpc.HealthStub(remote.channel)
    try:
        answer = await remote.once(stub.Check, health_pb2.HealthCheckRequest())
        begun = time.perf_counter()
        await remote.once(stub.Check, health_pb2.HealthCheckRequest())
        spent = (time.perf_counter() - begun) * 1000
    except Failure as error:
        return State(remote.name, remote.address, "unreachable", None, None, error.message)
    word = HEALTH.get(answer.status, "unknown")
    return State(remote.name, remote.address, word, round(spent, 2), None, "")


async def _ask_ipam(session: Session) -> State:
    ipam = session.ipam
    state = await _ask(ipam)
    if state.health == "unreachable":
        return state
    try:
        detail = await ipam.once(ipam.stub.GetStatus, api.GetStatusRequest())
    except Failure as error:
        return State(
            state.service, state.address, state.health, state.round_trip_ms, None, error.message
        )
    return State(state.service, state.address, state.health, state.round_trip_ms, detail, "")


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _replica(detail: api.GetStatusResponse | None) -> str:
    if detail is None:
        return ""
    return f"{detail.replica} (active)" if detail.active else detail.replica
