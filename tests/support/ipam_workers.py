"""Clients of ipam that go on whatever happens, and keep a journal of the answers.

A worker owns its names. It tries again with the same name on UNAVAILABLE, ABORTED and
DEADLINE_EXCEEDED, on another replica, until it gets an answer; any other refusal is noted as
unexpected. Some attempts are given up at once, so that what they asked for is done twice.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from google.rpc import code_pb2  # type: ignore[attr-defined]
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AddressSpec, AllocationSpec
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.rpc.status import DETAILS_KEY
from tests.support.hidden_ends import hides_its_end
from tests.support.ipam_process import IpamProcess
from tests.support.journal import Action, Addresses, Entry, Journal

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

AGAIN: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
AGAIN_CODES: Final = {code_pb2.UNAVAILABLE, code_pb2.ABORTED, code_pb2.DEADLINE_EXCEEDED}
PATIENCE: Final = 1.5
LONG_PATIENCE: Final = 8.0
"""Longer than a leader is paused: its answer is waited for."""
NO_PATIENCE: Final = 0.004
NAMES: Final = 14
"""Of each worker."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To one name: addresses, or to try again."""

    addresses: Addresses = ()
    existed: bool = False
    again: bool = False


class Clients:
    """One channel per replica."""

    def __init__(self, replicas: Sequence[IpamProcess]) -> None:
        self._channels = {replica.address: replica.channel() for replica in replicas}
        self.stubs: dict[str, IpamServiceAsyncStub] = {
            address: IpamServiceStub(channel) for address, channel in self._channels.items()
        }

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


