"""Crashes, pauses and changes of leader under load, on real processes.

Every fault is made once. Set ROMANA_FAULT_SECONDS for a longer run, ROMANA_FAULT_SEED for the same
faults again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import EtcdOptions, LocalEtcd
from tests.contract.common_etcd.proxy import Proxy
from tests.support.ipam_process import IpamProcess, poll, seed, wait_until_one_active
from tests.support.ipam_workers import Clients, Worker
from tests.support.journal import Journal
from tests.support.store_history import StoreHistory, leader_address
from tests.support.topologies import layout, network, node

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

SECONDS = float(os.environ.get("ROMANA_FAULT_SECONDS", "0"))
"""After which no further round of faults begins."""
TTL = 2
REPLICAS = 3
WORKERS = 12
NODES = tuple(f"node-{number}" for number in range(6))
REST = 2.0
"""Reuse delay of the second tenant's network, in seconds."""
LAYOUT = layout(
    [
        network("blue", "10.0.0.0/22", 29, tenants=["blue"], gateway="10.0.0.1"),
        network("green", "10.1.0.0/20", 29, tenants=["green"], reuse_delay=REST),
    ]
)
RECOVERY = 60.0
"""Seconds within which every worker is served again, on a busy machine too."""


@dataclass
class Cluster:
    """What faults are made in, and what is known of it."""

    etcd: LocalEtcd
    client: EtcdClient
    keys: Keys
    replicas: Sequence[IpamProcess]
    proxies: Mapping[str, Proxy]
    """Between replicas, by their address, and the store; one replica has none."""
    journal: Journal
    rng: random.Random
    done: list[str] = field(default_factory=list)
    """Faults, with their times."""

    async def leader(self) -> IpamProcess:
        """The elected replica."""
        found: list[IpamProcess] = []

        async def elected() -> bool:
            address = await leader_address(self.client, self.keys)
            found[:] = [one for one in self.replicas if one.address == address]
            return bool(found)

        await poll(elected, RECOVERY, what="a leader")
        return found[0]

    def note(self, what: str) -> None:
        self.done.append(f"{time.monotonic():.3f} {what}")

    async def pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self.rng.uniform(least, most))

    async def kill_active(self) -> None:
        """A crash of the active replica, which comes back soon."""
        leader = await self.leader()
        self.note(f"kill -9 {leader.address}")
        leader.kill()
        await self.pause(0, 1)
        leader.start()

    async def kill_etcd(self) -> None:
        """A crash of the store, which comes back with its data."""
        self.note("kill -9 etcd")
        self.etcd.kill()
        await self.pause(0, 1.5)
        await self.etcd.start()
        self.note("etcd is back")

    async def pause_active(self) -> None:
        """The active replica stands still until another is elected, then goes on."""
        leader = await self.leader()
        self.note(f"stop {leader.address}")
        leader.signal(signal.SIGSTOP)
        try:
            await poll(lambda: self.is_other(leader), RECOVERY, what="another leader")
            await self.pause(0, 1)
        finally:
            self.note(f"continue {leader.address}")
            leader.signal(signal.SIGCONT)

    async def is_other(self, than: IpamProcess) -> bool:
        return await leader_address(self.client, self.keys) not in {None, than.address}

    async def hand_over(self) -> None:
        """The active replica is told to end, and another takes over."""
        leader = await self.leader()
        self.note(f"terminate {leader.address}")
        assert await leader.stop() == 0
        leader.start()

    async def delay_active(self) -> None:
        """What the active replica sends to the store arrives when another is elected."""
        while (leader := await self.leader()).address not in self.proxies:
            await self.hand_over()
        proxy = self.proxies[leader.address]
        self.note(f"hold back what {leader.address} sends")
        proxy.hold_back()
        try:
            await poll(lambda: self.is_other(leader), RECOVERY, what="another leader")
            await self.pause(0, 1)
        finally:
            self.note(f"let through what {leader.address} sent")
            proxy.speak()

    async def kill_both(self) -> None:
        """The store and the active replica crash together."""
        leader = await self.leader()
        self.note(f"kill -9 etcd and {leader.address}")
        leader.kill()
        self.etcd.kill()
        await self.pause(0, 1)
        leader.start()
        await self.etcd.start()

    async def pause_and_kill_etcd(self) -> None:
        """The active replica stands still while the store crashes."""
        leader = await self.leader()
        self.note(f"stop {leader.address}, kill -9 etcd")
        leader.signal(signal.SIGSTOP)
        try:
            self.etcd.kill()
            await self.pause(0, 0.5)
            await self.etcd.start()
            await self.pause(0, 3)
        finally:
            self.note(f"continue {leader.address}")
            leader.signal(signal.SIGCONT)

    async def recovered(self, workers: Sequence[Worker]) -> None:
        """Waits until every worker has had answers since."""
        start = time.monotonic()

        def served() -> bool:
            names = Counter(
                entry.name.split("-")[0]
                for entry in reversed(self.journal.entries)
                if entry.began > start
            )
            return len(names) == len(workers)

        await poll(lambda: served() or bool(self.journal.unexpected), RECOVERY, what="all workers")
        assert not self.journal.unexpected, self.journal.unexpected[:5]
        ended = [one.log for one in self.replicas if one.pid is None]
        assert not ended, f"ended by themselves: {ended}"
        self.note(f"all are served again, {time.monotonic() - start:.1f} s later")


