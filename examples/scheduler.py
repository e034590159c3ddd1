"""A small scheduler on Romana's gRPC API, to copy from.

    python examples/scheduler.py --topology 127.0.0.1:9610 --ipam 127.0.0.1:9620 \
        --tenant qa --count 20

It waits until the topology is in sync, follows the blocks, asks for the best nodes, allocates an
address for each of its endpoints, asks for the first one again (a retry gives the same address),
shows what the API says when nothing fits, and releases everything.

Needs the packages `romana`, `grpcio` and `googleapis-common-protos`; nothing of `services`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from romana.ipam.v1 import allocation_pb2, utilization_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds for one thing that is to be done, all its attempts together."""
ATTEMPT = 3.0
"""Seconds for one attempt: an attempt that hangs must leave time for another one."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds. The pause doubles from one to the other; each is drawn at random below that."""

TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,  # away, draining, or no active replica: the same again helps
    grpc.StatusCode.ABORTED,  # lost a race or sent a stale etag: read again, then again
    grpc.StatusCode.DEADLINE_EXCEEDED,  # it may have happened: the same again finds out
}
"""After these the same request is sent again. That is safe for every method: the API is idempotent
by name. Everything else will be the same next time: a person or another node has to help."""

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),  # notices a dead peer within 20 s
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),  # an http_proxy for the world is no way to the services
)


# ---- Errors ------------------------------------------------------------------------------------


class Refused(Exception):
    """The API said no: the code, the reason for programs, and what it knows about the cause."""

    def __init__(
        self, code: grpc.StatusCode, message: str, details: Iterable[any_pb2.Any] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        self.exhaustion = utilization_pb2.Exhaustion()
        self.retry = error_details_pb2.RetryInfo()
        for detail in details:  # at most one of each; unknown ones are skipped
            for known in (self.info, self.bad_request, self.exhaustion, self.retry):
                detail.Unpack(known)  # does nothing when it is of another type

    @classmethod
    def of_call(cls, error: grpc.aio.AioRpcError) -> Refused:
        """From what a call raised: its details are a google.rpc.Status in the metadata."""
        status = status_pb2.Status()
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin" and isinstance(value, bytes):
                status = status_pb2.Status.FromString(value)
        return cls(error.code(), error.details() or error.code().name, status.details)

    @classmethod
    def of_status(cls, status: status_pb2.Status) -> Refused:
        """From the status of one item of a batch."""
        codes = {code.value[0]: code for code in grpc.StatusCode}
        return cls(codes[status.code], status.message, status.details)

    def lines(self) -> list[str]:
        """Everything it says, for people."""
        text = [f"{self.code.name} {self.info.reason or '(no reason)'}: {self}"]
        text += [
            f"  field {each.field}: {each.description}"
            for each in self.bad_request.field_violations
        ]
        for each in self.exhaustion.networks:
            word = utilization_pb2.Refusal.Name(each.refusal)
            wait = f", again in {each.retry_after_seconds} s" if each.retry_after_seconds else ""
            text.append(f"  network {each.network}: {word}{wait}")
        return text


# ---- Calls: deadlines and retries --------------------------------------------------------------


async def call(method: Callable[..., Awaitable[T]], request: object, request_id: str = "") -> T:
    """Calls a unary method, again after transient failures, within DEADLINE.

    Raises:
        Refused: It failed for good, or too often.
    """
    end = time.monotonic() + DEADLINE
    pause = FIRST_PAUSE
    metadata = (("x-request-id", request_id or uuid.uuid4().hex),)  # found in the services' logs
    while True:
        left = end - time.monotonic()
        try:
            return await method(request, timeout=min(ATTEMPT, left), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            refused = Refused.of_call(error)
        least = refused.retry.retry_delay.ToTimedelta().total_seconds()  # the server's advice
        wait = max(random.uniform(0, pause), min(least, LONGEST_PAUSE))  # noqa: S311 - jitter
        if refused.code not in TRANSIENT or time.monotonic() + wait >= end:
            raise refused
        await asyncio.sleep(wait)
        pause = min(pause * 2, LONGEST_PAUSE)


# ---- What a scheduler does ---------------------------------------------------------------------


class Scheduler:
    """Places endpoints of one tenant."""

    def __init__(self, topology: grpc.aio.Channel, ipam: grpc.aio.Channel, tenant: str) -> None:
        self._topology = TopologyServiceStub(topology)
        self._ipam = IpamServiceStub(ipam)
        self._tenant = tenant
        self.placed: dict[str, allocation_pb2.Allocation] = {}

    async def nodes(self) -> list[str]:
        """The names of all nodes, from the first transfer of a watch."""
        names: set[str] = set()
        stream = self._topology.WatchTopology(topology_api.WatchTopologyRequest(), timeout=DEADLINE)
        try:
            async for message in stream:
                names |= {node.name for node in message.updated_nodes}
                names -= set(message.removed_nodes)
                if message.in_sync:  # all there was when the stream began; go on for changes
                    break
        except grpc.aio.AioRpcError as error:
            raise Refused.of_call(error) from error
        finally:
            stream.cancel()
        return sorted(names)

    async def follow_blocks(self, in_sync: asyncio.Event, blocks: dict[str, int]) -> None:
        """Keeps `blocks`, addresses in use by block, equal to the service's, for ever.

        A stream begins with everything there is. So after a break the first transfer replaces
        what was known; nothing is ever concluded from silence.
        """
        pause = FIRST_PAUSE
        while True:
            fresh: dict[str, int] | None = {}  # until in_sync: what the first transfer holds
            try:
                async for message in self._ipam.WatchBlocks(ipam_api.WatchBlocksRequest()):
                    known = blocks if fresh is None else fresh
                    known.update({each.prefix: each.used for each in message.updated})
                    for prefix in message.removed:
                        known.pop(prefix, None)
                    if message.in_sync and fresh is not None:
                        blocks.clear()
                        blocks.update(fresh)
                        fresh, pause = None, FIRST_PAUSE
                        in_sync.set()
            except grpc.aio.AioRpcError as error:
                if error.code() not in TRANSIENT:
                    raise Refused.of_call(error) from error
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE)

    async def candidates(self) -> Sequence[utilization_pb2.NodeEvaluation]:
        """Nodes that an endpoint may go to, the best first."""
        answer: ipam_api.EvaluateNodesResponse = await call(
            self._ipam.EvaluateNodes, ipam_api.EvaluateNodesRequest(tenant=self._tenant)
        )
        return [each for each in answer.evaluations if each.fits]

    async def place(self, name: str) -> allocation_pb2.Allocation:
        """Gives an endpoint a node and an address.

        An evaluation is a hint: another scheduler may take the last address in between. So this
        goes on with the next best node when one is exhausted.
        """
        refused: Refused | None = None
        for candidate in await self.candidates():
            try:
                return await self.allocate(name, candidate.node)
            except Refused as error:
                if error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                refused = error
        raise refused or Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "no node fits")

    async def allocate(self, name: str, node: str) -> allocation_pb2.Allocation:
        """Allocates one address. The same name again gives the same address."""
        spec = allocation_pb2.AllocationSpec(name=name, node=node, tenant=self._tenant)
        answer: ipam_api.AllocateAddressResponse = await call(
            self._ipam.AllocateAddress, ipam_api.AllocateAddressRequest(spec=spec)
        )
        self.placed[name] = answer.allocations[0]
        return answer.allocations[0]

    async def release(self, names: Sequence[str]) -> int:
        """Releases names, those that have nothing included; returns how many addresses that was."""
        answer: ipam_api.ReleaseAddressesResponse = await call(
            self._ipam.ReleaseAddresses,
            ipam_api.ReleaseAddressesRequest(
                # With the tenant: a name that somebody else took meanwhile is not touched.
                specs=[ipam_api.ReleaseSpec(name=name, tenant=self._tenant) for name in names]
            ),
        )
        released = 0
        for name, result in zip(names, answer.results, strict=True):  # one per spec, in order
            if result.status.code:
                raise Refused.of_status(result.status)
            self.placed.pop(name, None)
            released += len(result.addresses)
        return released


