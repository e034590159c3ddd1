"""What is kept of what owners have in their blocks is what one would find by looking at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.common.errors import RomanaError
from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.common.process.turns import Turns
from services.ipam.api.held_rooms_kept import HeldRoomsKept
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from tests.support.ipam_world import World, want
from tests.support.topologies import layout, network, node

GROUPS = {
    "one": {"net": "10.0.0.0/27", "slow": "10.1.0.0/27"},
    "two": {"net": "10.0.0.32/27", "slow": "10.1.0.32/27"},
}
NETWORKS = [
    network("net", "10.0.0.0/26", 30),
    network("slow", "10.1.0.0/26", 30, reuse_delay=30.0),
]
NODES = [node("a", "one"), node("b", "one", on=["net"]), node("c", "two"), node("d", None)]
NAMES = (NetworkName("net"), NetworkName("slow"))


class Told(World):
    """A world that tells of what changes, as a replica does."""

    def __init__(self) -> None:
        super().__init__(layout(NETWORKS, GROUPS), NODES)
        self.listener: Callable[[Sequence[Place] | None], None] = lambda _: None

    def save(self) -> None:
        self.revision += 1
        self.listener(self.ledger.saved(self.revision))

    def change_node(self, name: str, **values: Any) -> None:
        self.ledger.set_node(replace(self.ledger.nodes[NodeName(name)], **values))
        self.listener(())
        moved = self.ledger.drain_moved()
        if moved:
            self.listener(moved)

    def forget(self) -> None:
        """Memory is read anew."""
        self.listener(None)


class OneReplica:
    """What is asked of a replica here."""

    def __init__(self, world: Told) -> None:
        self._world = world

    @property
    def ledger(self) -> Ledger:
        return self._world.ledger

    async def committed(self) -> Ledger:
        return self._world.ledger

    def now(self) -> int:
        return self._world.now

    def listen(self, listener: Callable[[Sequence[Place] | None], None]) -> None:
        self._world.listener = listener


class Client:
    """Keeps what it was told."""

    def __init__(self, world: Told) -> None:
        replica: Any = OneReplica(world)
        self._kept = HeldRoomsKept(replica, Turns())
        self._state = ""
        self.held: dict[tuple[str, str], int] = {}
        self.told: list[tuple[str, str]] = []
        """The last time."""
        self.is_partial = False

    async def ask(self) -> None:
        answer = await self._kept.ask(Tenant("t"), Segment("s"), NAMES, self._state)
        if not answer.is_partial:
            self.held = {}
        self.held.update(answer.holders)
        self._state, self.is_partial = answer.state, answer.is_partial
        self.told = [holder for holder, _ in answer.holders]

    @property
    def positive(self) -> dict[tuple[str, str], int]:
        return {holder: free for holder, free in self.held.items() if free}


def found(it: World) -> dict[tuple[str, str], int]:
    return {
        (name, one.node): one.free_in_blocks
        for name in NAMES
        for one in it.evaluate("t", "s", want=want(name))
        if one.free_in_blocks
    }


def change(it: Told, draw: random.Random, number: int) -> None:
    """Something happens."""
    kind = draw.randrange(20)
    if kind < 8:
        where = want(draw.choice(NAMES))
        it.allocate(f"n{number}", draw.choice("abc"), "t", draw.choice("ssz"), where)
    elif kind < 12:
        it.release(f"n{draw.randrange(number + 1)}")
    elif kind < 14:
        it.wait(draw.choice([1, 20, 40]))
        it.close_rested()
    elif kind < 16:
        it.wait(draw.choice([1, 20, 40]))
    elif kind == 16:
        it.change_node(draw.choice("abc"), cordoned=draw.random() < 0.5)
    elif kind == 17:
        placements = node("x", draw.choice(["one", "two", None])).placements
        it.change_node(draw.choice("ac"), placements=placements)
    elif kind == 18:
        it.reserve(f"r{number}", "net", f"10.0.0.{draw.randrange(64)}")
    else:
        it.forget()


@pytest.mark.parametrize("seed", range(40))
async def test_it_is_what_one_would_find(seed: int) -> None:
    draw = random.Random(seed)
    it = Told()
    client = Client(it)
    for number in range(60):
        try:
            change(it, draw, number)
        except RomanaError:
            continue
        if draw.random() < 0.6:
            await client.ask()
            assert client.positive == found(it), number


async def test_only_what_changed_is_told() -> None:
    it = Told()
    client = Client(it)
    for name in "abc":
        it.one(f"at-{name}", name, "t", "s")
    await client.ask()
    assert client.positive == {("net", "a"): 3, ("net", "b"): 3, ("net", "c"): 3}
    await client.ask()
    assert (client.is_partial, client.told) == (True, [])
    it.one("more", "b", "t", "s")
    it.one("of-another", "a", "t", "z")
    await client.ask()
    assert (client.is_partial, client.told) == (True, [("net", "b")])


async def test_a_block_that_is_gone_is_told_as_nothing() -> None:
    it = Told()
    client = Client(it)
    it.one("it", "a", "t", "s")
    await client.ask()
    it.release("it")
    await client.ask()
    assert (client.is_partial, client.held) == (True, {("net", "a"): 0})


@pytest.mark.parametrize("state", ["x", "x/net,slow/1", "/net,slow/1", "9" * 5000])
async def test_a_state_that_nobody_gave_out_gets_everything(state: str) -> None:
    it = Told()
    client = Client(it)
    it.one("it", "a", "t", "s")
    client._state = state
    await client.ask()
    assert (client.is_partial, client.positive) == (False, {("net", "a"): 3})


async def test_a_state_is_of_its_question() -> None:
    it = Told()
    replica: Any = OneReplica(it)
    kept = HeldRoomsKept(replica, Turns())
    it.one("it", "a", "t", "s")
    of_net = await kept.ask(Tenant("t"), Segment("s"), NAMES[:1], "")
    assert not (await kept.ask(Tenant("t"), Segment("s"), NAMES, of_net.state)).is_partial
    assert not (await kept.ask(Tenant("t"), Segment("z"), NAMES[:1], of_net.state)).is_partial
    assert (await kept.ask(Tenant("t"), Segment("s"), NAMES[:1], of_net.state)).is_partial
