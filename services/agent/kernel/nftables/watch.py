"""Hears when somebody else changes the table `inet romana`.

The kernel tells of every change of every table, and after each transaction of the number that it
has. What our own socket did is filtered out in the kernel, but for that number, which does not
concern us. It only says to look, never what there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.agent.kernel import codec
from services.agent.kernel.filters import ignore_ports
from services.agent.kernel.nftables.messages import NETFILTER, NEW_GENERATION
from services.agent.kernel.nftables.table import TABLE, Family
from services.agent.kernel.notifications import Notifications

_GROUP: Final = 7
"""NFNLGRP_NFTABLES."""
_NAME: Final = TABLE.encode() + b"\0"


class NftWatch:
    """Listens in the event loop. Made in the firewall's thread, for its namespace."""

    def __init__(self, own_port: int) -> None:
        """Listens.

        Raises:
            KernelUnavailable: There is no nf_tables.
        """
        self._notifications = Notifications(
            NETFILTER, (_GROUP,), lambda made: ignore_ports(made, (own_port,))
        )

    def start(self, heard: Callable[[], None]) -> None:
        """Calls `heard` from the running loop from now on, when our table may be another."""
        self._notifications.start(lambda: self._read(heard))

    def close(self) -> None:
        self._notifications.close()

    def _read(self, heard: Callable[[], None]) -> None:
        concerned = False
        for data in self._notifications.heard():
            concerned = concerned or data is None or _concerns_us(data)
        if concerned:
            heard()


def _concerns_us(data: bytes) -> bool:
    """All messages about parts of a table begin with its name."""
    return any(
        kind != NEW_GENERATION
        and data[start] == Family.INET
        and codec.attributes(data, start + 4, end).get(1) == _NAME
        for kind, _, start, end in codec.messages(data)
    )