@dataclass
class Worker:
    """One client."""

    number: int
    clients: Clients
    journal: Journal
    nodes: Sequence[str]
    rng: random.Random
    held: dict[str, Addresses] = field(default_factory=dict)

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until told to stop, then finishes what it does."""
        names = [f"worker{self.number:02}-{index:02}" for index in range(NAMES)]
        while not stopping.is_set():
            count = self.rng.choice((1, 1, 1, 1, 3, 6))
            chosen = self.rng.sample(names, count)
            # one that is held is asked for again at times: it must be the same then
            wanted = [name for name in chosen if name not in self.held or self.rng.random() < 0.2]
            if self.rng.random() < 0.05:
                await self._do("release", [name for name in wanted if name not in self.held])
            else:
                await self._do("allocate", wanted)
            await self._do("release", [name for name in chosen if name not in wanted])

    async def _do(self, action: Action, names: Sequence[str]) -> None:
        missing = list(names)
        began = time.monotonic()
        attempts = 0
        address = self.rng.choice(list(self.clients.stubs))
        while missing:
            attempts += 1
            answers = await self._attempt(action, missing, address)
            now = time.monotonic()
            for name, answer in answers.items():
                if answer.again:
                    continue
                missing.remove(name)
                if action == "allocate":
                    self.held[name] = answer.addresses
                else:
                    self.held.pop(name, None)
                entry = Entry(
                    name, action, began, now, attempts, address, answer.addresses, answer.existed
                )
                self.journal.add(entry)
            if missing:
                address = self.rng.choice(list(self.clients.stubs))
                await asyncio.sleep(self.rng.uniform(0, 0.05))

    async def _attempt(
        self, action: Action, names: Sequence[str], address: str
    ) -> Mapping[str, Answer]:
        """Answers by name; those that are missing were refused for good, or not answered."""
        patience = self.rng.choices((PATIENCE, LONG_PATIENCE, NO_PATIENCE), (85, 10, 5))[0]
        method = self._method(action, len(names))
        what = f"{time.monotonic():.3f} {method.__name__} {names} at {address} for {patience} s"
        self.journal.attempts[self.number] = what
        try:
            return await method(self.clients.stubs[address], names, patience)
        except grpc.aio.AioRpcError as error:
            self.journal.attempts[self.number] = f"{what}: {error.code().name} {error.details()}"
            if error.code() not in AGAIN and not _is_cut_off(error):
                self.journal.unexpected.append(
                    f"{time.monotonic()}: {action} {names} at {address}: {error.code().name}"
                    f" {error.details()}"
                )
            return {}

    def _method(
        self, action: Action, count: int
    ) -> Callable[..., Coroutine[Any, Any, dict[str, Answer]]]:
        if action == "release":
            return self._release if count == 1 else self._release_many
        if count == 1:
            return self._allocate
        return self.rng.choice((self._allocate_many, self._allocate_stream))

    async def _allocate(
        self, stub: IpamServiceAsyncStub, names: Sequence[str], timeout: float
    ) -> dict[str, Answer]:
        request = pb.AllocateAddressRequest(spec=spec_of(names[0], self.nodes))
        said = await stub.AllocateAddress(request, timeout=timeout)
        return {names[0]: Answer(tuple(item.address for item in said.allocations), said.existed)}

    async def _release(
        self, stub: IpamServiceAsyncStub, names: Sequence[str], timeout: float
    ) -> dict[str, Answer]:
        request = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name=names[0]))
        said = await stub.ReleaseAddress(request, timeout=timeout)
        return {names[0]: Answer(tuple(said.addresses))}

    async def _allocate_many(
        self, stub: IpamServiceAsyncStub, names: Sequence[str], timeout: float
    ) -> dict[str, Answer]:
        request = pb.AllocateAddressesRequest(specs=[spec_of(name, self.nodes) for name in names])
        said = await stub.AllocateAddresses(request, timeout=timeout)
        return self._results(names, said.results)

    async def _allocate_stream(
        self, stub: IpamServiceAsyncStub, names: Sequence[str], timeout: float
    ) -> dict[str, Answer]:
        """A message for each two names."""
        requests = [
            pb.AllocateStreamRequest(
                sequence=start,
                specs=[spec_of(name, self.nodes) for name in names[start : start + 2]],
            )
            for start in range(0, len(names), 2)
        ]
        found: dict[str, Answer] = {}

        async def receive() -> None:
            async for said in stub.AllocateStream(iter(requests), timeout=timeout):
                start = said.sequence
                found.update(self._results(names[start : start + 2], said.results))

        try:
            await _until(asyncio.create_task(receive()), timeout + 1)
        except grpc.aio.AioRpcError:
            if not found:
                raise
        return found

    async def _release_many(
        self, stub: IpamServiceAsyncStub, names: Sequence[str], timeout: float
    ) -> dict[str, Answer]:
        request = pb.ReleaseAddressesRequest(specs=[pb.ReleaseSpec(name=name) for name in names])
        said = await stub.ReleaseAddresses(request, timeout=timeout)
        return self._results(names, said.results)

    def _results(
        self,
        names: Sequence[str],
        results: Sequence[pb.AllocateResult | pb.ReleaseResult],
    ) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        for name, result in zip(names, results, strict=True):
            if isinstance(result, pb.AllocateResult):
                addresses = tuple(item.address for item in result.allocations)
                answer = Answer(addresses, result.existed)
            else:
                answer = Answer(tuple(result.addresses))
            if result.status.code:
                answer = Answer(again=True)
                if result.status.code not in AGAIN_CODES:
                    self.journal.unexpected.append(f"{name}: {result.status}")
            found[name] = answer
        return found


def spec_of(name: str, nodes: Sequence[str], addresses: Addresses = ()) -> AllocationSpec:
    """The same whenever it is asked for; every third name has two addresses."""
    seed = random.Random(name)
    spec = AllocationSpec(name=name, node=seed.choice(nodes), tenant=seed.choice(("blue", "green")))
    count = 2 if seed.random() < 0.3 else 1
    spec.addresses.extend(AddressSpec(address=one) for one in addresses or [""] * count)
    return spec


async def _until(task: asyncio.Task[None], seconds: float) -> None:
    """Waits for the task, and ends it when the time is over.

    A stream whose deadline passes while it begins never ends in grpc.aio's client, and its
    preparation swallows a cancellation: it takes another.
    """
    await asyncio.wait({task}, timeout=seconds)
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
    if not task.cancelled():
        await task


def _is_cut_off(error: grpc.aio.AioRpcError) -> bool:
    """What grpc says instead of UNAVAILABLE, and no server of ours ever says.

    CANCELLED, though we did not cancel: the call came while grpc shut its server down.
    """
    if DETAILS_KEY in dict(error.trailing_metadata() or ()):
        return False
    return error.code() is grpc.StatusCode.CANCELLED or hides_its_end(error)
