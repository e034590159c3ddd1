"""An attach: five steps in order, each with its undo.

    begun > allocated > linked > placed > attached

*Begun* is written before anything is done, and *attached* before the caller is answered. What is
between them needs no record: links are named by the endpoint's name and ipam allocates by it, so
that whoever finds *begun* after a crash can undo all of it.

A container waits for its attach, so what can go on at once does: the pair is made while ipam
allocates, and *attached* is written while the routes are. Whoever finds that after a crash in
between finds an endpoint that is whole but for them. A loss of power takes all links and namespaces
with it, so *attached* has to survive one, since its caller was answered, and *begun* has not.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.agent.endpoints import detach
from services.agent.endpoints.ipam_client import Given
from services.agent.endpoints.parts import Parts
from services.agent.endpoints.spec import (
    EndpointSpec,
    Record,
    Stage,
    local_endpoint,
    unreachable_routes,
    unusable_interface,
    wiring,
)
from services.agent.endpoints.steps import Step, take_steps
from services.agent.kernel import endpoint_names
from services.agent.model import EndpointAddress, LocalEndpoint
from services.common.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    RomanaError,
    Unavailable,
    WrongState,
)
from services.common.model.names import NetworkName

log = structlog.get_logger(__name__)

HELD_MOST: Final = 5
"""Addresses in a row that are in use on this node and that ipam gives to somebody else."""


async def attach(parts: Parts, spec: EndpointSpec, deadline: float) -> Record:
    """Takes the steps at the end of this module; whatever was begun is undone when one fails."""
    attempt = Attempt(parts, spec, deadline)
    begun = time.monotonic()
    reached: dict[str, int] = {}

    def passed(step: str) -> None:
        reached[step] = round((time.monotonic() - begun) * 1000)
        parts.passed(step)

    try:
        await take_steps(STEPS, attempt, deadline, passed)
    except Exception as error:
        _leave_to_recovery(parts, spec)
        if not isinstance(error, TimeoutError):
            raise
        raise Unavailable(
            f"{spec.name!r} could not be attached in time: "
            + ("; ".join(parts.reconciler.reasons) or "the node is busy"),
            "ATTACH_TIMEOUT",
        ) from error
    log.info(
        "endpoint_attached",
        endpoint=spec.name,
        interface=attempt.made.host_interface,
        addresses=[str(item.address) for item in attempt.made.addresses],
        milliseconds=reached,
    )
    return attempt.attached


def _leave_to_recovery(parts: Parts, spec: EndpointSpec) -> None:
    """What could not be undone is gone on with as a detach."""
    record = parts.records.all.get(spec.name)
    if record is not None and record.stage is Stage.BEGUN:
        parts.records.adopt(Record(spec, Stage.DETACHING))
        parts.unfinished.set()


@dataclass(slots=True)
class Attempt:
    """One attach: what its steps tell each other."""

    parts: Parts
    spec: EndpointSpec
    deadline: float
    may_have_addresses: bool = False
    """Ipam may have allocated."""
    addresses: tuple[EndpointAddress, ...] = ()
    arriving: bool = False
    """It is on another node, and moves to this one."""
    may_have_link: bool = False
    prepared: tuple[frozenset[NetworkName], int] | None = None
    """The pair is there, for endpoints on these networks, with this MTU."""
    endpoint: LocalEndpoint | None = None
    """Once it is linked."""

    @property
    def made(self) -> LocalEndpoint:
        """The endpoint, in the steps after it is linked."""
        assert self.endpoint is not None
        return self.endpoint

    @property
    def attached(self) -> Record:
        """What is written of it when it is attached."""
        return Record(self.spec, Stage.ATTACHED, self.made)

    def local_endpoint(self, mtu: int) -> LocalEndpoint:
        """The endpoint that is being made."""
        spec = self.spec
        pair = bool(spec.namespace)
        return local_endpoint(
            spec,
            self.addresses,
            host_interface=endpoint_names.host_interface(spec.name) if pair else spec.interface,
            mac=(spec.mac or endpoint_names.mac_address(spec.name)) if pair else "",
            mtu=mtu,
            create_time=int(self.parts.now()),
            instance=self.parts.draw(),
            moves=self.arriving,
        )


# 1. begun: the journal knows of it.


async def _begin(attempt: Attempt) -> None:
    if not attempt.parts.reconciler.in_sync:
        await attempt.parts.reconciler.reached()  # the node's networks are not known before
    await attempt.parts.records.write(Record(attempt.spec, Stage.BEGUN), durable=False)


async def _forget(attempt: Attempt) -> None:
    record = attempt.parts.records.all.get(attempt.spec.name)
    if record is not None and record.stage is Stage.BEGUN:  # else somebody goes on with it
        await attempt.parts.records.forget(attempt.spec.name)


# 2. allocated: it has addresses that no other endpoint on this node has in use, whatever ipam says.


async def _allocate(attempt: Attempt) -> None:
    parts, spec = attempt.parts, attempt.spec
    for _ in range(HELD_MOST):
        attempt.may_have_addresses = True
        try:
            given = await _give(attempt)
        except Unavailable:
            raise  # it may have been done all the same
        except RomanaError:
            attempt.may_have_addresses = False
            raise
        holders = parts.standing.holders(given.addresses, spec.name)
        if not holders:
            attempt.addresses, attempt.arriving = given.addresses, given.arriving
            return
        if any(holder.allocation_name == spec.allocation_name for holder in holders):
            attempt.may_have_addresses = False  # they are both's
            raise Conflict(
                f"the addresses of {spec.name!r} are still those of {holders[0].name!r}",
                "ADDRESS_HELD",
                {"name": holders[0].name},
            )
        await parts.addressing.ipam.release(spec, attempt.deadline)
        for holder in holders:
            log.warning("address_held", endpoint=holder.name, wanted_by=spec.name)
            await parts.ownership.claim(holder)
    raise WrongState(
        f"ipam gives addresses to {spec.name!r} that {holders[0].name!r} has on this node",
        "ADDRESS_HELD",
        {"name": holders[0].name},
    )


async def _give(attempt: Attempt) -> Given:
    """A pod whose sandbox before, or whose predecessor of the same name, asked for others gets
    those that are wanted now: nobody on this node has what is left under the name."""
    parts, spec = attempt.parts, attempt.spec
    try:
        return await parts.addressing.give(spec, attempt.deadline)
    except AlreadyExists:
        name = spec.allocation_name
        others = (one.spec for one in parts.records.all.values() if one.spec.name != spec.name)
        if not spec.container or any(one.allocation_name == name for one in others):
            raise
        if await parts.addressing.ipam.find(name, attempt.deadline) is None:
            raise  # they are on another node
        released = await parts.addressing.ipam.release_name(name, attempt.deadline)
    log.info("addresses_not_wanted", endpoint=spec.name, released=released)
    return await parts.addressing.give(spec, attempt.deadline)


async def _give_back(attempt: Attempt) -> None:
    if attempt.may_have_addresses:
        await detach.give_back(attempt.parts, Record(attempt.spec, Stage.DETACHING))


# 3. linked: its link is there, closed if there is policy.


async def _prepare_link(attempt: Attempt) -> None:
    """Makes the pair, down and without addresses, if it is known which networks they will be of."""
    parts, spec = attempt.parts, attempt.spec
    networks = parts.addressing.networks(spec) if spec.namespace else frozenset()
    if not networks:
        return
    attempt.may_have_link = True
    mtu = await parts.addressing.mtu(spec.mtu, networks)
    endpoint = attempt.local_endpoint(mtu)
    if parts.guard is not None:
        await parts.guard.close_to(endpoint.name, endpoint.host_interface)
    await parts.links.prepare(wiring(endpoint))
    attempt.prepared = networks, mtu


async def _link(attempt: Attempt) -> None:
    parts = attempt.parts
    wrong = [
        *unreachable_routes(attempt.spec, attempt.addresses),
        *unusable_interface(attempt.spec, parts.addressing.interfaces),
    ]
    if wrong:
        raise InvalidInput.of(wrong)
    networks = frozenset(item.network for item in attempt.addresses)
    attempt.may_have_link = True
    if attempt.prepared is not None and attempt.prepared[0] == networks:
        endpoint = attempt.local_endpoint(attempt.prepared[1])
        beside = await parts.links.complete(wiring(endpoint))
        attempt.endpoint = replace(endpoint, beside=beside)
    else:
        mtu = await parts.addressing.mtu(attempt.spec.mtu, networks)
        attempt.endpoint = await make_link(parts, attempt.local_endpoint(mtu))


async def _take_link_away(attempt: Attempt) -> None:
    if attempt.may_have_link:
        await detach.unlink(attempt.parts, Record(attempt.spec, Stage.DETACHING, attempt.endpoint))


# 4. placed: the kernel has routes to it, and its rules.


async def _place(attempt: Attempt) -> None:
    parts, endpoint = attempt.parts, attempt.made
    parts.standing.put(endpoint)
    failures = await parts.reconciler.reached()
    failure = failures.get(f"endpoint/{endpoint.name}")
    if failure is not None:
        raise WrongState(f"the kernel does not take {endpoint.name!r}: {failure}", "NOT_REALIZED")
    if parts.guard is not None:
        await parts.guard.opened(endpoint.name)
    if not attempt.arriving:
        await parts.addressing.announce(endpoint.addresses)


async def _displace(attempt: Attempt) -> None:
    attempt.parts.standing.drop(attempt.spec.name)


# 5. attached: the disk says so, and then everybody else.


async def _write_attached(attempt: Attempt) -> None:
    await attempt.parts.records.keep(attempt.attached)


async def _become_attached(attempt: Attempt) -> None:
    attempt.parts.records.adopt(attempt.attached)


async def _write_detaching(attempt: Attempt) -> None:
    """The disk may say that it is attached: not while its addresses are given back."""
    with contextlib.suppress(WrongState):  # dropping the record works
        await attempt.parts.records.write(Record(attempt.spec, Stage.DETACHING))


STEPS: Final = (
    Step("begun", _begin, undo=_forget),
    Step("allocated", _allocate, undo=_give_back),
    Step("linked", _link, undo=_take_link_away, ahead=_prepare_link),
    Step("placed", _place, undo=_displace),
    Step("attached", _become_attached, undo=_write_detaching, ahead=_write_attached),
)


async def make_link(parts: Parts, endpoint: LocalEndpoint) -> LocalEndpoint:
    """Makes the link of an endpoint, or prepares that of a VM; closed, if there is policy."""
    if parts.guard is not None:
        await parts.guard.close_to(endpoint.name, endpoint.host_interface)
    if endpoint.namespace:
        return replace(endpoint, beside=await parts.links.make(wiring(endpoint)))
    await parts.links.adopt(wiring(endpoint))
    return endpoint
