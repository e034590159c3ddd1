"""Packets of the tests: single echoes, datagrams, and a steady traffic of echoes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from lab.namespaces import open_socket
from lab.probe import TIMEOUT, Echoed, Outcome, Pinger, family_of, outcome_of
from lab.spec import Address

TRAFFIC_TIMEOUT = 5.0
"""Seconds; so long that a busy machine is not taken for a lost packet."""


async def ping(path: Path, destination: Address, *, timeout: float = TIMEOUT) -> Echoed:
    """One echo from a namespace."""
    async with Pinger(path, destination.version) as pinger:
        return await pinger.ping(destination, timeout)


async def reachable(path: Path, destination: Address, *, within: float = 30.0) -> bool:
    """Whether it answers at last: routes and neighbours may still settle."""
    async with Pinger(path, destination.version) as pinger:
        end = time.monotonic() + within
        while time.monotonic() < end:
            if (await pinger.ping(destination, 0.5)).outcome is Outcome.ANSWERED:
                return True
            await asyncio.sleep(0.05)
    return False


async def udp(
    source: Path, server: Path, destination: Address, port: int, *, timeout: float = TIMEOUT
) -> Outcome:
    """Sends a datagram from a namespace to an address of another, which sends it back."""
    family = family_of(destination)
    loop = asyncio.get_running_loop()
    with (
        open_socket(server, family, socket.SOCK_DGRAM) as echoing,
        open_socket(source, family, socket.SOCK_DGRAM) as client,
    ):
        echoing.bind((str(destination), port))
        try:
            async with asyncio.timeout(timeout):
                client.connect((str(destination), port))
                await loop.sock_sendall(client, b"romana lab")
                received = asyncio.ensure_future(loop.sock_recvfrom(echoing, 64))
                answered = asyncio.ensure_future(loop.sock_recv(client, 64))
                try:
                    # an ICMP error ends the second before there is a first
                    await asyncio.wait({received, answered}, return_when="FIRST_COMPLETED")
                    if not answered.done():
                        data, peer = await received
                        await loop.sock_sendto(echoing, data, peer)
                    await answered
                finally:
                    received.cancel()
                    answered.cancel()
                    await asyncio.gather(received, answered, return_exceptions=True)
        except TimeoutError:
            return Outcome.SILENT
        except ConnectionRefusedError:
            return Outcome.REFUSED
        except OSError as error:
            return outcome_of(error)
        return Outcome.ANSWERED


@contextlib.asynccontextmanager
async def traffic(
    flows: Iterable[tuple[Path, Address]], *, interval: float = 0.05
) -> AsyncIterator[dict[tuple[str, Address], list[Echoed]]]:
    """Echoes at a steady rate from each namespace to an address while the block runs.

    Yields what became of them so far, by namespace and destination.
    """
    flows = [*flows]
    results: dict[tuple[str, Address], list[Echoed]] = {
        (path.name, destination): [] for path, destination in flows
    }
    stop = asyncio.Event()

    async def flow(path: Path, destination: Address) -> None:
        found = results[path.name, destination]
        pending: set[asyncio.Task[None]] = set()

        async def one(pinger: Pinger) -> None:
            found.append(await pinger.ping(destination, TRAFFIC_TIMEOUT))

        async with Pinger(path, destination.version) as pinger:
            while not stop.is_set():
                task = asyncio.ensure_future(one(pinger))
                pending.add(task)
                task.add_done_callback(pending.discard)
                await asyncio.sleep(interval)
            await asyncio.gather(*pending)

    async with asyncio.TaskGroup() as group:
        for path, destination in flows:
            group.create_task(flow(path, destination))
        try:
            yield results
        finally:
            stop.set()
