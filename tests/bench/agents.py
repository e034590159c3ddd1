"""A thousand agents on one ipam: how soon a new block is applied everywhere, and what they cost.

The agents are two processes with a connection each per agent; they acknowledge at once. Timed from
before a new node's first allocation, which adds a route, to the last acknowledgment that is sent.
Then the same while one agent, and then a tenth of them, has stopped to read. Memory is what the
service has resident beyond a service without agents; its baseline are as many connections on which
the health service is watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from tests.bench.report import Row
from tests.bench.world import Site, World, median, resident, running, world
from tests.support.ipam_process import IpamProcess
from tests.support.policy_process import PolicyProcess

TITLE = "agents"
SECONDS_AIM = 1.0
BYTES_AIM = 100_000
READY_SECONDS = 120.0


@dataclass(slots=True)
class Crowds:
    """Processes of agents."""

    processes: list[asyncio.subprocess.Process]

    async def lines(self) -> list[str]:
        """The next line of each."""
        async with asyncio.timeout(READY_SECONDS):
            return [await _line(process) for process in self.processes]

    async def last_acknowledged(self) -> float:
        return max(float(line.split()[1]) for line in await self.lines())


async def measure(*, quick: bool) -> list[Row]:
    count, rounds = (40, 3) if quick else (1000, 15)
    async with world() as there:
        site = Site(nodes=count + 4 * rounds)
        fresh = iter(site.names[count:])
        idle = await idle_memory(there, site, count)
        replica = await there.replica(site, "/agents", "agents")
        async with running(replica):
            async with crowd(replica, 0, 1, "sync", processes=1) as single:
                alone = await time_changes(replica, single, fresh, rounds)
            before = resident(replica)
            begin = time.monotonic()
            async with crowd(replica, 0, count, "sync") as all_of_them:
                joined = time.monotonic() - begin
                each = (resident(replica) - before) / count
                seconds = await time_changes(replica, all_of_them, fresh, rounds)
                after = (resident(replica) - before) / count
            tenth = count // 10
            async with (
                crowd(replica, 0, tenth, "stuck"),
                crowd(replica, tenth, count - tenth, "sync") as others,
            ):
                disturbed = await time_changes(replica, others, fresh, rounds)
    return [
        Row(
            f"new block to last acknowledgment of {count:,} agents",
            f"{seconds * 1000:.0f} ms",
            f"of one agent: {alone * 1000:.1f} ms",
            seconds / alone,
            f"< {SECONDS_AIM:.0f} s",
            seconds < SECONDS_AIM,
        ),
        Row(
            f"the same, {tenth} of them do not read",
            f"{disturbed * 1000:.0f} ms",
            f"all read: {seconds * 1000:.0f} ms",
            disturbed / seconds,
            "<= 1.2",
            disturbed / seconds <= 1.2,
        ),
        Row(
            "memory per agent, in sync",
            f"{each / 1000:.0f} kB",
            f"a health watcher: {idle / 1000:.0f} kB",
            each / idle,
            f"<= {BYTES_AIM // 1000} kB",
            each <= BYTES_AIM,
        ),
        Row(
            f"memory per agent, after {rounds} changes",
            f"{after / 1000:.0f} kB",
            f"a health watcher: {idle / 1000:.0f} kB",
            after / idle,
            f"<= {BYTES_AIM // 1000} kB",
            after <= BYTES_AIM,
        ),
        Row(f"{count:,} agents connect and get their snapshots", f"{joined:.1f} s"),
    ]


async def idle_memory(there: World, site: Site, count: int) -> float:
    replica = await there.replica(site, "/idle", "idle")
    async with running(replica):
        async with crowd(replica, 0, 1, "idle", processes=1):
            before = resident(replica)
        async with crowd(replica, 0, count, "idle"):
            return (resident(replica) - before) / count


async def time_changes(
    replica: IpamProcess, crowds: Crowds, fresh: Iterator[str], rounds: int
) -> float:
    """Median seconds from the request to the last acknowledgment."""
    found = []
    async with replica.connect() as stub:
        for _ in range(rounds):
            node = next(fresh)
            spec = AllocationSpec(name=node, node=node, tenant="bench")
            begin = time.monotonic()
            await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec))
            found.append(await crowds.last_acknowledged() - begin)
            await asyncio.sleep(0.05)
    return median(found)


@contextlib.asynccontextmanager
async def crowd(
    replica: IpamProcess | PolicyProcess,
    first: int,
    count: int,
    kind: str,
    *,
    processes: int = 2,
) -> AsyncIterator[Crowds]:
    """Agents in sync."""
    lines = [
        ("tests.bench.agent_crowd", replica.address, str(first + start), str(size), kind)
        for start, size in shares(count, processes)
    ]
    async with started(lines) as made:
        yield made


def shares(count: int, processes: int) -> Iterator[tuple[int, int]]:
    """The first of each process's agents, and how many it has."""
    share = -(-count // processes)
    for start in range(0, count, share):
        yield start, min(share, count - start)


@contextlib.asynccontextmanager
async def started(lines: Sequence[Sequence[str]]) -> AsyncIterator[Crowds]:
    """Modules with arguments, as processes, once they are ready."""
    made = Crowds([])
    try:
        for line in lines:
            made.processes.append(
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    *line,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                )
            )
        assert set(await made.lines()) == {"ready"}
        yield made
    finally:
        for process in made.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in made.processes:
            await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode().strip()
    assert line, "a process of agents ended"
    return line