async def run(arguments: argparse.Namespace) -> None:
    """The whole tour."""
    # With TLS: grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca, key, certificate)).
    async with (
        grpc.aio.insecure_channel(arguments.topology, options=CHANNEL_OPTIONS) as topology,
        grpc.aio.insecure_channel(arguments.ipam, options=CHANNEL_OPTIONS) as ipam,
    ):
        scheduler = Scheduler(topology, ipam, arguments.tenant)
        nodes = await scheduler.nodes()
        print(f"nodes       {', '.join(nodes)}")

        in_sync, blocks = asyncio.Event(), dict[str, int]()
        watch = asyncio.create_task(scheduler.follow_blocks(in_sync, blocks))
        try:
            await tour(scheduler, arguments, nodes, in_sync)
            print(f"watch       {len(blocks)} blocks known without asking")
        finally:
            watch.cancel()
            if scheduler.placed:
                released = await scheduler.release([*scheduler.placed])
                print(f"released    {released} addresses")


async def tour(
    scheduler: Scheduler,
    arguments: argparse.Namespace,
    nodes: Sequence[str],
    in_sync: asyncio.Event,
) -> None:
    """Evaluate, allocate, retry, be refused."""
    for each in (await scheduler.candidates())[:5]:
        where = "a new block" if each.new_block_needed else "a block it holds"
        print(f"candidate   {each.node}: {each.free_addresses} free on {each.network}, {where}")

    async with asyncio.timeout(DEADLINE):
        await in_sync.wait()
    run_id = uuid.uuid4().hex[:8]
    names = [f"example-{run_id}-{number}" for number in range(arguments.count)]
    await asyncio.gather(*(scheduler.place(name) for name in names))
    by_node = Counter(allocation.node for allocation in scheduler.placed.values())
    spread = ", ".join(f"{count} on {node}" for node, count in sorted(by_node.items()))
    print(f"allocated   {len(scheduler.placed)} addresses: {spread}")

    first = scheduler.placed[names[0]]
    again = await scheduler.allocate(names[0], first.node)
    print(f"retry       {again.name} has {again.address} (before: {first.address})")

    unfit = sorted({*nodes} - {each.node for each in await scheduler.candidates()})
    for node in unfit[:1]:
        try:
            await scheduler.allocate(f"{names[0]}-elsewhere", node)
        except Refused as error:
            print("refused     " + "\n            ".join(error.lines()))
    try:
        await scheduler.allocate("", "")
    except Refused as error:
        print("invalid     " + "\n            ".join(error.lines()))


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="A small scheduler on Romana's gRPC API.")
    parser.add_argument("--topology", default="127.0.0.1:9610", metavar="HOST:PORT")
    parser.add_argument("--ipam", default="127.0.0.1:9620", metavar="HOST:PORT")
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--count", type=int, default=20)
    try:
        asyncio.run(run(parser.parse_args()))
    except Refused as error:
        sys.stderr.write("\n".join(error.lines()) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
