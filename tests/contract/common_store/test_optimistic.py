"""Several writers of one prefix on a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from services.common.errors import Conflict, NotFound, Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import RequestTooLarge
from services.common.etcd.follow import Follower
from services.common.etcd.types import (
    Compare,
    Delete,
    Field,
    Put,
    Relation,
    Snapshot,
    WatchBatch,
)
from services.common.sizes import TRANSACTION_BYTES, TRANSACTION_OPERATIONS
from services.common.store.optimistic import (
    ATTEMPTS,
    Decision,
    OptimisticStore,
    check_read,
    first_read,
)
from tests.conftest import Store


@dataclass
class Writer:
    """One writer with all it knows: a number, and who said which."""

    client: EtcdClient
    prefix: str
    known: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    races: int = 0

    def __post_init__(self) -> None:
        self.follower = Follower(self.client, self.prefix, self._take, beacon=self.beacon)
        self.store = OptimisticStore(
            self.client, self.follower, self.beacon, busy="TEST_BUSY", on_lost_race=self._lost
        )

    @property
    def beacon(self) -> str:
        return f"{self.prefix}beacon"

    def same(self) -> Compare:
        revision = self.known.get(self.beacon, (b"", 0))[1]
        return Compare(self.beacon, Field.MOD, Relation.EQUAL, revision)

    def add(self) -> Decision[int]:
        """One more than there is."""
        number = int(self.known.get(f"{self.prefix}number", (b"0", 0))[0]) + 1
        write = Put(f"{self.prefix}number", str(number).encode())
        return Decision(number, [write], demands=[self.same()])

    def _lost(self) -> None:
        self.races += 1

    def _take(self, batch: WatchBatch) -> None:
        if isinstance(batch, Snapshot):
            self.known = {item.key: (item.value, item.mod_revision) for item in batch.items}
            return
        for event in batch.events:
            if event.item is None:
                self.known.pop(event.key, None)
            else:
                self.known[event.key] = event.item.value, event.revision


@contextlib.asynccontextmanager
async def writing(store: Store) -> AsyncIterator[Writer]:
    async with EtcdClient([store.endpoint]) as client:
        writer = Writer(client, f"{store.keys.root}/")
        running = asyncio.create_task(writer.follower.run())
        await first_read(writer.follower)
        try:
            yield writer
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def writer(store: Store) -> AsyncIterator[Writer]:
    async with writing(store) as made:
        yield made


async def test_changes_of_several_writers_come_one_after_the_other(
    store: Store, writer: Writer
) -> None:
    async with writing(store) as second, writing(store) as third:
        writers = (writer, second, third)
        done = await asyncio.gather(
            *(writers[number % 3].store.change(writers[number % 3].add) for number in range(30))
        )
    assert sorted(one.answer for one in done) == list(range(1, 31))
    assert len({one.revision for one in done}) == 30
    assert all(one.changed for one in done)


async def test_who_wrote_knows_it_at_once(writer: Writer) -> None:
    done = await writer.store.change(writer.add)
    assert writer.known[f"{writer.prefix}number"] == (b"1", done.revision)


async def test_what_changes_nothing_writes_nothing(writer: Writer) -> None:
    done = await writer.store.change(lambda: Decision("as it was"))
    assert (done.answer, done.changed) == ("as it was", False)
    assert writer.known == {}


async def test_what_a_decision_refuses_is_not_written(writer: Writer) -> None:
    def refuse() -> Decision[None]:
        raise NotFound("there is none")

    with pytest.raises(NotFound):
        await writer.store.change(refuse)
    assert await writer.client.get(writer.beacon) is None


async def test_who_is_always_overtaken_is_told(writer: Writer) -> None:
    never = Compare(writer.beacon, Field.MOD, Relation.EQUAL, 1)
    with pytest.raises(Conflict) as caught:
        await writer.store.change(
            lambda: Decision(None, [Put(f"{writer.prefix}a", b"")], (), [never])
        )
    assert caught.value.reason == "TEST_BUSY"
    assert writer.races == ATTEMPTS


def groups(prefix: str, number: int, size: int) -> list[list[Put]]:
    return [[Put(f"{prefix}g{one:04d}", b"x" * size)] for one in range(number)]


@pytest.mark.parametrize(
    ("number", "size", "first"),
    [(300, 1, TRANSACTION_OPERATIONS - 2), (40, 100_000, 14)],
    ids=["by operations", "by bytes"],
)
async def test_as_many_go_along_as_fit_and_the_rest_is_said(
    writer: Writer, number: int, size: int, first: int
) -> None:
    left = groups(writer.prefix, number, size)

    def decide() -> Decision[None]:
        return Decision(None, [Put(f"{writer.prefix}head", b"1")], iter(left), [writer.same()])

    done = await writer.store.change(decide)
    assert done.groups == first
    while left := left[done.groups :]:
        done = await writer.store.change(decide)
    assert sum(key.startswith(f"{writer.prefix}g") for key in writer.known) == number


async def test_a_group_that_never_fits_is_an_error(writer: Writer) -> None:
    large = groups(writer.prefix, 1, TRANSACTION_BYTES)
    with pytest.raises(RequestTooLarge):
        await writer.store.change(lambda: Decision(None, (), large, [writer.same()]))


async def test_much_is_written_in_several_transactions(writer: Writer) -> None:
    many = [one for group in groups(writer.prefix, 200, 20_000) for one in group]
    assert await writer.store.write(many)
    assert len(writer.known) == 201
    assert await writer.store.write([Delete(one.key) for one in many])
    assert len(writer.known) == 1


async def test_a_demand_that_does_not_hold_ends_the_writing(writer: Writer) -> None:
    there = Compare(f"{writer.prefix}token", Field.VERSION, Relation.EQUAL, 1)
    put = [Put(f"{writer.prefix}a", b"1")]
    assert not await writer.store.write(put, [there])
    await writer.client.put(f"{writer.prefix}token", b"")
    assert await writer.store.write(put, [there])


async def test_changes_wait_for_who_wants_to_be_alone(writer: Writer) -> None:
    async with writer.store.exclusive():
        change = asyncio.create_task(writer.store.change(writer.add))
        await writer.client.revision()
        await writer.client.revision()
        assert not change.done()
    assert (await change).answer == 1


async def test_who_has_read_nothing_says_so(store: Store) -> None:
    writer = Writer(store.client, f"{store.keys.root}/")
    with pytest.raises(Unavailable) as caught:
        check_read(writer.follower)
    assert caught.value.reason == "NOT_IN_SYNC"
