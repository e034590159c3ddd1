"""The console with 5,000 nodes and 300,000 addresses in use, beside a plain client of the watches.

*known* is from the start of the console's process until it shows everything; the plain client reads
both watches to the end, in a process that runs already. *first paint* is the data of the first view
of a network, as a browser asks for it; *change* is from the answer to an allocation until a browser
was told by an event, and until it read the data of the view again; the plain client's is until the
watch brought it, which may be before the answer.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import httpx2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.allocation_pb2 import AllocationSpec
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.etcd.keys import Keys
from services.common.rpc.channel import open_channel
from tests.bench.report import Row
from tests.bench.world import Site, World, fill, median, names, spec, world
from tests.support import console_site
from tests.support.ipam_process import seed

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

TITLE = "the console"
ROOT = "/console"
PAINT_AIM, CHANGE_AIM, MEMORY_AIM = 2.0, 0.3, 300


async def measure(*, quick: bool) -> list[Row]:
    nodes, addresses, rounds = (30, 2_400, 3) if quick else (5_000, 300_000, 20)
    async with world() as there:
        with tempfile.TemporaryDirectory(prefix="romana-bench-console-") as folder:
            return await compare(there, Site(nodes=nodes), addresses, rounds, Path(folder))


async def compare(there: World, site: Site, count: int, rounds: int, folder: Path) -> list[Row]:
    await seed(there.client, Keys(ROOT), site.layout(), site.node_list())
    parts = console_site.Site(there.etcd.endpoint, ROOT, folder)
    try:
        for name in console_site.SERVICES:
            parts.start(name)
        async with (
            open_channel(parts.address("ipam")) as ipam,
            open_channel(parts.address("topology")) as topology,
        ):
            stub = IpamServiceStub(ipam)
            await deciding(stub, site)
            await fill(parts.address("ipam"), batches(site, count))
            plain = await read_all(stub, topology)
            begin = time.monotonic()
            parts.start("console")
            await asyncio.to_thread(parts.until, parts.is_known, "the console", 120)
            known = time.monotonic() - begin
            return [
                Row("known", f"{known:.2f} s", f"plain client: {plain:.2f} s", known / plain),
                *await paint(parts, rounds),
                *await change(parts, stub, site, rounds),
                memory(parts),
            ]
    finally:
        for name in ("console", *console_site.SERVICES):
            parts.kill(name)


def batches(site: Site, count: int) -> list[list[AllocationSpec]]:
    """One for each node."""
    each = count // site.nodes
    return [
        [spec(name, node) for name in names(each, number * each)]
        for number, node in enumerate(site.names)
    ]


async def deciding(stub: IpamServiceAsyncStub, site: Site) -> None:
    """Waits until ipam gives addresses."""
    end = time.monotonic() + 60
    request = ipam_api.AllocateAddressRequest(spec=spec("first", site.names[0]))
    while True:
        try:
            await stub.AllocateAddress(request, wait_for_ready=True)
        except grpc.aio.AioRpcError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def read_all(stub: IpamServiceAsyncStub, topology: Any) -> float:
    """Seconds in which both watches are read to where they are in sync."""
    begin = time.monotonic()
    async for message in TopologyServiceStub(topology).WatchTopology(
        topology_api.WatchTopologyRequest()
    ):
        if message.in_sync:
            break
    async for blocks in stub.WatchBlocks(ipam_api.WatchBlocksRequest()):
        if blocks.in_sync:
            break
    return time.monotonic() - begin


async def paint(parts: console_site.Site, rounds: int) -> list[Row]:
    seconds: dict[str, list[float]] = {"/api/overview": [], "/api/map/net": [], "/": []}
    async with httpx2.AsyncClient(base_url=parts.url, trust_env=False, timeout=30) as client:
        for _ in range(rounds):
            for path, taken in seconds.items():
                begin = time.perf_counter()
                (await client.get(path)).raise_for_status()
                taken.append(time.perf_counter() - begin)
    data = median(seconds["/api/overview"]) + median(seconds["/api/map/net"])
    page = median(seconds["/"])
    return [
        Row(
            "first paint: overview and map",
            f"{data * 1000:.1f} ms",
            f"the page itself: {page * 1000:.1f} ms",
            data / page,
            f"<= {PAINT_AIM:.0f} s",
            data <= PAINT_AIM,
        )
    ]


async def change(
    parts: console_site.Site, stub: IpamServiceAsyncStub, site: Site, rounds: int
) -> list[Row]:
    """Allocations one after the other, each seen both ways."""
    event: list[float] = []
    console: list[float] = []
    plain: list[float] = []
    watch = stub.WatchBlocks(ipam_api.WatchBlocksRequest())
    async for message in watch:
        if message.in_sync:
            break
    async with (
        httpx2.AsyncClient(base_url=parts.url, trust_env=False, timeout=30) as client,
        client.stream("GET", "/api/events") as events,
    ):
        lines = events.aiter_lines()
        await anext(line async for line in lines if line == "event: ready")
        for number, node in enumerate(site.names[:rounds]):
            await asyncio.sleep(0.3)  # the events before it have been read
            wanted = spec(f"seen-{number}", node)
            done = await stub.AllocateAddress(ipam_api.AllocateAddressRequest(spec=wanted))
            begin = time.perf_counter()
            block = done.allocations[0].block
            async for message in watch:
                if any(each.prefix == block for each in message.updated):
                    break
            plain.append(time.perf_counter() - begin)
            await anext(line async for line in lines if "map/net" in line)
            event.append(time.perf_counter() - begin)
            (await client.get("/api/map/net")).raise_for_status()
            console.append(time.perf_counter() - begin)
    watch.cancel()
    base = median(plain)
    return [
        Row(
            name,
            f"{found * 1000:.0f} ms",
            f"plain client: {base * 1000:.1f} ms",
            found / base,
            f"<= {CHANGE_AIM} s",
            found <= CHANGE_AIM,
        )
        for name, found in (
            ("change: event", median(event)),
            ("change: event and map", median(console)),
        )
    ]


def memory(parts: console_site.Site) -> Row:
    status = Path(f"/proc/{parts.pid('console')}/status").read_text().splitlines()
    resident = int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024
    return Row(
        "memory of the console",
        f"{resident:.0f} MiB",
        aim=f"<= {MEMORY_AIM} MiB",
        met=resident <= MEMORY_AIM,
    )
