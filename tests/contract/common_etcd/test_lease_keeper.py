"""Leases that are renewed by a thread."""

from __future__ import annotations

import asyncio

from services.common.etcd.client import EtcdClient
from services.common.etcd.lease_keeper import LeaseKeeper, clock
from services.common.etcd.process import LocalEtcd
from services.common.grpc_channel import make_blocking_channel
from tests.conftest import Store


async def renewed(keeper: LeaseKeeper) -> None:
    """Waits until it lasts longer than it did."""
    before = keeper.remaining + clock()
    while keeper.remaining + clock() <= before + 0.01:
        keeper.alive()
        await asyncio.sleep(0.01)


async def test_a_lease_is_renewed_until_it_is_revoked(store: Store) -> None:
    granted = clock()
    lease = await store.client.grant_lease(2)
    async with store.client.keep_lease_alive(lease, 2, granted) as keeper:
        for _ in range(3):
            await renewed(keeper)
        assert not keeper.over.is_set()
        await store.client.revoke_lease(lease)
        while not keeper.over.is_set():
            keeper.alive()
            await asyncio.sleep(0.01)


async def test_it_goes_on_at_another_member(etcd_server: LocalEtcd) -> None:
    async with EtcdClient(["127.0.0.1:1", etcd_server.endpoint]) as client:
        granted = clock()
        lease = await client.grant_lease(20)
        async with client.keep_lease_alive(lease, 20, granted) as keeper:
            await renewed(keeper)
        async with LeaseKeeper(
            ["127.0.0.1:1", etcd_server.endpoint],
            lambda target: make_blocking_channel(target, None, ()),
            lease,
            20,
            clock(),
        ) as keeper:
            await renewed(keeper)


async def test_time_that_the_machine_was_suspended_counts(store: Store) -> None:
    lease = await store.client.grant_lease(60)
    suspended = 0.0

    def now() -> float:
        return clock() + suspended

    async with LeaseKeeper([], lambda _: None, lease, 60, now(), now=now) as keeper:  # type: ignore[arg-type, return-value]
        assert keeper.remaining > 0
        suspended = 61
        assert keeper.remaining <= 0
        async with asyncio.timeout(60):
            await keeper.over.wait()
