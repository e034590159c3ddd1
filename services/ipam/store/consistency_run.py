"""Runs the consistency check against the store, with progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.errors import Unavailable
from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue
from services.common.records.blocks import decode_page
from services.common.records.errors import RecordError
from services.ipam.consistency.rules import Check, Finding, StoredPage
from services.ipam.ledger.state import State
from services.ipam.store.replica import Replica

CHUNK: Final = 1000
"""Pages between two breaths of the event loop."""
ATTEMPTS: Final = 3
"""How often a page is read again that is not as in memory."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the check is."""

    blocks: int
    addresses: int
    total: int
    findings: Sequence[Finding]
    done: bool
    revision: int


async def audit(replica: Replica) -> AsyncIterator[Progress]:
    """Reads all pages at one revision, and compares.

    What differs from memory is read once more before it is reported: it may have changed since.
    Raises Unavailable if the store is away, or memory is read anew meanwhile.
    """
    pages = await replica.read_pages()
    state = await replica.settled()
    check = Check(state, pages.revision)
    findings: list[Finding] = []
    suspects: list[StoredPage] = []
    for index, item in enumerate(pages.items, 1):
        try:
            stored = read_stored(replica.keys, item)
        except (RecordError, ValueError) as error:
            findings.append(Finding("UNREADABLE", str(error), item.key))
            continue
        findings.extend(check.page(stored))
        if not check.is_known(stored):
            suspects.append(stored)
        if index % CHUNK == 0:
            yield _progress(check, len(pages.items), findings, pages.revision)
            findings.clear()
            await asyncio.sleep(0)
            await _same(replica, state)
    for stored in suspects:
        findings.extend(await _look_again(replica, state, check, stored))
    findings.extend(check.end())
    yield _progress(check, check.blocks, findings, pages.revision, done=True)


def read_stored(keys: Keys, item: KeyValue) -> StoredPage:
    """A page as stored; raises RecordError or ValueError."""
    key = keys.parse_block(item.key)
    record = decode_page(item.value)
    return StoredPage((key.network, key.base), key.bits, key.page, record, item.mod_revision)


async def _look_again(
    replica: Replica, state: State, check: Check, stored: StoredPage
) -> Sequence[Finding]:
    key = replica.keys.block(*stored.place, stored.page, stored.bits)
    for _ in range(ATTEMPTS):
        item = await replica.read(key)
        await _same(replica, state)
        if item is None:
            return ()
        if check.is_known(read_stored(replica.keys, item)):
            return ()
    return (Finding("MEMORY_DIFFERS", f"memory and store differ in block {stored}", str(stored)),)


async def _same(replica: Replica, state: State) -> None:
    if await replica.settled() is not state:
        raise Unavailable("this replica reads the store anew; check again", reason="RESYNC")


def _progress(
    check: Check, total: int, findings: Sequence[Finding], revision: int, *, done: bool = False
) -> Progress:
    return Progress(check.blocks, check.addresses, total, tuple(findings), done, revision)
