"""The loops of the replica that leads, and what the others keep."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import Conflict, RomanaError, Unavailable
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.kinds import NAMESPACES, NETWORK_POLICIES, NODES, PODS, WORDS
from services.kubernetes.cluster.lease import LeaseElection
from services.kubernetes.control import leading
from services.kubernetes.control.followed import Followed, follow
from services.kubernetes.control.leading import Leading
from services.kubernetes.control.tell_policy import POLICIES, PolicyTeller
from services.kubernetes.control.tell_topology import TopologyTeller
from services.kubernetes.metrics import ControllerMetrics
from services.kubernetes.objects.policies import NetworkPolicy
from services.kubernetes.wanted.values import WantedEndpoint, WantedNode, WantedTenant
from tests.fakes.api_server import FakeApiServer
from tests.support.ipam_process import poll

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/romana"


class Replica:
    """One that follows, and leads if nobody else does."""

    def __init__(self, fake: FakeApiServer, server: Any) -> None:
        self.fake = fake
        self.fresh = FreshReads(server)
        self.metrics = ControllerMetrics(CollectorRegistry(), WORDS, lambda: True)
        self.followed: Followed = follow(server, self.metrics)
        self.election = LeaseElection(
            server, namespace="kube-system", name="romana", identity="one", duration=60
        )
        self.leading = Leading(self.election, self.followed)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        works = (*self.followed.tasks.values(), self.election.run(), self.leading.run())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await self.followed.in_sync()
            await poll(lambda: self.followed.pods.is_following, 20)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def policy(self, changed: Callable[[], None], calls: Any = None) -> PolicyTeller:
        nothing: Any = None
        return PolicyTeller(
            self.followed,
            calls,
            self.fresh,
            nothing,
            self.metrics,
            changed,
            segment_label="segment",
            keeping=nothing,
        )


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    fake = FakeApiServer()
    async with fake.serve() as server:
        yield Replica(fake, server)


class Busy:
    """Always has something to tell."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.tried = 0
        """How often what was postponed was tried again."""
        self.told = 0
        self.compared = 0
        self.goes_on = asyncio.Event()

    def mark_all(self) -> None:
        self.compared += 1

    async def mark_strays(self) -> None:
        if self.compared > 1:
            await self.goes_on.wait()

    def stand_by(self) -> None: ...

    def mark_postponed(self) -> None:
        self.tried += 1

    async def tell(self) -> bool:
        self.told += 1
        await asyncio.sleep(0)
        self._changed()
        return False


async def test_what_was_postponed_is_tried_again_however_much_else_changes(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "POSTPONED_SECONDS", 0.05)
    busy = replica.leading.add("busy", Busy)
    async with replica.running():
        await poll(lambda: busy.tried > 1, 20)
        assert busy.told > busy.tried


async def test_changes_are_told_while_all_that_a_service_has_is_compared(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "ALL_SECONDS", 0.05)
    busy = replica.leading.add("busy", Busy)
    async with replica.running():
        await poll(lambda: busy.compared == 2, 20)
        told = busy.told
        await poll(lambda: busy.told > told + 1, 20)
        busy.goes_on.set()
        await poll(lambda: busy.compared > 3, 20)


async def test_who_does_not_lead_keeps_nothing_of_what_another_tells(replica: Replica) -> None:
    replica.fake.put(LEASE, spec={"holderIdentity": "another"})
    teller = replica.leading.add("policy", replica.policy)
    async with replica.running():
        replica.fake.put(f"{NAMESPACES.path}/shop")
        for number in range(20):
            path = f"{PODS.path}/web-{number}"
            replica.fake.put(path, metadata={"namespace": "shop", "uid": f"u{number}"})
            replica.fake.delete(path)
        replica.fake.put(f"{PODS.path}/last", metadata={"namespace": "shop", "uid": "l"})
        await poll(lambda: "shop/last" in replica.followed.pods.items, 20)
        await poll(lambda: "shop" in replica.followed.namespaces.items, 20)
        assert teller.backlog == 0
        teller.mark_all()
        assert teller.backlog == 2, "it still knows what there is"


