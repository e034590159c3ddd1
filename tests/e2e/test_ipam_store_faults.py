"""History of etcd that is compacted, and its quota used up, while ipam is worked with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.etcd.errors import StoreFull
from services.common.etcd.process import EtcdOptions, LocalEtcd
from services.common.etcd.types import Delete
from services.common.rpc.status import error_of
from tests.support.etcdctl import etcdctl, is_installed
from tests.support.fault_table import Record
from tests.support.ipam_process import poll
from tests.support.ipam_site import (
    RECOVERY,
    SECONDS,
    Fault,
    IpamSite,
    following,
    ipam_site,
    make_all,
    seed_of_faults,
)
from tests.support.store_history import StoreHistory

pytestmark = [
    pytest.mark.timeout(int(SECONDS) + 300),
    pytest.mark.skipif(not is_installed(), reason="needs etcdctl (apt-get install etcd-client)"),
]

QUOTA = 24 << 20
FILLING = "/filling/"


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
