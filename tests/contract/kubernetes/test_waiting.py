"""Pods that wait for an address, and are looked at again once there is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.common.model.names import GroupPath, NetworkName, NodeName, Segment, Tenant
from services.kubernetes.cluster.kinds import PODS, WORDS
from services.kubernetes.control import waiting
from services.kubernetes.control.followed import follow
from services.kubernetes.control.waiting import ANNOTATION, AT_ONCE, Waiting
from services.kubernetes.metrics import ControllerMetrics
from services.kubernetes.scheduling.places import Place, Places
from services.kubernetes.scheduling.rooms import Rooms
from services.kubernetes.wanted.values import AddressWish, WantedEndpoint
from tests.fakes.api_server import FakeApiServer
from tests.support.ipam_process import poll

NET, GROUP = NetworkName("net"), GroupPath("dc/one")
NODES = [NodeName("n1"), NodeName("n2")]
PLACES = Places({name: Place({NET: GROUP}) for name in NODES})
MANY = 2 * AT_ONCE


class World:
    """Many pods that wait for an address of the same tenant."""

    def __init__(self, fake: FakeApiServer, server: Any) -> None:
        self.fake = fake
        self.followed = follow(server, ControllerMetrics(CollectorRegistry(), WORDS, lambda: True))
        self.free = 0
        self.looks = 0
        self.judged = 0
        ipam: Any = self
        self.waiting = Waiting(server, self.followed, ipam, self._places)

    async def rooms(self, tenant: Tenant, segment: Segment, wish: AddressWish) -> Rooms:
        assert (tenant, segment, wish) == ("t", "", AddressWish())
        self.looks += 1
        return Rooms((NET,), {(NET, GROUP): self.free})

    def _places(self) -> Places:
        self.judged += 1
        return PLACES

    def note_all(self) -> None:
        for pod in self.followed.pods.items.values():
            wanted = WantedEndpoint(pod.endpoint, Tenant("t"), Segment(""), {}, ())
            self.waiting.note(pod, wanted, list(NODES))

    @property
    def told(self) -> set[str]:
        """Pods that kube-scheduler looks at again."""
        return {
            path
            for path, item in self.fake.objects.items()
            if ANNOTATION in item["metadata"].get("annotations", {})
        }


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.01)
    fake = FakeApiServer()
    for number in range(MANY):
        metadata = {"namespace": "t", "uid": f"u{number}"}
        fake.put(f"{PODS.path}/p{number}", metadata=metadata)
        fake.put(f"/api/v1/namespaces/t/pods/p{number}", metadata=metadata)
    async with fake.serve() as server:
        made = World(fake, server)
        works = (made.followed.pods.run(), made.waiting.run())
        tasks = [asyncio.create_task(work) for work in works]
        await made.followed.pods.in_sync()
        made.note_all()
        yield made
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_pods_that_lack_the_same_on_the_same_nodes_are_judged_once(world: World) -> None:
    await poll(lambda: world.looks > 3, 20)
    assert len(world.waiting) == MANY
    assert world.judged <= world.looks
    assert not world.told


async def test_all_are_looked_at_again_when_there_is_room_some_at_a_time(world: World) -> None:
    await poll(lambda: world.judged > 0, 20)
    assert len(world.waiting) == MANY
    world.free = 1
    await poll(lambda: len(world.told) == MANY, 20)
    await poll(lambda: len(world.waiting) == 0, 20)


async def test_a_pod_that_cannot_be_told_is_told_later(world: World) -> None:
    world.fake.fails = 503
    world.free = 1
    await poll(lambda: any(one.startswith("PATCH") for one in world.fake.requests), 20)
    world.fake.fails = 0
    await poll(lambda: len(world.told) == MANY, 40)
