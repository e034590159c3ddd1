"""What passes and what goes on while faults are made, as an onlooker sees it.

An onlooker knows what was acknowledged, and nothing of how it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from lab.namespaces import open_socket
from tests.kernel.conformance.pods import Pod, Pods, Probe
from tests.support.fault_table import FaultCount, Record

INTERVAL = 0.05
"""Seconds between two attempts of what is denied, and two words of what is established."""
PORT = 90
ANSWER_SECONDS = 15.0
"""A lost segment is sent again; a connection that was cut is silent for ever."""


@dataclass
class Onlooker:
    """What was seen while faults of one kind were made."""

    kind: str
    acknowledged: int = 0
    """Changes that every node concerned is said to have applied."""
    tried: int = 0
    passed: list[str] = field(default_factory=list)
    """What got through, though an acknowledged policy denies it."""
    longest_gap: float = 0.0
    """Seconds between two words of a conversation that is allowed all the time."""

    @property
    def count(self) -> FaultCount:
        return FaultCount(
            self.kind,
            self.acknowledged,
            open_probes=len(self.passed),
            longest_gap=self.longest_gap,
        )


@contextlib.asynccontextmanager
async def onlooker(
    kind: str, pods: Pods, source: Pod, destination: Pod, record: Record
) -> AsyncIterator[Onlooker]:
    """Keeps up a conversation while the block runs, and records what was seen, if it fails, too."""
    seen = Onlooker(kind)
    try:
        async with conversation(pods, source, destination, seen):
            yield seen
    finally:
        seen.count.record(record)


@contextlib.asynccontextmanager
async def never(pods: Pods, *probes: Probe, seen: Onlooker | None = None) -> AsyncIterator[None]:
    """Tries these all the time while the block runs: nothing may get there."""
    seen = seen or Onlooker("")
    before = seen.tried
    done = asyncio.Event()

    async def attempt(one: Probe) -> None:
        pending: set[asyncio.Task[None]] = set()

        async def once() -> None:
            if await pods.reaches(one, 0.3):
                seen.passed.append(str(one))

        while not done.is_set():
            task = asyncio.create_task(once())
            pending.add(task)
            task.add_done_callback(pending.discard)
            seen.tried += 1
            await asyncio.sleep(INTERVAL)
        await asyncio.gather(*pending)

    async with asyncio.TaskGroup() as group:
        for one in probes:
            group.create_task(attempt(one))
        try:
            yield
            while seen.tried <= before + 10:  # noqa: ASYNC110 - a busy machine tries less often
                await asyncio.sleep(INTERVAL)
        finally:
            done.set()
    assert not seen.passed, f"{len(seen.passed)} attempts got through, such as {seen.passed[0]}"


@contextlib.asynccontextmanager
async def conversation(
    pods: Pods, source: Pod, destination: Pod, seen: Onlooker | None = None
) -> AsyncIterator[None]:
    """One connection on which every word is answered while the block runs."""
    seen = seen or Onlooker("")
    loop = asyncio.get_running_loop()
    address = str(pods.addresses[destination][socket.AF_INET])
    with (
        open_socket(pods.path(destination), socket.AF_INET, socket.SOCK_STREAM) as listener,
        open_socket(pods.path(source), socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen()
        async with asyncio.timeout(ANSWER_SECONDS):
            await loop.sock_connect(client, (address, PORT))
            server, _ = await loop.sock_accept(listener)
        done = asyncio.Event()

        async def talk() -> None:
            said = time.monotonic()
            while not done.is_set():
                async with asyncio.timeout(ANSWER_SECONDS):
                    await loop.sock_sendall(client, b"word")
                    await loop.sock_sendall(server, await loop.sock_recv(server, 64))
                    assert await loop.sock_recv(client, 64) == b"word"
                now = time.monotonic()
                seen.longest_gap = max(seen.longest_gap, now - said)
                said = now
                await asyncio.sleep(INTERVAL)

        with server:
            async with asyncio.TaskGroup() as group:
                group.create_task(talk())
                try:
                    yield
                finally:
                    done.set()
