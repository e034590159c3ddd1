"""What is told of objects: each when it asks for something else, until it is done or postponed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.common.errors import Unavailable
from services.kubernetes.cluster.informer import Informer
from services.kubernetes.cluster.kinds import NODES
from services.kubernetes.control.object_teller import ObjectTeller
from services.kubernetes.objects.nodes import Node
from tests.fakes.api_server import FakeApiServer
from tests.support.ipam_process import poll

PATH = NODES.path


class Labels(ObjectTeller[Node]):
    """Tells of nodes' labels."""

    def __init__(self, nodes: Informer[Node]) -> None:
        self.told: list[str] = []
        self.gone: list[str] = []
        self.fails = False
        self.refuses = False
        super().__init__(nodes, lambda: None)

    def _asked(self, resource: Node) -> object:
        return resource.labels

    async def _tell(self, resource: Node) -> None:
        if self.fails:
            raise Unavailable("not now")
        if self.refuses:
            self._postponed.add(resource.name)
        else:
            self.told.append(f"{resource.name} {resource.labels['role']}")

    def _forget(self, name: str) -> None:
        self.gone.append(name)

    async def tell_all(self) -> list[str]:
        """What was told since asked before."""
        while await self.tell():
            pass
        told, self.told = self.told, []
        return told


class World:
    def __init__(self, fake: FakeApiServer, nodes: Informer[Node]) -> None:
        self.fake = fake
        self.nodes = nodes
        self.teller = Labels(nodes)

    async def put(self, name: str, role: str, note: str = "") -> None:
        """Puts an object and waits until it is known."""
        metadata = {"labels": {"role": role}, "annotations": {"romana.io/note": note}}
        self.fake.put(f"{PATH}/{name}", metadata=metadata)

        async def known() -> bool:
            found = self.nodes.items.get(name)
            return (
                found is not None
                and found.labels["role"] == role
                and found.annotations.get("note") == note
            )

        await poll(known, 20)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    fake = FakeApiServer()
    async with fake.serve() as server:
        nodes = Informer(server, NODES)
        made = World(fake, nodes)
        running = asyncio.create_task(nodes.run())
        await nodes.in_sync()

        async def follows() -> bool:
            return nodes.is_following

        await poll(follows, 20)
        yield made
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_object_is_told_when_it_asks_for_something_else(world: World) -> None:
    await world.put("a", "x")
    assert await world.teller.tell_all() == ["a x"]
    await world.put("a", "x", note="nothing that is asked for")
    assert await world.teller.tell_all() == []
    await world.put("a", "y")
    assert await world.teller.tell_all() == ["a y"]


async def test_what_failed_is_told_again(world: World) -> None:
    await world.put("a", "x")
    world.teller.fails = True
    with pytest.raises(Unavailable):
        await world.teller.tell()
    world.teller.fails = False
    assert await world.teller.tell_all() == ["a x"]


async def test_what_was_refused_waits_until_it_is_tried_again(world: World) -> None:
    await world.put("a", "x")
    world.teller.refuses = True
    assert await world.teller.tell_all() == []
    world.teller.refuses = False
    assert await world.teller.tell_all() == []
    world.teller.mark_postponed()
    assert await world.teller.tell_all() == ["a x"]
    world.teller.mark_postponed()
    assert await world.teller.tell_all() == []


async def test_all_are_told_anew(world: World) -> None:
    await world.put("a", "x")
    await world.put("b", "y")
    await world.teller.tell_all()
    world.teller.mark_all()
    assert sorted(await world.teller.tell_all()) == ["a x", "b y"]


async def test_one_that_is_gone_is_forgotten_and_not_told(world: World) -> None:
    await world.put("a", "x")
    world.fake.delete(f"{PATH}/a")

    async def gone() -> bool:
        return "a" not in world.nodes.items

    await poll(gone, 20)
    assert world.teller.gone == ["a"]
    assert await world.teller.tell_all() == []
