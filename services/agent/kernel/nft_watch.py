"""Hears when somebody else changes the table `inet romana`.

The kernel tells of every change of every table, and after each transaction of the number that it
has. What our own socket did is filtered out in the kernel, but for that number, which does not
concern us. It only says to look, never what there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Final

from services.agent.kernel import netlink
from services.agent.kernel.filters import ignore_port
from services.agent.kernel.nft_messages import INET, NETFILTER, NEW_GENERATION
from services.agent.policy.table import TABLE

_ADD_MEMBERSHIP: Final = 1
_GROUP: Final = 7
"""NFNLGRP_NFTABLES."""
_BUFFER: Final = 4 * 1024 * 1024
_MOST: Final = 200
_NAME: Final = TABLE.encode() + b"\0"


class NftWatch:
    """A socket in the event loop. Made in the firewall's thread, for its namespace."""

    def __init__(self, own_port: int) -> None:
        """Listens.

        Raises:
            KernelUnavailable: There is no nf_tables.
        """
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
            self._socket.settimeout(0)
            netlink.force_receive_buffer(self._socket, _BUFFER)
            ignore_port(self._socket, own_port)
            self._socket.bind((0, 0))
            self._socket.setsockopt(netlink.SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        except OSError as error:
            raise netlink.KernelUnavailable(f"nf_tables: {error}") from error

    def start(self, heard: Callable[[], None]) -> None:
        """Calls `heard` from the running loop from now on, when our table may be another."""
        asyncio.get_running_loop().add_reader(self._socket, lambda: self._read(heard))

    def close(self) -> None:
        """Stops."""
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self, heard: Callable[[], None]) -> None:
        concerned = False
        for _ in range(_MOST):
            try:
                data = self._socket.recv(netlink.RECEIVE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                concerned = True  # anything may have been among what was lost
                continue
            concerned = concerned or _concerns_us(data)
        if concerned:
            heard()


def _concerns_us(data: bytes) -> bool:
    """All messages about parts of a table begin with its name."""
    return any(
        kind != NEW_GENERATION
        and data[start] == INET
        and netlink.attributes(data, start + 4, end).get(1) == _NAME
        for kind, _, start, end in netlink.messages(data)
    )
