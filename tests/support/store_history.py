"""Follows all that ipam writes, and judges it revision by revision.

At every revision: no name's page says that an address is in use by two, no address and ordinal of a
name twice; and whoever writes `Keys.commit` is the one whose candidacy is the oldest. Candidates do
not say which replica they are: so no two replicas may write during one leadership. A deposed one
that wrote after the next was elected would do so during the other's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from ipaddress import ip_address

from services.common.etcd.client import EtcdClient
from services.common.etcd.follow import Follower
from services.common.etcd.keys import Keys
from services.common.etcd.types import Event, KeyValue, Snapshot, WatchBatch
from services.common.records.blocks import decode_page


class StoreHistory:
    """Everything that ever was in use, by the store's own account."""

    def __init__(self, client: EtcdClient, keys: Keys) -> None:
        self.violations: list[str] = []
        self.writers: dict[str, str] = {}
        """Replica that wrote, by the key of its candidacy."""
        self.commits = 0
        self._keys = keys
        self._client = client
        self._follower = Follower(client, f"{keys.root}/", self._on_batch)
        self._candidates: dict[str, int] = {}
        self._pages: dict[str, dict[str, str]] = {}
        """Address to name, by key."""
        self._holder: dict[str, tuple[str, str]] = {}
        """Key and name, by address."""
        self._ever: dict[str, set[str]] = defaultdict(set)

    async def run(self) -> None:
        """Follows until it is cancelled."""
        await self._follower.run()

    async def catch_up(self) -> None:
        """Returns when everything written so far was judged."""
        await self._follower.wait_for(await self._client.revision(), 10)

    def was_held(self, name: str, address: str) -> bool:
        """Says whether the store ever had it."""
        return address in self._ever.get(name, ())

    def held(self) -> dict[str, set[str]]:
        """Addresses by name, as of now."""
        found: dict[str, set[str]] = defaultdict(set)
        for address, (_, name) in self._holder.items():
            found[name].add(address)
        return dict(found)

    def _on_batch(self, batch: WatchBatch) -> None:
        if isinstance(batch, Snapshot):
            # only at the beginning: the store keeps an hour of history
            assert not self._pages
            events = [Event(item.key, item, item.mod_revision) for item in batch.items]
            self._transaction(events)
            return
        transactions: dict[int, list[Event]] = defaultdict(list)
        for event in batch.events:
            transactions[event.revision].append(event)
        for events in transactions.values():
            self._transaction(events)

    def _transaction(self, events: list[Event]) -> None:
        for event in events:
            if event.key.startswith(self._keys.leader):
                if event.item is None:
                    self._candidates.pop(event.key, None)
                else:
                    self._candidates[event.key] = event.item.create_revision
        pages = [event for event in events if event.key.startswith(self._keys.blocks)]
        # first what goes, then what comes: an address may move within a transaction
        for event in pages:
            for address in self._pages.pop(event.key, {}):
                del self._holder[address]
        for event in pages:
            if event.item is not None:
                self._page(event.key, event.item)
        for event in events:
            if event.key == self._keys.commit and event.item is not None:
                self._commit(event.item)

    def _page(self, key: str, item: KeyValue) -> None:
        base = self._keys.parse_block(key).base
        page = self._pages[key] = {}
        for use in decode_page(item.value).used:
            address = str(ip_address(base + use.offset))
            other = self._holder.get(address)
            if other is not None:
                self.violations.append(
                    f"{address} at revision {item.mod_revision}: {other} and {use.name} in {key}"
                )
            page[address] = use.name
            self._holder[address] = (key, use.name)
            self._ever[use.name].add(address)

    def _commit(self, item: KeyValue) -> None:
        self.commits += 1
        writer = item.value.decode().split("/")[0]
        leader = min(self._candidates, key=lambda key: self._candidates[key], default=None)
        if leader is None:
            self.violations.append(f"{writer} wrote at {item.mod_revision}, elected by nobody")
        elif self.writers.setdefault(leader, writer) != writer:
            self.violations.append(
                f"{writer} wrote at {item.mod_revision}, during the leadership of "
                f"{self.writers[leader]} ({leader})"
            )


async def leader_address(client: EtcdClient, keys: Keys) -> str | None:
    """Where the elected replica is reached, by the store's own account."""
    found = await client.range(keys.leader)
    oldest = min(found.items, key=lambda item: item.create_revision, default=None)
    await asyncio.sleep(0)
    return oldest.value.decode() if oldest is not None else None
