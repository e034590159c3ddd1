"""Wall clocks that jump, each replica's by itself, while ipam is worked with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.etcd.process import LocalEtcd
from tests.support.fake_clock import library
from tests.support.fault_table import Record
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

HOUR = 3600
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED}


@dataclass
class Faults:
    site: IpamSite
    allocated: int = 0

    async def active_ahead(self) -> None:
        await self._jump(HOUR)

    async def active_back(self) -> None:
        await self._jump(-HOUR)

    async def next_one_behind(self) -> None:
        """What rests by a clock that was ahead is handed out by one that is behind."""
        leader = await self.site.leader()
        for address, clock in self.site.clocks.items():
            clock.set(HOUR if address == leader.address else -HOUR)
        self.site.note(f"{leader.address} is an hour ahead, all others an hour behind")
        await self._use_up()
        leader.kill()
        leader.start()
        await self.site.until_other(leader)
        await self._use_up()

    async def _jump(self, by: int) -> None:
        leader = await self.site.leader()
        await self._use_up()
        self.site.note(f"the clock of {leader.address} jumps by {by} s")
        self.site.clocks[leader.address].set(by)
        await self._use_up()

    async def _use_up(self) -> None:
        """Takes and releases all of a small network: what rests for long would be missed here."""
        taken: list[str] = []
        while len(taken) < 7:
            self.allocated += 1
            taken += [await self._allocate(f"jump-{self.allocated}")]
        for name in taken:
            await self._release(name)

    async def _allocate(self, name: str) -> str:
        """Its name, as soon as there is an address; the first of the network is nobody's."""
        spec = AllocationSpec(name=name, node=NODES[0], tenant="tiny")
        request = pb.AllocateAddressRequest(spec=spec)

        async def done() -> bool:
            return await self._ask("AllocateAddress", request, full=True)

        await poll(done, RECOVERY, what="an address that rested")
        return name

    async def _release(self, name: str) -> None:
        request = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name=name))

        async def done() -> bool:
            return await self._ask("ReleaseAddress", request)

        await poll(done, RECOVERY, what="a release")

    async def _ask(self, method: str, request: object, *, full: bool = False) -> bool:
        again = {*AGAIN, grpc.StatusCode.RESOURCE_EXHAUSTED} if full else AGAIN
        leader = await self.site.leader()
        async with leader.connect() as stub:
            try:
                await getattr(stub, method)(request, timeout=5)
            except grpc.aio.AioRpcError as error:
                if error.code() not in again:
                    raise
                return False
        return True

    @property
    def kinds(self) -> Mapping[str, Fault]:
        return {
            "clock of active ipam jumps ahead": self.active_ahead,
            "clock of active ipam jumps back": self.active_back,
            "clock of the next ipam is behind": self.next_one_behind,
        }


@pytest.mark.timeout(int(SECONDS) + 300)
@pytest.mark.skipif(library() is None, reason="needs libfaketime (apt-get install libfaketime)")
async def test_addresses_rest_as_long_as_they_shall_whatever_clocks_say(
    tmp_path: Path, record_property: Record
) -> None:
    chosen = seed_of_faults()
    etcd = LocalEtcd(tmp_path / "etcd")
    await etcd.start()
    async with ipam_site(tmp_path, [etcd], random.Random(chosen), clocks=True) as site:
        with site.reporting(chosen, tmp_path):
            async with following(site) as history:
                await make_all(
                    site, Faults(site).kinds, lambda count: count.record(record_property)
                )
                await site.prove(history)
