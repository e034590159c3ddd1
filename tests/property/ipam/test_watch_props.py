"""What clients of watches know, however slowly they read, is what there is in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.model.names import EndpointName, NodeName
from services.common.rpc.draining import Draining
from services.ipam.api.allocation_feed import AllocationFeed
from services.ipam.api.block_feed import BlockFeed
from services.ipam.deciding.commands import (
    ActivateMove,
    Command,
    Move,
    PrepareMove,
    Release,
)
from services.ipam.deciding.execute import execute
from services.ipam.ledger.index import Place, allocation
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.listing import BlockFilter, list_addresses, list_blocks
from tests.support.ipam_world import allocate, terms
from tests.support.topologies import layout, network, node

NODES: Final = ("h1", "h2", "h3")
NAMES: Final = tuple("abcd")
LAYOUTS: Final = (
    layout([network("net", "10.0.0.0/26", 29)]),
    layout([network("net", "10.0.0.0/26", 28)]),
    layout([network("net", "10.0.0.0/26", 30), network("more", "10.0.1.0/30", 32)]),
)
FILTERS: Final = (BlockFilter(), BlockFilter(node="h1"), BlockFilter(node="h2", network="net"))
T = TypeVar("T")

TURNS: Final = 200
"""Of the event loop, in which a client that reads has read everything."""


class OneReplica:
    """What feeds ask of a replica; what is decided counts as stored at once."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.revision = 1
        self._listeners: set[Callable[[Sequence[Place] | None], None]] = set()
        for name in NODES:
            self.ledger.set_node(node(name))
        self.change_layout(0)

    async def committed(self) -> Ledger:
        await asyncio.sleep(0)  # a transaction is in flight
        return self.ledger

    def listen(self, listener: Callable[[Sequence[Place] | None], None]) -> Callable[[], None]:
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def decide(self, command: Command) -> None:
        execute(self.ledger, command, terms(0))
        self.revision += 1
        self._tell(self.ledger.saved(self.revision))

    def change_layout(self, number: int) -> None:
        self.ledger.set_layout(LAYOUTS[number])
        self._tell(self.ledger.drain_moved())

    def _tell(self, places: Sequence[Place]) -> None:
        for listener in self._listeners:
            listener(places)


class Client(Protocol):
    reads: asyncio.Event
    """Cleared: it is busy."""

    async def follow(self) -> None:
        """Takes in what it is told, for ever."""

    def knows(self) -> object: ...

    def should_know(self) -> object: ...


class BlockClient:
    def __init__(self, replica: OneReplica, wanted: BlockFilter) -> None:
        self.reads = asyncio.Event()
        self._replica, self._wanted = replica, wanted
        faked: Any = replica
        self._feed = BlockFeed(faked, wanted.matches, Draining(), chunk=2)
        self._blocks: dict[str, tuple[str, int]] = {}

    async def follow(self) -> None:
        async for changes in _slowly(self._feed.follow(), self.reads):
            for block in changes.updated:
                self._blocks[str(block)] = block.node, block.used
            for prefix in changes.removed:
                del self._blocks[prefix]

    def knows(self) -> object:
        return self._blocks

    def should_know(self) -> object:
        found, _ = list_blocks(self._replica.ledger, self._wanted, None, 1000)
        return {str(block): (block.node, block.used) for block in found}


class AllocationClient:
    def __init__(self, replica: OneReplica, wanted: BlockFilter) -> None:
        self.reads = asyncio.Event()
        self._replica, self._wanted = replica, wanted
        faked: Any = replica
        self._feed = AllocationFeed(faked, wanted, Draining())
        self._known: dict[str, tuple[str, str]] = {}

    async def follow(self) -> None:
        async for changes in _slowly(self._feed.follow(), self.reads):
            for item in changes.allocated:
                self._known[item.address.text] = item.name, item.owner.node
            for address in changes.released:
                del self._known[address]

    def knows(self) -> object:
        return self._known

    def should_know(self) -> object:
        found, _ = list_addresses(self._replica.ledger, self._wanted, None, 1000)
        items = (allocation(*place) for place in found)
        return {item.address.text: (item.name, item.owner.node) for item in items}


async def _slowly(messages: AsyncIterator[T], reads: asyncio.Event) -> AsyncIterator[T]:
    async for message in messages:
        yield message
        await reads.wait()


def _migrate(name: str, to: str) -> list[Command]:
    """To another node while it runs."""
    endpoint, there = EndpointName(name), NodeName(to)
    return [PrepareMove(endpoint, there), ActivateMove(endpoint, there, force=True)]


names, nodes = st.sampled_from(NAMES), st.sampled_from(NODES)
steps: st.SearchStrategy[list[Command] | int] = st.one_of(
    st.builds(lambda *spec: [allocate(*spec)], names, nodes, st.sampled_from("tu")),
    st.builds(lambda *spec: [allocate(*spec)], names, nodes, st.sampled_from("tu")),
    st.builds(lambda name: [Release(EndpointName(name))], names),
    st.builds(lambda name, to: [Move(EndpointName(name), NodeName(to))], names, nodes),
    st.builds(lambda name, to: [PrepareMove(EndpointName(name), NodeName(to))], names, nodes),
    st.builds(_migrate, names, nodes),
    st.builds(_migrate, names, nodes),
    st.integers(0, len(LAYOUTS) - 1),
    st.booleans(),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(steps, min_size=5, max_size=50))
def test_a_client_that_was_busy_knows_in_the_end_what_there_is(
    taken: list[list[Command] | int],
) -> None:
    asyncio.run(_live(taken))


def _take(step: list[Command] | int, replica: OneReplica, clients: list[Client]) -> None:
    match step:
        case bool():
            for client in clients:
                client.reads.set() if step else client.reads.clear()
        case int():
            replica.change_layout(step)
        case list():
            for command in step:
                replica.decide(command)


async def _live(taken: list[list[Command] | int]) -> None:
    replica = OneReplica()
    clients: list[Client] = [
        make(replica, wanted) for make in (BlockClient, AllocationClient) for wanted in FILTERS
    ]
    async with asyncio.TaskGroup() as group:
        following = [group.create_task(client.follow()) for client in clients]
        for step in taken:
            _take(step, replica, clients)
            await asyncio.sleep(0)
        _take(True, replica, clients)  # noqa: FBT003 - as a step
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert [one.knows() for one in clients] == [one.should_know() for one in clients]
        for task in following:
            task.cancel()
