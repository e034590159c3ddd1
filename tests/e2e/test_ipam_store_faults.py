"""What happens to etcd in the long run, while ipam is worked with: history that is compacted, a
quota that is used up, members that crash, and a backup that is restored."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import StoreFull
from services.common.etcd.process import EtcdOptions, LocalEtcd, free_port
from services.common.etcd.types import Delete
from services.common.rpc.status import error_of
from tests.support.etcdctl import etcdctl, is_installed, leads, restore
from tests.support.fault_table import FaultCount, Record
from tests.support.ipam_process import poll
from tests.support.ipam_site import (
    NODES,
    RECOVERY,
    SECONDS,
    Fault,
    IpamSite,
    following,
    ipam_site,
    make_all,
    seed_of_faults,
)
from tests.support.ipam_workers import AGAIN, spec_of
from tests.support.store_history import StoreHistory

pytestmark = [
    pytest.mark.timeout(int(SECONDS) + 300),
    pytest.mark.skipif(not is_installed(), reason="needs etcdctl (apt-get install etcd-client)"),
]

QUOTA = 24 << 20
FILLING = "/filling/"
RESTING = grpc.StatusCode.RESOURCE_EXHAUSTED
"""What is said of an address whose block rests with another owner."""


@dataclass
class Faults:
    """Of an etcd with one member and little room."""

    site: IpamSite
    history: StoreHistory

    async def compact_behind_standbys(self) -> None:
        """Standby replicas come back to a store that has forgotten what they missed."""
        leader = await self.site.leader()
        killed, stopped = (one for one in self.site.replicas if one is not leader)
        killed.kill()
        with self.site.standing_still(stopped):
            await self._goes_on(20)
            await self._compact()
            await self._goes_on(20)
        killed.start()

    async def compact_behind_the_active(self) -> None:
        """The active replica stands still until another is elected and has forgotten history."""
        leader = await self.site.leader()
        with self.site.standing_still(leader):
            await self.site.until_other(leader)
            await self._goes_on(20)
            await self._compact()

    async def use_up_quota(self) -> None:
        """Writes are refused until there is room again, by the documented steps."""
        await self._fill()
        self.site.note("etcd is full")
        await poll(self._is_refused, RECOVERY, what="a refusal")
        await self.site.pause(0, 1)
        await self._make_room()

    async def use_up_quota_and_kill(self) -> None:
        """Nobody can be elected meanwhile."""
        await self._fill()
        leader = await self.site.leader()
        leader.kill()
        self.site.note(f"etcd is full, kill -9 {leader.address}")
        leader.start()
        await self.site.pause(2, 3)
        await self._make_room()

    async def _goes_on(self, answers: int) -> None:
        """Waits for so many further answers."""
        wanted = len(self.site.journal.entries) + answers
        entries = self.site.journal.entries
        await poll(lambda: len(entries) >= wanted, RECOVERY, what="answers")

    async def _compact(self) -> None:
        """All that the onlooker has seen; who is away has not."""
        await self.history.catch_up()
        revision = await self.site.client.revision()
        await self.history.catch_up()
        self.site.note(f"compact {revision}")
        await etcdctl(self.site.etcd, "compact", str(revision))

    async def _fill(self) -> None:
        for number in range(10 * QUOTA // 1_000_000):  # it notices late
            try:
                await self.site.client.put(f"{FILLING}{number}", bytes(1_000_000))
            except StoreFull:
                return
        raise AssertionError("etcd took more than its quota")

    async def _is_refused(self) -> bool:
        leader = await self.site.leader()
        spec = {"name": "quota", "node": "node-0", "tenant": "tiny"}
        async with leader.connect() as stub:
            try:
                await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec), timeout=5)
            except grpc.aio.AioRpcError as error:
                return error_of(error).reason == "STORE_FULL"
            await stub.ReleaseAddress(pb.ReleaseAddressRequest(spec={"name": "quota"}), timeout=5)
        return False

    async def _make_room(self) -> None:
        etcd, client = self.site.etcd, self.site.client
        await client.transact((), (Delete(FILLING, prefix=True),))
        await self._compact()
        await etcdctl(etcd, "defrag", "--command-timeout", "30s")
        await etcdctl(etcd, "alarm", "disarm")
        self.site.note("there is room in etcd")

    @property
    def kinds(self) -> Mapping[str, Fault]:
        return {
            "etcd compacted behind standby replicas": self.compact_behind_standbys,
            "etcd compacted behind the active ipam": self.compact_behind_the_active,
            "etcd's quota used up": self.use_up_quota,
            "etcd's quota used up, active ipam killed": self.use_up_quota_and_kill,
        }


async def test_a_store_that_forgets_or_is_full_costs_nothing_that_was_acknowledged(
    tmp_path: Path, record_property: Record
) -> None:
    chosen = seed_of_faults()
    options = EtcdOptions(extra=("--quota-backend-bytes", str(QUOTA)))
    etcd = LocalEtcd(tmp_path / "etcd", options)
    await etcd.start()
    async with ipam_site(tmp_path, [etcd], random.Random(chosen)) as site:
        with site.reporting(chosen, tmp_path):
            async with following(site) as history:
                faults = Faults(site, history)
                await make_all(site, faults.kinds, lambda count: count.record(record_property))
                await site.prove(history)


@dataclass
class MemberFaults:
    """Of an etcd with three members."""

    site: IpamSite

    async def kill_leader(self) -> None:
        """The others elect another, while nobody's lease ends."""
        await self._kill(await self._leading())

    async def kill_follower(self) -> None:
        leading = await self._leading()
        await self._kill(next(one for one in self.site.members if one is not leading))

    async def pause_leader(self) -> None:
        leading = await self._leading()
        self.site.note(f"stop {leading.endpoint}")
        leading.pause()
        try:
            await poll(lambda: self._leads_no_more(leading), RECOVERY, what="another leader")
            await self.site.recovered()
        finally:
            self.site.note(f"continue {leading.endpoint}")
            leading.resume()

    async def _kill(self, member: LocalEtcd) -> None:
        self.site.note(f"kill -9 {member.endpoint}")
        member.kill()
        await self.site.recovered()
        await member.start(wait=False)
        await member.healthy(RECOVERY)
        self.site.note(f"{member.endpoint} is back")

    async def _leading(self) -> LocalEtcd:
        found: list[LocalEtcd] = []

        async def led() -> bool:
            found[:] = [one for one in self.site.members if await leads(one)]
            return len(found) == 1

        await poll(led, RECOVERY, what="a leading member")
        return found[0]

    async def _leads_no_more(self, member: LocalEtcd) -> bool:
        others = [one for one in self.site.members if one is not member]
        return any([await leads(one) for one in others])

    @property
    def kinds(self) -> Mapping[str, Fault]:
        return {
            "leading member of three of etcd killed": self.kill_leader,
            "following member of three of etcd killed": self.kill_follower,
            "leading member of three of etcd stopped": self.pause_leader,
        }