@contextlib.asynccontextmanager
async def cluster(folder: Path, rng: random.Random) -> AsyncIterator[Cluster]:
    """Three replicas on an etcd of their own."""
    keys = Keys("/faults")
    etcd = LocalEtcd(folder / "etcd", EtcdOptions())
    await etcd.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(etcd.stop)
        client = await stack.enter_async_context(EtcdClient([etcd.endpoint]))
        await seed(client, keys, LAYOUT, [node(name) for name in NODES])
        replicas = []
        proxies = {}
        for at in range(REPLICAS):
            endpoint = etcd.endpoint
            if at:
                proxy = await stack.enter_async_context(Proxy(etcd.endpoint))
                endpoint = proxy.endpoint
            started = IpamProcess.started(endpoint, keys.root, folder, name=f"ipam{at}", ttl=TTL)
            replicas.append(stack.enter_context(started))
            if at:
                proxies[replicas[-1].address] = proxy
        await wait_until_one_active(replicas)
        yield Cluster(etcd, client, keys, replicas, proxies, Journal(), rng)


def rounds(rng: random.Random, made: Cluster) -> Iterator[Sequence[Callable[[], Awaitable[None]]]]:
    """All faults again and again, each time in an order of its own."""
    faults = [made.kill_active, made.kill_etcd, made.pause_active, made.hand_over]
    faults += [made.delay_active, made.kill_both, made.pause_and_kill_etcd]
    while True:
        yield rng.sample(faults, len(faults))


@pytest.mark.timeout(int(SECONDS) + 300)
async def test_nothing_acknowledged_is_lost_or_given_twice(tmp_path: Path) -> None:
    chosen = os.environ.get("ROMANA_FAULT_SEED") or str(random.SystemRandom().randrange(10**6))
    rng = random.Random(chosen)
    async with cluster(tmp_path, rng) as made:
        history = StoreHistory(made.client, made.keys)
        try:
            async with following(history):
                await make_faults(made, rng)
                await prove(made, history)
        except BaseException:
            made.journal.write(tmp_path / "journal")
            report(made, chosen, tmp_path)
            raise


@contextlib.asynccontextmanager
async def following(history: StoreHistory) -> AsyncIterator[None]:
    task = asyncio.create_task(history.run())
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def make_faults(made: Cluster, rng: random.Random) -> None:
    """Works and breaks things, then lets every worker finish what it does."""
    stopping = asyncio.Event()
    clients = Clients(made.replicas)
    workers = [
        Worker(number, clients, made.journal, NODES, random.Random(rng.random()), stopping)
        for number in range(WORKERS)
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run())
            group.create_task(change_topology(made, stopping))
            end = time.monotonic() + SECONDS
            await made.recovered(workers)
            for faults in rounds(rng, made):
                for fault in faults:
                    await fault()
                    await made.recovered(workers)
                    await made.pause(0, 0.5)
                if time.monotonic() > end:
                    break
            stopping.set()
    finally:
        await clients.close()


async def change_topology(made: Cluster, stopping: asyncio.Event) -> None:
    """Writes nodes and layout again and again, so that decisions are made by what is stale."""
    rng = random.Random(made.rng.random())
    while not stopping.is_set():
        await asyncio.sleep(rng.uniform(0, 0.3))
        nodes = [node(name) for name in rng.sample(NODES, 2)]
        with contextlib.suppress(Unavailable):
            await seed(made.client, made.keys, LAYOUT if rng.random() < 0.2 else None, nodes)


async def prove(made: Cluster, history: StoreHistory) -> None:
    """Everything that must hold, now that nothing is in flight."""
    journal = made.journal
    await history.catch_up()
    held = {name: set(addresses) for name, addresses in journal.held.items()}
    lost = [
        entry
        for entry in journal.entries
        if entry.action == "allocate"
        and not all(history.was_held(entry.name, address) for address in entry.addresses)
    ]
    assert not journal.unexpected, journal.unexpected[:5]
    assert not history.violations, history.violations[:5]
    assert not lost, [*map(str, lost[:5])]
    assert not list(journal.overlaps()), list(journal.overlaps())[:5]
    assert not list(journal.hasty("10.1.", REST)), list(journal.hasty("10.1.", REST))[:5]
    assert history.held() == held, difference(journal, history.held(), held)
    commit = await made.client.get(made.keys.commit)
    assert commit is not None
    for replica in made.replicas:
        await replica.wait_until_serving()
        await replica.wait_until_reached(commit.mod_revision)
        async with replica.connect() as stub:
            said = await stub.ListAddresses(pb.ListAddressesRequest(page_size=5000))
            findings = [
                finding
                async for progress in stub.CheckConsistency(pb.CheckConsistencyRequest())
                for finding in progress.findings
            ]
        found: dict[str, set[str]] = {}
        for item in said.allocations:
            found.setdefault(item.name, set()).add(item.address)
        assert found == held, (replica.address, difference(journal, found, held))
        assert not findings, (replica.address, findings[:5])
    assert len(set(history.writers.values())) > 1


def difference(
    journal: Journal, found: dict[str, set[str]], held: dict[str, set[str]]
) -> Sequence[str]:
    """The history of names that are not as they should be."""
    names = [name for name in {*found, *held} if found.get(name) != held.get(name)][:3]
    lines = [f"{name}: {found.get(name)}, but {held.get(name)} by the journal" for name in names]
    return [*lines, *journal.about(names)[-30:]]


def report(made: Cluster, chosen: str, folder: Path) -> None:
    """To standard output, which pytest shows for a test that failed."""
    print(f"ROMANA_FAULT_SEED={chosen}, journal and logs in {folder}")  # noqa: T201
    print("\n".join(made.done))  # noqa: T201
    print("\n".join(made.journal.open()))  # noqa: T201
    for entry in made.journal.entries[-40:]:
        print(entry)  # noqa: T201


async def test_a_call_to_a_leader_that_stands_still_ends_when_the_next_is_known(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, random.Random(1)) as made:
        leader = await made.leader()
        standby = next(one for one in made.replicas if one is not leader)
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
                await poll(lambda: made.is_other(leader), RECOVERY, what="another leader")
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
