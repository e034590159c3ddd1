"""Runs the consistency check against the store, with progress."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.errors import Unavailable
from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue, Range
from services.common.process.turns import Turns
from services.common.records.blocks import decode_page
from services.common.records.errors import RecordError
from services.ipam.consistency.double_use import DoubleUse, OwnAddresses
from services.ipam.consistency.rules import ConsistencyCheck, Finding, StoredPage
from services.ipam.ledger.ledger import Ledger
from services.ipam.store.replica import Replica

CHUNK: Final = 1000
"""Pages after which progress is told."""
ATTEMPTS: Final = 3
"""How often a page is read again that is not as in memory."""


@dataclass(frozen=True, slots=True)
class Progress:
    blocks: int
    addresses: int
    total: int
    findings: Sequence[Finding]
    done: bool
    revision: int


async def check_store(replica: Replica, turns: Turns) -> AsyncGenerator[Progress, None]:
    """Reads all pages at one revision, and compares, in pieces.

    What differs from memory is read once more before it is reported: it may have changed since.
    Raises Unavailable if the store is away, or memory is read anew meanwhile.
    """
    pages = await replica.read_pages()
    ledger = await replica.committed()
    run = _Run(replica, ledger, ConsistencyCheck(ledger, pages.revision), pages)
    work, reported, done = run.work(), 0, False
    while not done:
        async with turns.piece() as piece:
            await run.is_same()
            piece.begin()
            done = not any(piece.is_over for _ in work)
        if run.looked_at - reported >= CHUNK:
            reported = run.looked_at
            yield run.progress()
    for stored in run.suspects:
        run.findings.extend(await run.look_again(stored))
    for double in run.own.found:
        run.findings.extend(await run.look_for_both(double))
    yield run.progress(done=True)


class _Run:
    def __init__(
        self, replica: Replica, ledger: Ledger, check: ConsistencyCheck, pages: Range
    ) -> None:
        self._replica = replica
        self._ledger = ledger
        self._check = check
        self._pages = pages
        self.own = OwnAddresses(ledger)
        self.looked_at = 0
        """Pages."""
        self.findings: list[Finding] = []
        self.suspects: list[StoredPage] = []
        """Pages that are not as in memory."""

    def work(self) -> Iterator[None]:
        """All of it but the suspects; yields where it may pause."""
        for network in self._ledger.layout.networks:
            self.own.network(network)
        for node in list(self._ledger.nodes.values()):
            self.own.node(node)
            yield
        for item in self._pages.items:
            self._look(item)
            self.looked_at += 1
            yield
        for finding in self._check.end():
            if finding is not None:
                self.findings.append(finding)
            yield

    def _look(self, item: KeyValue) -> None:
        try:
            stored = read_stored(self._replica.keys, item)
        except (RecordError, ValueError) as error:
            self.findings.append(Finding("UNREADABLE", str(error), item.key))
            with contextlib.suppress(ValueError):
                key = self._replica.keys.parse_block(item.key)
                self._check.saw((key.network, key.base), key.page)
            return
        self.findings.extend(self._check.page(stored))
        self.findings.extend(self.own.page(stored.place, stored.bits, stored.page, stored.record))
        if not self._check.is_known(stored):
            self.suspects.append(stored)

    async def look_again(self, stored: StoredPage) -> Sequence[Finding]:
        keys = self._replica.keys
        key = keys.block(*stored.place, stored.page, stored.bits)
        for _ in range(ATTEMPTS):
            item = await self._replica.read(key)
            await self.is_same()
            if item is None or self._check.is_known(read_stored(keys, item)):
                return ()
        return (
            Finding("MEMORY_DIFFERS", f"memory and store differ in block {stored}", str(stored)),
        )

    async def look_for_both(self, double: DoubleUse) -> Sequence[Finding]:
        """Says whether an address is in use, and somebody else's, at the same time."""
        keys = self._replica.keys
        item = await self._replica.read(keys.block(*double.place, double.page, double.bits))
        await self.is_same()
        if item is None or all(
            (use.offset, use.name) != (double.offset, double.name)
            for use in read_stored(keys, item).record.used
        ):
            return ()
        finding = self.own.finding(double)
        return () if finding is None else (finding,)

    async def is_same(self) -> None:
        """Returns when memory holds nothing undecided; raises Unavailable if it is another one."""
        if await self._replica.committed() is not self._ledger:
            raise Unavailable("this replica reads the store anew; check again", reason="RESYNC")

    def progress(self, *, done: bool = False) -> Progress:
        """How far it is, with what was found since it was asked last."""
        found, self.findings = tuple(self.findings), []
        check = self._check
        return Progress(
            check.blocks, check.addresses, len(self._pages.items), found, done, self._pages.revision
        )


def read_stored(keys: Keys, item: KeyValue) -> StoredPage:
    """A page as stored; raises RecordError or ValueError."""
    key = keys.parse_block(item.key)
    record = decode_page(item.value)
    return StoredPage((key.network, key.base), key.bits, key.page, record, item.mod_revision)
