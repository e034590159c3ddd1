"""Who connects to whom: real TCP connections between namespaces, all at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Sequence

from lab.icmp import V4
from lab.matrix import Host
from lab.namespaces import open_socket

TIMEOUT = 1.0
"""Seconds to wait for a connection: what policy drops is never answered."""
Pair = tuple[str, str]
"""Names of source and destination."""


async def connected(
    sources: Sequence[Host], destinations: Iterable[Host], port: int
) -> dict[Pair, bool]:
    """Connects every source to every other destination, where the kernel listens meanwhile."""
    with contextlib.ExitStack() as stack:
        listening = [*destinations]
        for host in listening:
            listener = stack.enter_context(
                open_socket(host.path, _family(host), socket.SOCK_STREAM)
            )
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(host.address), port))
            listener.listen(len(sources))
        pairs = [(one, other) for one in sources for other in listening if one != other]
        outcomes = await asyncio.gather(*(_connects(*pair, port) for pair in pairs))
    return {
        (one.name, other.name): outcome
        for (one, other), outcome in zip(pairs, outcomes, strict=True)
    }


async def _connects(source: Host, destination: Host, port: int) -> bool:
    with open_socket(source.path, _family(destination), socket.SOCK_STREAM) as client:
        try:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.get_running_loop().sock_connect(
                    client, (str(destination.address), port)
                )
        except OSError:  # TimeoutError is one
            return False
        return True


def _family(host: Host) -> int:
    return socket.AF_INET if host.address.version == V4 else socket.AF_INET6
