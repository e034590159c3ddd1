"""A detach: three steps, which are only ever taken forward.

    detaching > unlinked > released

*Detaching* is written first, so that whoever finds it, after a crash or when ipam is back, can
finish: all of it is repeatable. A loss of power takes the link away by itself, and must not bring
an old *attached* back for an address that is another's by then: so the record is made durable
before the addresses are given back, while the kernel takes the link away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from services.agent.endpoints.parts import Parts
from services.agent.endpoints.spec import Record, Stage, unknown, wiring
from services.agent.kernel import endpoint_names
from services.common.errors import RomanaError, WrongState
from services.common.model.names import EndpointName
from services.common.own_task import in_own_task

log = structlog.get_logger(__name__)

GIVE_BACK_SECONDS: Final = 3.0
"""For ipam to take addresses back; later that goes on by itself."""
SETTLE_SECONDS: Final = 2.0
"""For the reconciler to take routes away before their address is given back."""


async def detach(parts: Parts, name: EndpointName) -> tuple[str, ...]:
    """Takes an endpoint away, if there is one; returns the addresses that were given back."""
    record = parts.records.all.get(name)
    if record is None:
        # a journal that was lost: the link's name and ipam still know it
        await parts.links.delete(endpoint_names.host_interface(name))
        parts.standing.drop(name)
        return await give_back(parts, Record(unknown(name), Stage.DETACHING))
    record = await _write_detaching(parts, record)
    parts.passed("detaching")
    released = await finish(parts, record)
    log.info("endpoint_detached", endpoint=name, released=released)
    return released


async def finish(parts: Parts, record: Record) -> tuple[str, ...]:
    """Does what remains of a detach, when *detaching* is written."""
    name = record.spec.name
    parts.standing.drop(name)
    await in_own_task(_sync_and_unlink(parts, record), "unlink")
    parts.passed("unlinked")
    _doubt_those_beside(parts, record)
    await _let_go(parts)
    return await give_back(parts, record)


async def _sync_and_unlink(parts: Parts, record: Record) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.records.sync(record.spec.name))
        group.create_task(unlink(parts, record))


async def _write_detaching(parts: Parts, record: Record) -> Record:
    if record.stage is Stage.DETACHING:
        return record
    record = Record(record.spec, Stage.DETACHING, record.endpoint)
    try:
        await parts.records.write(record, durable=False)
    except WrongState as error:  # a disk that is broken must not keep a container
        log.error("detach_not_noted", endpoint=record.spec.name, message=error.message)  # noqa: TRY400
        parts.records.adopt(record)
    return record


async def unlink(parts: Parts, record: Record) -> None:
    """Takes the link away, or lets go of a VM's interface; repeatable."""
    spec, endpoint = record.spec, record.endpoint
    if spec.namespace:
        await parts.links.delete(endpoint_names.host_interface(spec.name))
        if endpoint is not None and endpoint.beside:
            await parts.links.unroute(wiring(endpoint))
    elif spec.interface:
        await parts.links.disown(spec.interface)
    if parts.guard is not None:
        parts.guard.gone(spec.name)


async def _let_go(parts: Parts) -> None:
    """Waits until an address that is handed out again is not answered for here any more."""
    if parts.reconciler.in_sync:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await parts.reconciler.reached()
    if parts.guard is not None:
        await parts.guard.ended()  # whoever has the address next begins its own


async def give_back(parts: Parts, record: Record) -> tuple[str, ...]:
    """Releases in ipam and forgets; keeps the record for later if ipam is away.

    What has a name of the orchestrator's own in ipam is the orchestrator's to give back.
    """
    name = record.spec.name
    if record.spec.allocation or parts.keeps(name):
        await parts.records.forget(name)
        return ()
    deadline = asyncio.get_running_loop().time() + GIVE_BACK_SECONDS
    try:
        released = await parts.addressing.ipam.release(record.spec, deadline)
    except WrongState:
        released = ()  # another node's, or another owner's: not ours to release
    except RomanaError as error:
        log.warning("release_postponed", endpoint=name, message=error.message)
        if parts.records.all.get(name) != record:
            await parts.records.write(record)
        parts.unfinished.set()
        return ()
    parts.passed("released")
    await parts.records.forget(name)
    return released


def _doubt_those_beside(parts: Parts, record: Record) -> None:
    """Others in the namespace may have been beside this one's default route."""
    found = [
        endpoint.name
        for endpoint in parts.standing.endpoints.values()
        if endpoint.beside and endpoint.namespace == record.spec.namespace
    ]
    if found:
        parts.doubtful.update(found)
        parts.unfinished.set()
