"""The table `inet romana`, in a thread of its own: a large one would keep routes waiting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.agent.kernel.concurrency import in_thread
from services.agent.kernel.nftables.driver import Nft
from services.agent.kernel.nftables.table import Changes, Found, Shape

_T = TypeVar("_T")


class Firewall:
    """The driver. Methods that are not coroutines are for its thread, within `run` or `call`."""

    def __init__(self, *, enter: Callable[[], None] = lambda: None) -> None:
        """Nothing is opened before it is needed; `enter` is called first in the thread."""
        self._thread = ThreadPoolExecutor(1, "romana-policy", initializer=enter)
        self._nft: Nft | None = None

    async def run(self, work: Callable[[], _T]) -> _T:
        """Does something in the thread; when cancelled, ends after that."""
        return await in_thread(work, self._thread)

    def call(self, work: Callable[[], _T]) -> _T:
        """The same from another thread."""
        return self._thread.submit(work).result()

    async def close(self) -> None:
        """Closes the socket when what was begun is done; the table stays."""
        await self.run(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._nft is not None:
            self._nft.close()
        self._nft = None

    @property
    def nft(self) -> Nft:
        """The table; raises KernelUnavailable."""
        if self._nft is None:
            self._nft = Nft()
        return self._nft

    def read(self) -> Found | None:
        """What there is; None: no table. Raises KernelUnavailable."""
        return self.nft.read()

    def others(self) -> int:
        """A number that is another one when somebody else has changed any table."""
        return self.nft.others()

    def apply(self, changes: Changes) -> None:
        """Does all of it, or, if it raises, nothing that counts. Raises KernelUnavailable."""
        self.nft.apply(changes)

    def add(self, name: str, keys: Collection[bytes], shape: Shape) -> None:
        """Adds elements to a set, in which some may be already. Raises KernelUnavailable."""
        self.nft.add(name, keys, shape)

    def counts(self) -> Mapping[str, tuple[int, int]]:
        """Packets and bytes by counter. Raises KernelUnavailable."""
        return {name: (one.packets, one.size) for name, one in self.nft.counters().items()}
