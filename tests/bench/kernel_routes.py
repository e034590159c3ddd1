"""The node's data plane with 100,000 routes, beside `ip -batch` and `ip route show`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import ipaddress
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from services.agent.kernel.diff import KindChange, diff
from services.agent.kernel.drivers import KernelDrivers
from services.agent.kernel.heard import ALL
from services.agent.kernel.state import KernelState, Kind
from services.agent.model import EndpointAddress, LocalEndpoint, Myself, Remote
from services.agent.routing.reconcile import Reconciler, Timing
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Network
from services.common.model.node import Attachment
from services.common.process.logs import configure_logs
from tests.bench.report import Row
from tests.support.netns import Namespace, Namespaces, enter, missing

TITLE = "routes of a node, in a network namespace of its own"
NETWORK = NetworkName("bench")
ME = NodeName("me")
PEERS = 250
BLOCK_AIM = 0.05
QUIET = Timing(full=3600.0, quick=3600.0)


def remote_of(count: int) -> Remote:
    """So many prefixes of 250 nodes."""
    nodes = [NodeName(f"node-{number}") for number in range(PEERS)]
    first = int(ipaddress.ip_address("10.0.0.0"))
    return Remote(
        {
            NETWORK: Network(
                NETWORK,
                ipaddress.ip_network("10.0.0.0/8"),
                29,
                gateway=ipaddress.ip_address("192.168.0.1"),
            )
        },
        {
            (NETWORK, node): ipaddress.ip_address("192.168.1.0") + number
            for number, node in enumerate(nodes)
        },
        {
            (NETWORK, ipaddress.IPv4Network((first + 16 * number, 28))): nodes[number % PEERS]
            for number in range(count)
        },
    )


class Blocks:
    """The longest time that the event loop did nothing for others."""

    def __init__(self) -> None:
        self.longest = 0.0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()

    async def _run(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - before - 0.001)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    before = time.perf_counter()
    await work()
    return time.perf_counter() - before


async def measure(*, quick: bool) -> list[Row]:
    lack = missing()
    if lack:
        return [Row(f"not measured: needs {lack}", "-")]
    gc.set_threshold(50_000, 50, 100)  # as the agent does
    configure_logs("bench", level="error", format="json")
    with Namespaces() as made, tempfile.TemporaryDirectory() as folder:
        namespace, other = made.new("bench"), made.new("peer")
        namespace.link(other, "e0", "e0")
        namespace.run("ip addr add 192.168.0.2/16 dev e0")
        return await _measure(namespace, Path(folder), 2_000 if quick else 100_000)


async def _measure(namespace: Namespace, folder: Path, count: int) -> list[Row]:
    remote = remote_of(count)
    kernel = KernelDrivers(folder, enter=lambda: enter(namespace.path))
    attachment = Attachment(NETWORK, "e0", ipaddress.ip_address("192.168.0.2"))
    reconciler = Reconciler(kernel, Myself(ME, (attachment,)), timing=QUIET)
    rows: list[Row] = []
    batch = _batch(namespace, remote)
    idle, blocks = Blocks(), Blocks()
    async with idle.watched():
        await asyncio.to_thread(_batch, namespace, remote)
    async with blocks.watched():
        task = asyncio.create_task(reconciler.run())

        async def load() -> None:
            reconciler.set_remote(remote)
            assert not await reconciler.reached()

        loading = await timed(load)
        rows.append(
            Row(
                f"first load of {count:,} routes: plan, read, write",
                f"{loading:.3f} s",
                f"ip -batch {batch:.3f} s",
                loading / batch,
                "<= 0.5",
                loading <= 0.5 * batch,
            )
        )
        rows += await _changes(reconciler, remote)
        rows += await _comparisons(reconciler, namespace)
    rows.append(
        Row(
            "longest block of the event loop in all of that",
            f"{blocks.longest * 1000:.1f} ms",
            f"while only ip works {idle.longest * 1000:.1f} ms",
            aim="<= 50 ms",
            met=blocks.longest <= BLOCK_AIM,
        )
    )
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    rows += await asyncio.to_thread(lambda: namespace.call(lambda: _raw(folder, count)))
    return rows


async def _changes(reconciler: Reconciler, remote: Remote) -> list[Row]:
    keys = list(remote.routes)
    routes = dict(remote.routes)
    times: list[float] = []
    for number, key in enumerate(keys[:20]):
        routes[key] = NodeName(f"node-{(number + 7) % PEERS}")
        changed = dataclasses.replace(remote, routes=dict(routes))
        reconciler.set_remote(changed, [key])
        times.append(await timed(reconciler.reached))
    one = statistics.median(times)
    moves: list[float] = []
    for number in range(10):
        peers = {
            **remote.peers,
            (NETWORK, NodeName("node-3")): ipaddress.ip_address(f"192.168.9.{number + 1}"),
        }
        reconciler.set_remote(dataclasses.replace(changed, peers=peers), ())
        moves.append(await timed(reconciler.reached))
    endpoints: list[float] = []
    for number in range(10):
        address = EndpointAddress(ipaddress.ip_address(f"10.200.0.{number + 1}"), NETWORK)
        reconciler.put_endpoint(
            LocalEndpoint(EndpointName(f"e{number}"), Tenant("t"), Segment(""), "e0", (address,))
        )
        endpoints.append(await timed(reconciler.reached))
    return [
        Row("one changed route among them, until it is reached", f"{one * 1000:.1f} ms"),
        Row(
            "a node's address changed, with its routes",
            f"{statistics.median(moves) * 1000:.1f} ms",
        ),
        Row("one more endpoint", f"{statistics.median(endpoints) * 1000:.1f} ms"),
    ]


async def _comparisons(reconciler: Reconciler, namespace: Namespace) -> list[Row]:
    async def compare() -> None:
        reconciler._inputs.read(ALL)
        reconciler._loop.touch()
        await reconciler.reached()

    async def show() -> None:
        await asyncio.to_thread(
            lambda: subprocess.run(
                ["ip", "netns", "exec", namespace.name, "ip", "route", "show", "table", "all"],
                stdout=subprocess.DEVNULL,
                check=True,
            )
        )

    ours = statistics.median([await timed(compare) for _ in range(5)])
    shown = statistics.median([await timed(show) for _ in range(5)])
    return [
        Row(
            "full comparison with the kernel",
            f"{ours:.3f} s",
            f"ip route show {shown:.3f} s",
            ours / shown,
            "<= 2",
            ours <= 2 * shown,
        )
    ]


def _batch(namespace: Namespace, remote: Remote) -> float:
    """The same routes by iproute2, into another table, and away again."""
    lines = [
        f"nexthop add id {number + 1} via {address} dev e0 onlink"
        for number, address in enumerate(remote.peers.values())
    ]
    numbers = {node: number + 1 for number, (_, node) in enumerate(remote.peers)}
    lines += [
        f"route add {prefix} nhid {numbers[node]} table 77"
        for (_, prefix), node in remote.routes.items()
    ]
    text = "\n".join(lines)
    before = time.perf_counter()
    namespace.run("ip -batch -", stdin=text)
    taken = time.perf_counter() - before
    namespace.run("ip nexthop flush")
    return taken


def _raw(folder: Path, count: int) -> list[Row]:
    """The drivers alone."""

    async def work() -> list[Row]:
        kernel = KernelDrivers(folder)
        await kernel.start()
        try:
            return kernel_rows(kernel, count)
        finally:
            await kernel.close()

    return asyncio.run(work())


def kernel_rows(kernel: KernelDrivers, count: int) -> list[Row]:
    before = time.perf_counter()
    actual = kernel.read(KernelState(), tuple(Kind))
    reading = time.perf_counter() - before
    key, value = next((k, v) for k, v in actual.routes.items() if len(k) == 9 and k[4] == 28)
    other = next(v for v in actual.routes.values() if v != value and len(v) == len(value))
    times: list[float] = []
    for number in range(200):
        step = KindChange(Kind.ROUTE, {}, {key: other if number % 2 == 0 else value}, {})
        before = time.perf_counter()
        assert not kernel.apply(step)
        times.append(time.perf_counter() - before)
    number, nexthop = next(iter(actual.nexthops.items()))
    moves: list[float] = []
    for turn in range(50):
        moved = dataclasses.replace(nexthop, gateway=ipaddress.ip_address(f"192.168.77.{turn + 1}"))
        before = time.perf_counter()
        assert not kernel.apply(KindChange(Kind.NEXTHOP, {}, {number: moved}, {}))
        moves.append(time.perf_counter() - before)
    before = time.perf_counter()
    gone = kernel.read(KernelState(), tuple(Kind))
    for step in diff(KernelState(), gone):
        kernel.apply(step)
    removing = time.perf_counter() - before
    one, move = statistics.median(times), statistics.median(moves)
    return [
        Row(f"driver: read {count:,} routes", f"{reading:.3f} s"),
        Row("driver: replace one route", f"{one * 1e6:.0f} us", aim="< 1 ms", met=one < 1e-3),
        Row("driver: move a nexthop", f"{move * 1e6:.0f} us"),
        Row("driver: read and remove all", f"{removing:.3f} s"),
    ]
