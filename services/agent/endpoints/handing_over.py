"""Connections of endpoints that move: the node before hands them over, the node after goes
on with them.

Connection tracking is each kernel's own, and rules tell who began: a kernel that sees a packet from
the middle of a connection would drop what is an answer. What does not come in time is judged anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog

from services.agent.endpoints.parts import Parts
from services.agent.kernel.conntrack import TcpConnection
from services.agent.model import LocalEndpoint
from services.common.errors import RomanaError, WrongState
from services.common.sizes import CONNECTIONS_MOST

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

PAUSES: Final = (0.02, 0.1, 0.5)
"""Seconds: a stream may tell of a switch before the replica that made it says that it has."""


async def hand_over(parts: Parts, endpoint: LocalEndpoint, deadline: float) -> None:
    """Gives what this kernel tracks to the node that it is on now; tries its best only."""
    if parts.guard is None:
        return
    ipam, name = parts.addressing.ipam, endpoint.allocation_name
    found = await _tracked(parts, endpoint)
    try:
        await _in_time(lambda: ipam.hand_over(name, found[:CONNECTIONS_MOST], deadline))
    except RomanaError as error:
        log.warning("connections_not_handed_over", endpoint=endpoint.name, message=error.message)
    else:
        log.info("connections_handed_over", endpoint=endpoint.name, connections=len(found))


async def stay(parts: Parts, endpoint: LocalEndpoint, detach: Callable[[], Awaitable[_T]]) -> _T:
    """Detaches it; endpoints of this node go on with their connections with it."""
    if parts.guard is None:
        return await detach()
    found = await _tracked(parts, endpoint)
    done = await detach()
    here = {item.address for each in parts.standing.endpoints.values() for item in each.addresses}
    kept = [each for each in found if each.source in here or each.destination in here]
    if kept:
        await parts.guard.go_on(kept)
    return done


async def take_over(parts: Parts, endpoint: LocalEndpoint, deadline: float) -> None:
    """Goes on with what the node before had, as far as its rules allow that."""
    if parts.guard is None:
        return
    ipam, name = parts.addressing.ipam, endpoint.allocation_name
    try:
        found = await _in_time(lambda: ipam.take_over(name, deadline))
    except RomanaError as error:
        log.warning("connections_not_taken_over", endpoint=endpoint.name, message=error.message)
        return
    own = {item.address for item in endpoint.addresses}
    found = [each for each in found if each.source in own or each.destination in own]
    if found and await parts.guard.opened(endpoint.name):
        await parts.guard.go_on(found)
        log.info("connections_taken_over", endpoint=endpoint.name, connections=len(found))


async def _tracked(parts: Parts, endpoint: LocalEndpoint) -> Sequence[TcpConnection]:
    assert parts.guard is not None
    return await parts.guard.connections_of([item.address for item in endpoint.addresses])


async def _in_time(ask: Callable[[], Awaitable[_T]]) -> _T:
    for pause in PAUSES:
        try:
            return await ask()
        except WrongState as error:
            if error.reason != "NOT_MOVING":
                raise
        await asyncio.sleep(pause)
    return await ask()
