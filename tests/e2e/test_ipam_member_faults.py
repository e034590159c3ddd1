"""Three members of etcd, of which one crashes or hangs, while ipam is worked with."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.etcd.process import EtcdOptions, LocalEtcd, free_port
from tests.support.etcdctl import is_installed, leads
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

pytestmark = [
    pytest.mark.timeout(int(SECONDS) + 300),
    pytest.mark.skipif(not is_installed(), reason="needs etcdctl (apt-get install etcd-client)"),
]


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