async def three_members(folder: Path) -> Sequence[LocalEtcd]:
    """Of one cluster, running."""
    names = ("one", "two", "three")
    peers = {name: free_port() for name in names}
    members = [
        LocalEtcd(
            folder / name,
            EtcdOptions(name=name, peers=peers, peer_port=peers[name], token="faults"),
        )
        for name in names
    ]
    for member in members:
        await member.start(wait=False)
    for member in members:
        await member.healthy(RECOVERY)
    return members


async def test_members_that_crash_cost_nothing_that_was_acknowledged(
    tmp_path: Path, record_property: Record
) -> None:
    chosen = seed_of_faults()
    members = await three_members(tmp_path)
    async with ipam_site(tmp_path, members, random.Random(chosen)) as site:
        with site.reporting(chosen, tmp_path):
            async with following(site) as history:
                faults = MemberFaults(site)
                await make_all(site, faults.kinds, lambda count: count.record(record_property))
                await site.prove(history)


async def test_a_restored_store_is_brought_up_to_date_by_the_documented_steps(
    tmp_path: Path, record_property: Record
) -> None:
    chosen = seed_of_faults()
    ports = EtcdOptions(client_port=free_port(), peer_port=free_port())
    etcd = LocalEtcd(tmp_path / "etcd", ports)
    await etcd.start()
    async with ipam_site(tmp_path, [etcd], random.Random(chosen)) as site:
        with site.reporting(chosen, tmp_path):
            async with site.working():
                await site.recovered()
                await etcdctl(etcd, "snapshot", "save", str(tmp_path / "romana.db"))
                await site.recovered()
                await site.recovered()
            began = time.monotonic()
            forgotten = await site.leader()
            for replica in site.replicas:
                if replica is not forgotten:
                    assert await replica.stop() == 0
            etcd.stop()
            restored = LocalEtcd(tmp_path / "restored", replace(ports, token="restored-1"))
            restored.data.parent.mkdir()
            await restore(
                tmp_path / "romana.db",
                restored.data,
                peer_port=ports.peer_port,
                token="restored-1",
            )
            await restored.start()
            try:
                assert await forgotten.wait(RECOVERY) == 1
                await etcdctl(restored, "del", site.keys.epoch)
                for replica in site.replicas:
                    replica.start()
                async with EtcdClient([restored.endpoint]) as site.client:
                    wrong = await site.differences()
                    assert all(wrong), "nothing was taken or released after the backup"
                    await bring_up_to_date(site)
                    losses, leaks = await site.differences()
                    FaultCount(
                        "etcd restored from a backup",
                        len(site.journal.entries),
                        duplicates=len([*site.journal.overlaps()]),
                        losses=len(losses),
                        leaks=len(leaks),
                        longest_gap=time.monotonic() - began,
                    ).record(record_property)
                    await site.prove()
                    async with site.working():
                        await site.recovered()
                    await site.prove()
            finally:
                restored.stop()


async def bring_up_to_date(site: IpamSite) -> None:
    """By the ledger: releases what the backup has too much, then takes what it lacks."""
    losses, leaks = await site.differences()
    active = await site.leader()
    async with active.connect() as stub:
        for name in {name for name, _ in leaks}:
            request = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name=name))
            await stub.ReleaseAddress(request, timeout=RECOVERY)
        for name in {name for name, _ in losses} | {name for name, _ in leaks}:
            if name not in site.journal.held:
                continue
            spec = spec_of(name, NODES, site.journal.held[name])

            async def taken(spec: AllocationSpec = spec) -> bool:
                try:
                    await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec), timeout=5)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in {*AGAIN, RESTING}:
                        raise
                    return False
                return True

            await poll(taken, RECOVERY, what=f"the addresses of {name}")
