"""Ipam writes down whose agents have a stream, for who must not take them for gone."""

from __future__ import annotations

from pathlib import Path

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from tests.conftest import Store
from tests.contract.ipam.conftest import NODES, Pair, usual_layout
from tests.support.ipam_process import IpamProcess, poll, seed, wait_until_one_active
from tests.support.sync_agent import SyncAgent

SECONDS = 60.0


async def streams(client: EtcdClient, keys: Keys) -> list[tuple[str, bool]]:
    """Nodes, and whether the store forgets them by itself."""
    found = (await client.range(keys.streams)).items
    return [(item.key.removeprefix(keys.streams).split("/")[0], item.lease > 0) for item in found]


async def test_while_there_is_one_on_either_replica(pair: Pair) -> None:
    async def are(*nodes: str) -> bool:
        return await streams(pair.client, pair.keys) == [(node, True) for node in nodes]

    async with SyncAgent("h1", [pair.active.address]) as agent:
        await agent.until_in_sync()
        await poll(lambda: are("h1"), SECONDS)
        async with SyncAgent("h2", [pair.standby.address]) as other:
            await other.until_in_sync()
            await poll(lambda: are("h1", "h2"), SECONDS)
        await poll(lambda: are("h1"), SECONDS)
    await poll(are, SECONDS)


async def test_a_replica_that_stops_takes_no_agent_with_it(store: Store, tmp_path: Path) -> None:
    await seed(store.client, store.keys, usual_layout(), NODES)
    with IpamProcess.started(store.endpoint, store.keys.root, tmp_path) as replica:
        await wait_until_one_active([replica])

        async def is_there() -> bool:
            return await streams(store.client, store.keys) == [("h1", True)]

        async with SyncAgent("h1", [replica.address]) as agent:
            await agent.until_in_sync()
            await poll(is_there, SECONDS)
            assert await replica.stop() == 0
            assert await is_there(), "until the store forgets it"
