"""Replicas of ipam on an etcd of their own, that people work with while faults are made.

What was acknowledged is kept apart from the product, in a `Journal`. After each fault everybody
finishes what he does, and what ipam says is in use is compared with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from tests.contract.common_etcd.proxy import Proxy
from tests.support.fake_clock import FakeClock
from tests.support.fault_table import FaultCount
from tests.support.ipam_process import IpamProcess, poll, seed, wait_until_one_active
from tests.support.ipam_workers import AGAIN, Clients, Worker
from tests.support.journal import Journal
from tests.support.store_history import StoreHistory, leader_address
from tests.support.topologies import layout, network, node

SECONDS = float(os.environ.get("ROMANA_FAULT_SECONDS", "0"))
"""After which no further round of faults begins."""
TTL = 2
REPLICAS = 3
WORKERS = 12
NODES = tuple(f"node-{number}" for number in range(6))
REST = 2.0
"""Reuse delay of the second and third tenant's networks, in seconds."""
LAYOUT = layout(
    [
        network("blue", "10.0.0.0/22", 29, tenants=["blue"], gateway="10.0.0.1"),
        network("green", "10.1.0.0/20", 29, tenants=["green"], reuse_delay=REST),
        network("tiny", "10.2.0.0/29", 29, tenants=["tiny"], reuse_delay=REST),
    ]
)
"""Workers use the first two."""
RECOVERY = 60.0
"""Seconds within which every worker is served again, on a busy machine too."""

Fault = Callable[[], Awaitable[None]]


