"""Crashes, pauses, black holes and changes of leader under load, on real processes.

Every fault is made once. Set ROMANA_FAULT_SECONDS for a longer run, ROMANA_FAULT_SEED for the same
faults again. What came of each kind is printed at the end of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.etcd.process import LocalEtcd
from tests.contract.common_etcd.proxy import Proxy
from tests.support.fault_table import Record
from tests.support.ipam_process import IpamProcess, poll
from tests.support.ipam_site import (
    RECOVERY,
    SECONDS,
    TTL,
    Fault,
    IpamSite,
    following,
    ipam_site,
    make_all,
    seed_of_faults,
)

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub


@dataclass
class Faults:
    """Of the active replica and the store."""

    site: IpamSite

    async def kill_active(self) -> None:
        """It comes back soon."""
        leader = await self.site.leader()
        self.site.note(f"kill -9 {leader.address}")
        leader.kill()
        await self.site.pause(0, 1)
        leader.start()

    async def kill_etcd(self) -> None:
        """It comes back with its data."""
        self.site.note("kill -9 etcd")
        self.site.etcd.kill()
        await self.site.pause(0, 1.5)
        await self.site.etcd.start()
        self.site.note("etcd is back")

    async def pause_active(self) -> None:
        """It stands still until its lease is over and another is elected, then goes on."""
        leader = await self.site.leader()
        with self.site.standing_still(leader):
            await self.site.until_other(leader)
            await self.site.pause(0, 1)

    async def pause_etcd(self) -> None:
        """Connections stay, and nothing is answered for longer than the lease."""
        self.site.note("stop etcd")
        self.site.etcd.pause()
        try:
            await self.site.pause(TTL + 1, TTL + 2)
        finally:
            self.site.note("continue etcd")
            self.site.etcd.resume()

    async def hand_over(self) -> None:
        """The active replica is told to end, and another takes over."""
        leader = await self.site.leader()
        self.site.note(f"terminate {leader.address}")
        assert await leader.stop() == 0
        leader.start()

    async def delay_active(self) -> None:
        """What it sends to the store arrives when another is elected."""
        leader, proxy = await self._behind_a_proxy()
        self.site.note(f"hold back what {leader.address} sends")
        proxy.hold_back()
        await self._until_other(leader, proxy)

    async def black_hole(self) -> None:
        """Nothing passes between it and the store, and no connection ends."""
        leader, proxy = await self._behind_a_proxy()
        self.site.note(f"nothing passes between {leader.address} and etcd")
        proxy.silence()
        await self._until_other(leader, proxy)

    async def kill_both(self) -> None:
        """The store and the active replica crash together."""
        leader = await self.site.leader()
        self.site.note(f"kill -9 etcd and {leader.address}")
        leader.kill()
        self.site.etcd.kill()
        await self.site.pause(0, 1)
        leader.start()
        await self.site.etcd.start()

    async def pause_and_kill_etcd(self) -> None:
        """The active replica stands still while the store crashes."""
        leader = await self.site.leader()
        with self.site.standing_still(leader):
            self.site.note("kill -9 etcd")
            self.site.etcd.kill()
            await self.site.pause(0, 0.5)
            await self.site.etcd.start()
            await self.site.pause(0, 3)

    async def _behind_a_proxy(self) -> tuple[IpamProcess, Proxy]:
        while (leader := await self.site.leader()).address not in self.site.proxies:
            await self.hand_over()
        return leader, self.site.proxies[leader.address]

    async def _until_other(self, leader: IpamProcess, proxy: Proxy) -> None:
        try:
            await self.site.until_other(leader)
            await self.site.pause(0, 1)
        finally:
            self.site.note(f"what {leader.address} sent passes")
            proxy.speak()

    @property
    def kinds(self) -> Mapping[str, Fault]:
        return {
            "active ipam killed": self.kill_active,
            "etcd killed": self.kill_etcd,
            "active ipam stopped beyond its lease": self.pause_active,
            "etcd stopped beyond the lease": self.pause_etcd,
            "active ipam hands over": self.hand_over,
            "what the active ipam sends comes late": self.delay_active,
            "black hole between active ipam and etcd": self.black_hole,
            "active ipam and etcd killed": self.kill_both,
            "active ipam stopped, etcd killed": self.pause_and_kill_etcd,
        }


@contextlib.asynccontextmanager
async def site_of_one(folder: Path, rng: random.Random) -> AsyncIterator[IpamSite]:
    """On one member of etcd."""
    etcd = LocalEtcd(folder / "etcd")
    await etcd.start()
    async with ipam_site(folder, [etcd], rng) as site:
        yield site


@pytest.mark.timeout(int(SECONDS) + 300)
async def test_nothing_acknowledged_is_lost_or_given_twice(
    tmp_path: Path, record_property: Record
) -> None:
    chosen = seed_of_faults()
    async with site_of_one(tmp_path, random.Random(chosen)) as site:
        with site.reporting(chosen, tmp_path):
            async with following(site) as history:
                await make_all(
                    site, Faults(site).kinds, lambda count: count.record(record_property)
                )
                await site.prove(history)
                assert len(set(history.writers.values())) > 1


async def test_a_call_to_a_leader_that_stands_still_ends_when_the_next_is_known(
    tmp_path: Path,
) -> None:
    async with site_of_one(tmp_path, random.Random(1)) as site:
        leader = await site.leader()
        standby = next(one for one in site.replicas if one is not leader)
        await standby.wait_until_serving()
        async with standby.connect() as stub:
            await poll(lambda: is_answered(stub), RECOVERY, what="a connection to the leader")
            leader.signal(signal.SIGSTOP)
            try:
                call = stub.ReleaseAddress(RELEASE)
                streamed = stub.AllocateStream(iter([pb.AllocateStreamRequest()]))
                answer = asyncio.create_task(anext(aiter(streamed)))
                await asyncio.sleep(0.1)
                assert not call.done()
                await poll(lambda: site.is_other(leader), RECOVERY, what="another leader")
                await poll(lambda: is_answered(stub), RECOVERY, what="an answer")
                for ended in (call, answer):
                    with pytest.raises(grpc.aio.AioRpcError) as raised:
                        await asyncio.wait_for(ended, RECOVERY)
                    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            finally:
                leader.signal(signal.SIGCONT)


RELEASE = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name="nobody"))


async def is_answered(stub: IpamServiceAsyncStub) -> bool:
    try:
        await stub.ReleaseAddress(RELEASE, timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return True
