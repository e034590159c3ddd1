"""What the benchmarks of ipam stand on: an etcd, replicas, requests, and load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Protocol

import grpc.aio
from google.protobuf.message import Message
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.etcd import messages
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.etcd.types import Put
from services.common.model.layout import Layout
from services.common.model.node import Node
from services.common.records.blocks import BlockPage, PageUse, encode
from services.common.rpc.options import CLIENT_OPTIONS
from tests.bench import h2
from tests.support import topologies
from tests.support.ipam_process import IpamProcess, seed

SERVICE: Final = "/romana.ipam.v1.IpamService/"
ALLOCATE: Final = SERVICE + "AllocateAddress"
ALLOCATE_MANY: Final = SERVICE + "AllocateAddresses"
ALLOCATE_STREAM: Final = SERVICE + "AllocateStream"
RELEASE_MANY: Final = SERVICE + "ReleaseAddresses"
NOOP: Final = "/grpc.health.v1.Health/Check"
ETCD_PUT: Final = "/etcdserverpb.KV/Put"
ETCD_TXN: Final = "/etcdserverpb.KV/Txn"
DOCUMENTS: Final = 127
"""In one transaction, as ipam has at most beside the write of `Keys.commit`."""


@dataclass(slots=True)
class World:
    """One etcd, on disk."""

    folder: Path
    etcd: LocalEtcd
    client: EtcdClient

    async def replica(self, site: Site, root: str, name: str) -> IpamProcess:
        """A replica on a topology of its own, not started."""
        await seed(self.client, Keys(root), site.layout(), site.node_list())
        return IpamProcess([self.etcd.endpoint], root, self.folder, name=name)


@dataclass(frozen=True, slots=True)
class Site:
    """A network of four racks, and nodes spread over them."""

    nodes: int
    block_length: int = 29

    @property
    def names(self) -> Sequence[str]:
        return [f"node-{number:04}" for number in range(self.nodes)]

    def layout(self) -> Layout:
        net = topologies.network("net", "10.0.0.0/8", self.block_length)
        parts = net.cidr.subnets(2)
        groups = {f"rack-{rack}": {"net": str(part)} for rack, part in enumerate(parts)}
        return topologies.layout([net], groups)

    def node_list(self) -> Sequence[Node]:
        first = IPv4Address("192.168.0.1")
        return [
            topologies.node(name, f"rack-{number % 4}", address=str(first + number))
            for number, name in enumerate(self.names)
        ]


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="romana-bench-") as text:
        folder = Path(text)
        etcd = LocalEtcd(folder / "etcd")
        await etcd.start()
        try:
            async with EtcdClient([etcd.endpoint], timeout=30) as client:
                yield World(folder, etcd, client)
        finally:
            etcd.stop()


@contextlib.asynccontextmanager
async def running(replica: IpamProcess) -> AsyncIterator[IpamProcess]:
    """Starts a replica, waits until it decides, and ends it."""
    replica.start()
    try:
        await replica.wait_until_active()
        yield replica
        await replica.stop()
    finally:
        replica.kill()


class Running(Protocol):
    """A process, of whatever kind."""

    @property
    def pid(self) -> int | None: ...


def processor_seconds(process: Running) -> float:
    """Time that it has computed so far, in ticks of 10 ms."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(process: Running) -> int:
    """Bytes of memory that it has."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


# Requests.


def spec(name: str, node: str) -> AllocationSpec:
    return AllocationSpec(name=name, node=node, tenant="default", segment="web")


def names(count: int, start: int = 0) -> list[str]:
    return [f"pod-{number:09}.eth0" for number in range(start, start + count)]


def dense(site: Site, what: Sequence[str], size: int) -> list[list[AllocationSpec]]:
    """Messages of `size` specs, each for one node: a scheduler fills one node after another."""
    return [
        [spec(name, site.names[number % site.nodes]) for name in what[start : start + size]]
        for number, start in enumerate(range(0, len(what), size))
    ]


def scattered(site: Site, what: Sequence[str], size: int) -> list[list[AllocationSpec]]:
    """Messages of `size` specs, each spec for another node than the one before."""
    everything = [spec(name, site.names[at % site.nodes]) for at, name in enumerate(what)]
    return [everything[start : start + size] for start in range(0, len(what), size)]


def stream_messages(batches: Iterable[Sequence[AllocationSpec]]) -> list[bytes]:
    return [
        pb.AllocateStreamRequest(sequence=number, specs=specs).SerializeToString()
        for number, specs in enumerate(batches, 1)
    ]


def batch_messages(batches: Iterable[Sequence[AllocationSpec]]) -> list[bytes]:
    return [pb.AllocateAddressesRequest(specs=specs).SerializeToString() for specs in batches]


def release_messages(what: Sequence[str], size: int) -> list[bytes]:
    return [
        pb.ReleaseAddressesRequest(
            specs=[pb.ReleaseSpec(name=name) for name in what[start : start + size]]
        ).SerializeToString()
        for start in range(0, len(what), size)
    ]


# Load.


async def stream(address: str, requests: Sequence[bytes], in_flight: int) -> h2.Load:
    """One AllocateStream; raw bytes on both sides, so that the client costs little."""
    answers: list[bytes] = []
    latencies: list[float] = []
    room = asyncio.Semaphore(in_flight)
    sent: list[float] = []
    async with grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS) as channel:
        await channel.channel_ready()
        call = channel.stream_stream(ALLOCATE_STREAM)()

        async def write() -> None:
            for request in requests:
                await room.acquire()
                sent.append(time.perf_counter())
                await call.write(request)
            await call.done_writing()

        begin = time.perf_counter()
        writer = asyncio.create_task(write())
        async for answer in call:
            latencies.append(time.perf_counter() - sent[len(answers)])
            answers.append(answer)
            room.release()
        seconds = time.perf_counter() - begin
        await writer
    return h2.Load(seconds, latencies, answers)


async def fill(address: str, batches: Iterable[Sequence[AllocationSpec]]) -> None:
    """Allocates, by stream, and checks every answer."""
    done = await stream(address, stream_messages(batches), 8)
    check([pb.AllocateStreamResponse.FromString(answer) for answer in done.answers])


Answer = pb.AllocateStreamResponse | pb.AllocateAddressesResponse


def check(answers: Iterable[Answer]) -> int:
    """Every spec got an address of its own; returns how many."""
    seen: set[str] = set()
    count = 0
    for answer in answers:
        for result in answer.results:
            assert result.status.code == 0, result
            assert not result.existed, result
            seen.update(item.address for item in result.allocations)
            count += 1
    assert len(seen) == count
    return count


# The store alone.


def document(number: int) -> Put:
    """A block page with eight addresses in use, as ipam writes it."""
    used = tuple(PageUse(at, f"pod-{number * 8 + at:09}.eth0", 1_790_000_000) for at in range(8))
    page = BlockPage(29, "node-0000", "default", "web", number, 0, used)
    return Put(f"/raw/ipam/blocks/net/{number:08x}/0000", encode(page))


def raw_transactions(count: int) -> list[bytes]:
    """Transactions of as many documents as ipam puts into one."""
    return [
        serialized(
            messages.transaction((), [document(at) for at in range(start, start + DOCUMENTS)], ())
        )
        for start in range(0, count * DOCUMENTS, DOCUMENTS)
    ]


def raw_puts(count: int) -> list[bytes]:
    """One document each."""
    return [serialized(messages.transaction((), (document(at),), ())) for at in range(count)]


def serialized(message: Message) -> bytes:
    return message.SerializeToString()


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def load_average() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