async def test_pods_are_told_anew_when_their_namespace_is_another_one(replica: Replica) -> None:
    """Its UID is part of the name under which addresses stay with a pod's name."""
    path = f"{NAMESPACES.path}/shop"
    replica.fake.put(path, metadata={"uid": "first"})
    replica.fake.put(f"{PODS.path}/web", metadata={"namespace": "shop", "uid": "u"})
    teller = replica.policy(lambda: None)
    async with replica.running():
        teller.stand_by()
        replica.fake.put(path, metadata={"uid": "second"})
        await poll(lambda: replica.followed.namespaces.items["shop"].uid == "second", 20)
        assert teller.backlog == 2, "the namespace, and its pod"


class Policy:
    """What policy was told, call by call."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    async def put_tenants(self, tenants: Sequence[WantedTenant]) -> list[None]:
        self.told.append([one.name for one in tenants])
        return [None] * len(tenants)

    async def apply(self, policies: Sequence[NetworkPolicy]) -> list[object]:
        self.told.append([one.policy for one in policies])
        return []

    async def put_endpoints(self, endpoints: Sequence[WantedEndpoint]) -> list[None]:
        self.told.append([one.name for one in endpoints])
        return [None] * len(endpoints)


async def test_a_new_pod_does_not_wait_for_what_is_only_compared(replica: Replica) -> None:
    def put(name: str) -> None:
        replica.fake.put(f"{PODS.path}/{name}", metadata={"namespace": "shop", "uid": "u"})

    replica.fake.put(f"{NAMESPACES.path}/shop")
    for number in range(2 * POLICIES):
        path = f"{NETWORK_POLICIES.path}/p{number}"
        replica.fake.put(path, metadata={"namespace": "shop"}, spec={})
    put("old")
    policy = Policy()
    teller = replica.policy(lambda: None, policy)
    async with replica.running():
        await poll(lambda: replica.followed.policies.is_following, 20)
        await poll(lambda: replica.followed.namespaces.is_following, 20)
        teller.stand_by()
        teller.mark_all()
        while await teller.tell():
            pass
        assert policy.told[-1] == ["pod/shop/old/u"], "policies come before pods"
        policy.told.clear()
        teller.mark_all()
        put("new")
        await poll(lambda: "shop/new" in replica.followed.pods.items, 20)
        await teller.tell()
        assert policy.told[-1] == ["pod/shop/new/u"]
        assert len(policy.told[1]) == POLICIES, "there are more"
        while await teller.tell():
            pass
        assert policy.told[-1] == ["pod/shop/old/u"]
        assert sum(map(len, policy.told)) == 1 + 2 * POLICIES + 2


class Topology:
    """Nodes that topology has, and what it says instead of taking some."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.errors: dict[str, RomanaError] = {}

    async def nodes(self) -> dict[str, dict[str, str]]:
        return {name: {} for name in self.known}

    async def put_node(self, wanted: WantedNode) -> None:
        if wanted.name in self.errors:
            raise self.errors[wanted.name]
        self.known.add(wanted.name)


@pytest.mark.parametrize("error", [Conflict("its agent came first"), Unavailable("away")])
async def test_a_node_that_fails_keeps_no_other_waiting_and_is_told_again(
    replica: Replica, error: RomanaError
) -> None:
    for name in ("a", "b", "c"):
        replica.fake.put(f"{NODES.path}/{name}")
    topology: Any = Topology()
    topology.errors["a"] = error
    notes: Any = None
    replica.leading.add(
        "topology",
        lambda changed: TopologyTeller(
            replica.followed, topology, replica.fresh, notes, replica.metrics, changed, force=False
        ),
    )
    async with replica.running():
        await poll(lambda: topology.known == {"b", "c"}, 20)
        topology.errors.clear()
        await poll(lambda: topology.known == {"a", "b", "c"}, 20)
