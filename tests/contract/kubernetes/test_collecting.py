"""What addresses are given back, of pods that are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.common.model.names import EndpointName, NodeName
from services.common.model.pods import pod_endpoint
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.kinds import NAMESPACES, PODS, WORDS
from services.kubernetes.control.collecting import Collecting
from services.kubernetes.metrics import ControllerMetrics
from services.kubernetes.objects.metadata import Metadata, OwnerReference
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.objects.pods import PodObject, pod_of
from services.kubernetes.wanted.sticky import allocation_of
from tests.fakes.api_server import FakeApiServer

NODE = NodeName("n1")
ENDPOINT = pod_endpoint("shop", "db-0", "u0")


def of_its_name() -> EndpointName:
    """The name in ipam of what stays with the name of pod db-0."""
    owner = OwnerReference("StatefulSet", "db", controller=True)
    pod = pod_of(PodObject(Metadata("db-0", "shop", "u0", owners=(owner,))))
    return EndpointName(allocation_of(pod, Namespace("shop", "n0", {}, {}), []))


class Ipam:
    """Addresses, by name; all on one node."""

    def __init__(self) -> None:
        self.known: dict[str, set[str]] = {}

    async def allocations(self) -> dict[str, NodeName]:
        return dict.fromkeys(self.known, NODE)

    async def addresses_of(self, name: str) -> set[str]:
        return self.known.get(name, set())

    async def release(self, name: str, node: NodeName | None = None) -> list[str]:
        assert node == NODE
        return sorted(self.known.pop(name, set()))


class Policy:
    """What the node says that it has."""

    def __init__(self) -> None:
        self.has: dict[str, set[str]] = {}

    async def attached(self, name: EndpointName) -> bool:
        return name in self.has

    async def addresses_on(self, node: NodeName) -> set[str]:
        assert node == NODE
        return set().union(*self.has.values())

    async def connected(self, nodes: Iterable[NodeName]) -> set[NodeName]:
        return set(nodes)


class World:
    def __init__(self, fake: FakeApiServer, server: Any) -> None:
        self.fake = fake
        self.ipam: Any = Ipam()
        self.policy: Any = Policy()
        self.collecting = Collecting(
            self.ipam,
            self.policy,
            FreshReads(server),
            ControllerMetrics(CollectorRegistry(), WORDS, lambda: True),
            lambda _: None,
            kept_seconds=0,
        )

    async def look(self) -> set[str]:
        """Looks twice; returns the names that still have addresses."""
        await self.collecting.look()
        await self.collecting.look()
        return set(self.ipam.known)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """With a pod that has lost its StatefulSet."""
    fake = FakeApiServer()
    fake.put(f"{NAMESPACES.path}/shop", metadata={"uid": "n0"})
    fake.put(
        "/api/v1/namespaces/shop/pods/db-0",
        metadata={"namespace": "shop", "uid": "u0"},
        spec={"nodeName": NODE},
    )
    assert PODS.path == "/api/v1/pods"
    async with fake.serve() as server:
        yield World(fake, server)


async def test_what_is_no_pods_is_given_back(world: World) -> None:
    gone = pod_endpoint("shop", "db-0", "u9")
    world.ipam.known = {gone: {"10.0.0.1"}, ENDPOINT: {"10.0.0.2"}}
    assert await world.look() == {ENDPOINT}


async def test_what_a_node_has_is_not_given_back(world: World) -> None:
    gone = pod_endpoint("shop", "db-0", "u9")
    world.ipam.known = {gone: {"10.0.0.1"}}
    world.policy.has = {gone: {"10.0.0.1"}}
    assert await world.look() == {gone}


async def test_a_pod_that_lost_its_stateful_set_keeps_its_addresses_while_it_runs(
    world: World,
) -> None:
    world.ipam.known = {of_its_name(): {"10.0.0.1"}}
    world.policy.has = {ENDPOINT: {"10.0.0.1"}}
    assert await world.look() == {of_its_name()}
    world.policy.has = {ENDPOINT: {"10.0.0.2"}}
    assert await world.look() == set()


async def test_no_whole_namespace_is_read_for_one_name(world: World) -> None:
    """A StatefulSet that goes leaves a name for each of its pods."""
    world.ipam.known = {of_its_name(): {"10.0.0.1"}, pod_endpoint("shop", "db-0", "u9"): {"x"}}
    assert await world.look() == set()
    assert not [one for one in world.fake.requests if "limit=" in one]