@dataclass
class IpamSite:
    """What faults are made in, and what is known of it."""

    members: Sequence[LocalEtcd]
    client: EtcdClient
    keys: Keys
    replicas: Sequence[IpamProcess]
    proxies: Mapping[str, Proxy]
    """Between replicas, by their address, and the store; some may have none."""
    rng: random.Random
    journal: Journal = field(default_factory=Journal)
    done: list[str] = field(default_factory=list)
    """Faults, with their times."""
    clocks: Mapping[str, FakeClock] = field(default_factory=dict)
    """Of replicas, by their address."""
    workers: list[Worker] = field(default_factory=list)

    @property
    def etcd(self) -> LocalEtcd:
        """The only member."""
        (member,) = self.members
        return member

    async def leader(self) -> IpamProcess:
        """The elected replica."""
        found: list[IpamProcess] = []

        async def elected() -> bool:
            with contextlib.suppress(Unavailable):
                address = await leader_address(self.client, self.keys)
                found[:] = [one for one in self.replicas if one.address == address]
            return bool(found)

        await poll(elected, RECOVERY, what="a leader")
        return found[0]

    async def is_other(self, than: IpamProcess) -> bool:
        with contextlib.suppress(Unavailable):
            return await leader_address(self.client, self.keys) not in {None, than.address}
        return False

    async def until_other(self, than: IpamProcess) -> None:
        """Waits until another one is elected."""
        await poll(lambda: self.is_other(than), RECOVERY, what="another leader")

    def note(self, what: str) -> None:
        self.done.append(f"{time.monotonic():.3f} {what}")

    async def pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self.rng.uniform(least, most))

    @contextlib.contextmanager
    def standing_still(self, replica: IpamProcess) -> Iterator[None]:
        """It is stopped in its tracks meanwhile."""
        self.note(f"stop {replica.address}")
        replica.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.note(f"continue {replica.address}")
            replica.signal(signal.SIGCONT)

    async def make(self, kind: str, fault: Fault) -> FaultCount:
        """Makes a fault while everybody works, lets all finish, and counts what is wrong."""
        first = len(self.journal.entries)
        overlaps = len([*self.journal.overlaps()])
        async with self.working():
            await self.recovered()
            began = time.monotonic()
            await fault()
            await self.recovered()
            ended = time.monotonic()
        entries = self.journal.entries[first:]
        acknowledged = [one.ended for one in entries if began < one.ended < ended]
        gaps = itertools.pairwise([began, *sorted(acknowledged), ended])
        losses, leaks = await self.differences()
        return FaultCount(
            kind,
            len(entries),
            duplicates=len([*self.journal.overlaps()]) - overlaps,
            losses=len(losses),
            leaks=len(leaks),
            longest_gap=max(later - earlier for earlier, later in gaps),
        )

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Everybody works meanwhile, and finishes what he does in the end."""
        stopping = asyncio.Event()
        clients = Clients(self.replicas)
        if not self.workers:
            self.workers += [
                Worker(number, clients, self.journal, NODES, random.Random(self.rng.random()))
                for number in range(WORKERS)
            ]
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self.workers:
                    worker.clients = clients
                    group.create_task(worker.run(stopping))
                group.create_task(self._change_topology(stopping))
                yield
                stopping.set()
        finally:
            await clients.close()

    async def _change_topology(self, stopping: asyncio.Event) -> None:
        """Writes nodes and layout again and again, so that decisions are made by what is stale."""
        rng = random.Random(self.rng.random())
        while not stopping.is_set():
            await asyncio.sleep(rng.uniform(0, 0.3))
            nodes = [node(name) for name in rng.sample(NODES, 2)]
            with contextlib.suppress(Unavailable):
                await seed(self.client, self.keys, LAYOUT if rng.random() < 0.2 else None, nodes)

    async def recovered(self) -> None:
        """Waits until every worker has had answers since."""
        start = time.monotonic()

        def served() -> bool:
            names = Counter(
                entry.name.split("-")[0]
                for entry in reversed(self.journal.entries)
                if entry.began > start
            )
            return len(names) == len(self.workers)

        await poll(lambda: served() or bool(self.journal.unexpected), RECOVERY, what="all workers")
        assert not self.journal.unexpected, self.journal.unexpected[:5]
        ended = [one.log for one in self.replicas if one.pid is None]
        assert not ended, f"ended by themselves: {ended}"
        self.note(f"all are served again, {time.monotonic() - start:.1f} s later")

    async def differences(self) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """Names with addresses that ipam lacks, and those that it has too many.

        Nothing may be in flight.
        """
        active = await wait_until_one_active(self.replicas, RECOVERY)
        said = {(name, each) for name, many in (await listed(active)).items() for each in many}
        held = {(name, each) for name, many in self.journal.held.items() for each in many}
        return held - said, said - held

    async def prove(self, history: StoreHistory | None = None) -> None:
        """Everything that must hold, now that nothing is in flight."""
        journal = self.journal
        held = {name: set(addresses) for name, addresses in journal.held.items()}
        assert not journal.unexpected, journal.unexpected[:5]
        assert not list(journal.overlaps()), list(journal.overlaps())[:5]
        assert not list(journal.hasty("10.1.", REST)), list(journal.hasty("10.1.", REST))[:5]
        if history is not None:
            await history.catch_up()
            lost = [
                entry
                for entry in journal.entries
                if entry.action == "allocate"
                and not all(history.was_held(entry.name, address) for address in entry.addresses)
            ]
            assert not history.violations, history.violations[:5]
            assert not lost, [*map(str, lost[:5])]
            assert history.held() == held, self._difference(history.held(), held)
        commit = await self.client.get(self.keys.commit)
        assert commit is not None
        for replica in self.replicas:
            await replica.wait_until_serving()
            await replica.wait_until_reached(commit.mod_revision)
            found = await listed(replica)
            assert found == held, (replica.address, self._difference(found, held))
            async with replica.connect() as stub:
                findings = [
                    finding
                    async for progress in stub.CheckConsistency(pb.CheckConsistencyRequest())
                    for finding in progress.findings
                ]
            assert not findings, (replica.address, findings[:5])

    def _difference(
        self, found: Mapping[str, set[str]], held: Mapping[str, set[str]]
    ) -> Sequence[str]:
        """The history of names that are not as they should be."""
        names = [name for name in {*found, *held} if found.get(name) != held.get(name)][:3]
        lines = [
            f"{name}: {found.get(name)}, but {held.get(name)} by the journal" for name in names
        ]
        return [*lines, *self.journal.about(names)[-30:]]

    @contextlib.contextmanager
    def reporting(self, chosen: str, folder: Path) -> Iterator[None]:
        """Says all that is known if this fails; pytest shows the output of a test that failed."""
        try:
            yield
        except BaseException:
            self.journal.write(folder / "journal")
            print(f"ROMANA_FAULT_SEED={chosen}, journal and logs in {folder}")  # noqa: T201
            print("\n".join(self.done))  # noqa: T201
            print("\n".join(self.journal.open()))  # noqa: T201
            for entry in self.journal.entries[-40:]:
                print(entry)  # noqa: T201
            raise


async def listed(replica: IpamProcess) -> dict[str, set[str]]:
    """Addresses by name, as this replica tells anybody as soon as it answers."""
    found: dict[str, set[str]] = {}
    async with replica.connect() as stub:

        async def answered() -> bool:
            request = pb.ListAddressesRequest(page_size=5000)
            try:
                said = await stub.ListAddresses(request, timeout=RECOVERY)
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN:
                    raise
                return False
            assert not said.next_page_token
            for item in said.allocations:
                found.setdefault(item.name, set()).add(item.address)
            return True

        await poll(answered, RECOVERY, what=f"{replica.address} to list addresses")
    return found


@contextlib.asynccontextmanager
async def ipam_site(
    folder: Path, members: Sequence[LocalEtcd], rng: random.Random, *, clocks: bool = False
) -> AsyncIterator[IpamSite]:
    """Three replicas on these members of etcd, which run and are stopped in the end.

    Between the only member and all replicas but one is a proxy.
    """
    keys = Keys("/faults")
    endpoints = [member.endpoint for member in members]
    async with contextlib.AsyncExitStack() as stack:
        for member in members:
            stack.callback(member.kill)
        client = await stack.enter_async_context(EtcdClient(endpoints))
        await seed(client, keys, LAYOUT, [node(name) for name in NODES])
        replicas = []
        proxies = {}
        faked = {}
        for at in range(REPLICAS):
            reached = endpoints
            proxy = None
            if at and len(members) == 1:
                proxy = await stack.enter_async_context(Proxy(members[0].endpoint))
                reached = [proxy.endpoint]
            clock = FakeClock(folder / f"clock{at}") if clocks else None
            started = IpamProcess.started(
                reached, keys.root, folder, name=f"ipam{at}", ttl=TTL, clock=clock
            )
            replica = stack.enter_context(started)
            replicas.append(replica)
            if proxy is not None:
                proxies[replica.address] = proxy
            if clock is not None:
                faked[replica.address] = clock
        await wait_until_one_active(replicas)
        yield IpamSite(members, client, keys, replicas, proxies, rng, clocks=faked)


@contextlib.asynccontextmanager
async def following(site: IpamSite) -> AsyncIterator[StoreHistory]:
    """Judges all that is written meanwhile."""
    history = StoreHistory(site.client, site.keys)
    task = asyncio.create_task(history.run())
    try:
        yield history
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def make_all(
    site: IpamSite, faults: Mapping[str, Fault], record: Callable[[FaultCount], None]
) -> None:
    """All of them once, and again until it is time, each time in an order of its own."""
    end = time.monotonic() + SECONDS
    while True:
        for kind in site.rng.sample([*faults], len(faults)):
            count = await site.make(kind, faults[kind])
            record(count)
            assert count.is_clean, (count, await site.differences())
            await site.pause(0, 0.3)
        if time.monotonic() > end:
            return


def seed_of_faults() -> str:
    """ROMANA_FAULT_SEED, or a new one."""
    return os.environ.get("ROMANA_FAULT_SEED") or str(random.SystemRandom().randrange(10**6))
