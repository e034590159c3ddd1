"""Members that die, go silent, fall back or are strangers."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import InvalidInput, Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.epoch import ensure_epoch
from services.common.etcd.errors import (
    STORE_OUTCOME_UNKNOWN,
    STORE_UNAVAILABLE,
    OutcomeUnknown,
    StoreReplaced,
)
from services.common.etcd.keys import Keys
from services.common.etcd.process import EtcdOptions, LocalEtcd, free_port
from services.common.etcd.types import Put
from tests.contract.common_etcd.collector import following
from tests.contract.common_etcd.proxy import Proxy

NOBODY = "127.0.0.1:1"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[LocalEtcd]]:
    """Three members."""
    peers = {f"m{n}": free_port() for n in range(3)}
    members = [
        LocalEtcd(
            tmp_path / name,
            EtcdOptions(name=name, peer_port=port, peers=peers, token="faults"),
        )
        for name, port in peers.items()
    ]
    try:
        for member in members:
            await member.start(wait=False)
        for member in members:
            await member.healthy(60)
        yield members
    finally:
        for member in members:
            member.kill()


async def test_a_cluster_that_loses_members(cluster: list[LocalEtcd]) -> None:
    endpoints = [member.endpoint for member in cluster]
    async with EtcdClient(endpoints) as client, following(client, "/a/") as (follower, seen):
        await follower.wait_for(await client.put("/a/1", b"1"), 60)
        cluster[0].kill()
        # the dead one may have led the members: they need about a second to elect
        revision = await _put(client, "/a/2")
        await follower.wait_for(revision, 60)
        assert (await client.status()).endpoint != endpoints[0]
        await cluster[0].start()
        cluster[1].kill()
        revision = await _put(client, "/a/3")
        await follower.wait_for(revision, 60)
        assert [event.key for event in seen.events] == ["/a/1", "/a/2", "/a/3"]
        assert len(seen.snapshots) == 1
        cluster[2].kill()
        with pytest.raises(Unavailable) as caught:
            await client.get("/a/1")
        assert caught.value.reason == STORE_UNAVAILABLE
        await cluster[1].start()
        assert await _put(client, "/a/4")


async def _put(client: EtcdClient, key: str) -> int:
    """Writes until it is known to be written, with the same value."""
    async with asyncio.timeout(60):
        while True:
            try:
                item = await client.get(key)
                return item.mod_revision if item else await client.put(key, b"")
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_reads_move_on_from_a_member_that_is_away(etcd_server: LocalEtcd) -> None:
    async with EtcdClient([NOBODY, etcd_server.endpoint]) as client:
        assert await client.get("/a") is None
        assert client.counters.reconnects == 1
        assert (await client.status()).endpoint == etcd_server.endpoint


async def test_writes_move_on_from_a_member_that_is_away(etcd_server: LocalEtcd) -> None:
    async with EtcdClient([NOBODY, etcd_server.endpoint]) as client:
        assert await client.put("/a", b"")


async def test_reads_move_on_from_a_member_that_is_silent(etcd_server: LocalEtcd) -> None:
    async with Proxy(etcd_server.endpoint) as proxy:
        endpoints = [proxy.endpoint, etcd_server.endpoint]
        async with EtcdClient(endpoints, timeout=2) as client:
            await client.get("/a")
            proxy.silence()
            assert await client.get("/a") is None
            assert await client.put("/a", b"")


async def test_a_write_into_the_dark_has_an_unknown_outcome(etcd_server: LocalEtcd) -> None:
    async with (
        Proxy(etcd_server.endpoint) as proxy,
        EtcdClient([proxy.endpoint], timeout=1.5) as client,
    ):
        await client.put("/a", b"1")
        proxy.silence()
        with pytest.raises(OutcomeUnknown) as caught:
            await client.put("/a", b"2")
        assert caught.value.reason == STORE_OUTCOME_UNKNOWN


async def test_a_member_that_hangs_is_waited_for_no_longer_than_the_deadline(
    etcd_server: LocalEtcd,
) -> None:
    async with EtcdClient([etcd_server.endpoint], timeout=1.5) as client:
        await client.put("/a", b"1")
        etcd_server.pause()
        try:
            with pytest.raises(Unavailable):
                await client.get("/a")
            with pytest.raises(OutcomeUnknown):
                await client.put("/a", b"2")
        finally:
            etcd_server.resume()
        assert await _put(client, "/b")


async def test_a_write_that_is_cut_off_has_an_unknown_outcome_and_is_not_repeated(
    etcd_server: LocalEtcd,
) -> None:
    async with (
        Proxy(etcd_server.endpoint) as proxy,
        EtcdClient([proxy.endpoint, etcd_server.endpoint]) as client,
    ):
        await client.put("/a", b"1")
        proxy.silence()
        write = asyncio.create_task(client.put("/a", b"2"))
        await _until_in_flight(client)
        proxy.cut()
        with pytest.raises(OutcomeUnknown):
            await write
        item = await client.get("/a")
        assert item is not None
        assert item.value == b"1"


async def _until_in_flight(client: EtcdClient) -> None:
    """Several turns of the loop: nothing tells that a request has left."""
    for _ in range(50):
        await asyncio.sleep(0.001)


async def test_a_write_to_nobody_was_not_carried_out() -> None:
    async with EtcdClient([NOBODY], timeout=20) as client:
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            await client.put("/a", b"")
        assert type(caught.value) is Unavailable
        assert caught.value.reason == STORE_UNAVAILABLE
        assert time.monotonic() - began < 20


async def test_reads_while_etcd_is_away_fail_and_then_succeed(etcd_server: LocalEtcd) -> None:
    async with EtcdClient([etcd_server.endpoint]) as client:
        await client.put("/a", b"1")
        etcd_server.kill()
        with pytest.raises(Unavailable) as caught:
            await client.get("/a")
        assert caught.value.reason == STORE_UNAVAILABLE
        await etcd_server.start()
        item = None
        async with asyncio.timeout(60):
            while item is None:
                try:
                    item = await client.get("/a")
                except Unavailable:
                    await asyncio.sleep(0.02)
        assert item.value == b"1"


async def test_a_store_that_went_back_is_not_believed(
    etcd_server: LocalEtcd, tmp_path: Path
) -> None:
    async with EtcdClient([etcd_server.endpoint]) as client:
        await client.put("/a", b"old")
        etcd_server.stop()
        shutil.copytree(etcd_server.data, tmp_path / "backup")
        await etcd_server.start()
        await _put(client, "/b")
        newest = await client.put("/a", b"new")
        etcd_server.kill()
        shutil.rmtree(etcd_server.data)
        shutil.copytree(tmp_path / "backup", etcd_server.data)
        await etcd_server.start()
        async with asyncio.timeout(60):
            while client.counters.regressions == 0:
                with pytest.raises(Unavailable) as caught:
                    await client.get("/a")
                await asyncio.sleep(0.02)
        assert f"went back from {newest}" in caught.value.message
        with pytest.raises(OutcomeUnknown, match="went back"):
            await client.transact((), (Put("/a", b"3"),))
        async with asyncio.timeout(60):
            with pytest.raises(StoreReplaced):
                await client.until_replaced()


async def test_another_cluster_is_not_believed(etcd_server: LocalEtcd, tmp_path: Path) -> None:
    stranger = LocalEtcd(tmp_path / "stranger")
    await stranger.start()
    try:
        async with (
            Proxy(etcd_server.endpoint) as proxy,
            EtcdClient([proxy.endpoint]) as client,
        ):
            await client.get("/a")
            proxy.redirect(stranger.endpoint)
            async with asyncio.timeout(60):
                while client.counters.regressions == 0:
                    with pytest.raises(Unavailable) as caught:
                        await client.get("/a")
                    await asyncio.sleep(0.02)
            assert "belongs to cluster" in caught.value.message
    finally:
        stranger.kill()


@pytest.mark.parametrize("endpoints", [[], [""]])
async def test_endpoints_are_needed(endpoints: list[str]) -> None:
    with pytest.raises(InvalidInput):
        EtcdClient(endpoints)


async def test_the_epoch_is_waited_for_until_the_store_answers(tmp_path: Path) -> None:
    etcd = LocalEtcd(tmp_path / "etcd")
    keys = Keys("/waited")
    async with EtcdClient([etcd.endpoint]) as client:
        waiting = asyncio.create_task(ensure_epoch(client, keys))
        try:
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await etcd.start()
            made = await asyncio.wait_for(waiting, 60)
            assert await ensure_epoch(client, keys) == made
        finally:
            waiting.cancel()
            etcd.stop()
