"""Asks on a link who has an address, again and again, and hears the answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from services.agent.kernel import conflict_frames, filters
from services.common.model.network import Address

_ETH_P_ALL: Final = 3
_FRAME_MOST: Final = 2048


class NeighbourAsker:
    """On one interface."""

    def __init__(self, interface: str) -> None:
        """Hears nothing before the first question; raises OSError if it is not there."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            filters.only_neighbours(self._socket)
            self._socket.settimeout(0)
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError:
            self._socket.close()
            raise
        self._mac: bytes = self._socket.getsockname()[4]
        self._waiting: dict[asyncio.Future[str], Address] = {}
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def close(self) -> None:
        """Hears nothing any more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def ask(self, address: Address, own: Address, seconds: float) -> str | None:
        """The MAC address that answers; None: none did. Raises OSError."""
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = address
        try:
            self._socket.send(conflict_frames.question(address, self._mac, own))
            async with asyncio.timeout(seconds):
                return await waiting
        except TimeoutError:
            return None
        finally:
            del self._waiting[waiting]

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                frame = self._socket.recv(_FRAME_MOST)
                for waiting, address in self._waiting.items():
                    found = conflict_frames.claimant(frame, address, self._mac)
                    if found is not None and not waiting.done():
                        waiting.set_result(found)
