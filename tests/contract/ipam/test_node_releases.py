"""What is in use on nodes that are gone: written down, waited for, proved, and then released."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import structlog

from services.common.errors import WrongState
from services.common.etcd.types import Put
from services.common.model.names import EndpointName, NodeName
from services.common.records.blocks import NodeReleaseRecord, decode_node_release, decode_page
from services.ipam.deciding.commands import ActivateMove, PrepareMove, ReportReady
from services.ipam.store.node_releases import NodeReleases
from tests.conftest import Store
from tests.contract.ipam.leading import Parts, leading
from tests.support.ipam_process import drop_nodes, poll, seed
from tests.support.topologies import layout, network, node

GRACE = 60.0
FENCE = 20.0
SECONDS = 60.0
H1, H2 = NodeName("h1"), NodeName("h2")
BAD_NODE = b'{"name":"h2","address":"192.0.2.300"}'


@dataclass
class World:
    """An active replica that looks for nodes that are gone, and a clock that is set by hand."""

    parts: Parts
    releases: NodeReleases
    clock: list[float]

    @property
    def store(self) -> Store:
        return self.parts.store

    async def hear(self) -> None:
        await self.parts.hear()
        self.releases.look()

    def pass_time(self, seconds: float) -> None:
        self.clock[0] += seconds
        self.releases.look()

    async def record(self) -> NodeReleaseRecord | None:
        item = await self.store.client.get(self.store.keys.node_release(H2))
        return decode_node_release(item.value) if item is not None else None

    async def in_use(self) -> set[str]:
        """Names, by the store."""
        found = await self.store.client.range(self.store.keys.blocks)
        return {use.name for item in found.items for use in decode_page(item.value).used}

    async def until_written_down(self) -> NodeReleaseRecord:
        async def written() -> bool:
            return await self.record() is not None

        await poll(written, SECONDS)
        record = await self.record()
        assert record is not None
        return record

    async def until_in_use(self, *names: str, passing: float = 0) -> None:
        """Waits, while that much time passes again and again."""

        async def so() -> bool:
            self.pass_time(passing)
            return await self.in_use() == set(names) and await self.record() is None

        await poll(so, SECONDS)


@contextlib.asynccontextmanager
async def world(store: Store) -> AsyncIterator[World]:
    async with leading(store) as parts:
        clock = [0.0]
        releases = NodeReleases(
            parts.committer,
            parts.ledger,
            parts.feed.view,
            GRACE,
            FENCE,
            parts.told.released,
            lambda: clock[0],
        )
        parts.told.on_gone = releases.look
        running = asyncio.create_task(releases.run())
        try:
            yield World(parts, releases, clock)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def seeded(store: Store) -> Store:
    made = layout([network("net", "10.0.0.0/20", 29)])
    await seed(store.client, store.keys, made, [node("h1"), node("h2")])
    return store


async def _claims(store: Store) -> set[str]:
    """Nodes of which something is claimed."""
    prefix = store.keys.node_claim(NodeName(""))
    found = await store.client.range(prefix)
    return {item.key.removeprefix(prefix) for item in found.items}


@pytest.mark.parametrize("in_use", [True, False])
async def test_nothing_is_left_of_a_node_that_is_gone(it: World, in_use: bool) -> None:  # noqa: FBT001
    if not in_use:
        await it.parts.release("b")
        await it.parts.release("c")
    assert await _claims(it.store) == {H1, H2}
    await drop_nodes(it.store.client, it.store.keys, [H2])
    await it.hear()

    async def forgotten() -> bool:
        return await _claims(it.store) == {H1}

    await poll(forgotten, SECONDS)
    await seed(it.store.client, it.store.keys, nodes=[node("h2")])
    await it.hear()
    assert isinstance((await it.parts.ask("d", on="h2"))[0], str)
    assert await _claims(it.store) == {H1, H2}


@pytest.mark.parametrize("in_use", [True, False])
async def test_who_comes_by_the_name_of_a_node_is_not_ready_for_what_moved_there(
    it: World,
    in_use: bool,  # noqa: FBT001
) -> None:
    name = EndpointName("a")
    for command in (PrepareMove(name, H2), ReportReady(name, H2), ReportReady(name, H1)):
        await it.parts.committer.submit([command])
    if not in_use:
        await it.parts.release("b")
        await it.parts.release("c")
    await drop_nodes(it.store.client, it.store.keys, [H2])
    await it.hear()

    async def forgotten() -> bool:
        return await _claims(it.store) == {H1} and await it.record() is None

    await poll(forgotten, SECONDS)
    await seed(it.store.client, it.store.keys, nodes=[node("h2")])
    await it.hear()
    (refused,) = await it.parts.committer.submit([ActivateMove(name, H2)])
    assert isinstance(refused, WrongState)
    assert refused.reason == "NOT_READY"


@pytest.fixture
async def it(seeded: Store) -> AsyncIterator[World]:
    async with world(seeded) as made:
        await made.parts.ask("a", on="h1")
        await made.parts.ask("b", "c", on="h2")
        yield made


async def test_what_nobody_asked_for_is_written_down_and_waits(it: World) -> None:
    await drop_nodes(it.store.client, it.store.keys, ["h2"], force=False)
    await it.hear()
    record = await it.until_written_down()
    assert not record.asked
    assert record.due == record.noticed + GRACE
    it.pass_time(GRACE - 1)
    assert await it.parts.ask("d", on="h1")  # a turn of the committer later
    assert await it.in_use() == {"a", "b", "c", "d"}
    it.pass_time(2)
    await it.until_in_use("a", "d")
    assert it.parts.told.released_addresses == 2


async def test_a_node_that_comes_back_keeps_what_it_has(it: World) -> None:
    await drop_nodes(it.store.client, it.store.keys, ["h2"], force=False)
    await it.hear()
    await it.until_written_down()
    await seed(it.store.client, it.store.keys, None, [node("h2")])
    await it.hear()
    await it.until_in_use("a", "b", "c")
    it.pass_time(2 * GRACE)
    assert await it.parts.ask("b", on="h2") == await it.parts.ask("b", on="h2")
    assert await it.in_use() == {"a", "b", "c"}


async def test_what_somebody_asked_for_is_released_at_once(it: World) -> None:
    await drop_nodes(it.store.client, it.store.keys, ["h2"], force=True)
    await it.hear()
    await it.until_in_use("a")


async def test_what_a_removed_machine_may_still_have_rests_for_the_fence(it: World) -> None:
    await drop_nodes(it.store.client, it.store.keys, ["h2"], machine_is_off=False)
    await it.hear()
    record = await it.until_written_down()
    assert record.asked
    assert record.due == record.noticed + FENCE
    it.pass_time(FENCE - 1)
    assert await it.parts.ask("d", on="h1")
    assert await it.in_use() == {"a", "b", "c", "d"}
    it.pass_time(2)
    await it.until_in_use("a", "d")


async def test_an_agent_that_has_let_go_ends_the_fence(it: World) -> None:
    await drop_nodes(it.store.client, it.store.keys, ["h2"], machine_is_off=False)
    await it.hear()
    await it.until_written_down()
    for name in ("b", "c"):
        await it.parts.release(name)
    it.releases.look()
    await it.until_in_use("a")


async def test_the_word_that_it_is_off_may_come_later(it: World) -> None:
    keys = it.store.keys
    await drop_nodes(it.store.client, keys, ["h2"], force=False)
    await it.hear()
    assert not (await it.until_written_down()).asked
    await drop_nodes(it.store.client, keys, ["h2"], machine_is_off=False)
    await it.hear()

    async def asked() -> bool:
        record = await it.record()
        return record is not None and record.asked

    await poll(asked, SECONDS)
    await drop_nodes(it.store.client, keys, ["h2"])
    await it.hear()
    await it.until_in_use("a")


async def test_who_does_not_want_to_wait_asks_for_it(it: World) -> None:
    await drop_nodes(it.store.client, it.store.keys, ["h2"], force=False)
    await it.hear()
    await it.until_written_down()
    await drop_nodes(it.store.client, it.store.keys, ["h2"], force=True)
    await it.hear()
    await it.until_in_use("a")


async def test_a_node_that_is_there_though_nobody_heard_of_it_loses_nothing(it: World) -> None:
    """The transaction proves it: the watch of the topology is late."""
    await drop_nodes(it.store.client, it.store.keys, ["h2"], force=True)
    await it.parts.hear()
    await seed(it.store.client, it.store.keys, None, [node("h2")])
    view = it.parts.feed.view
    assert not view.exists(H2)
    it.releases.look()
    await poll(lambda: view.exists(H2), SECONDS)
    await it.until_in_use("a", "b", "c")
    assert it.parts.told.undo == ["stale"]


async def test_a_node_whose_record_cannot_be_read_is_there(it: World) -> None:
    keys = it.store.keys
    writes = (Put(keys.node(H2), BAD_NODE), Put(keys.generation, b"1"))
    await it.store.client.transact((), writes)
    await it.hear()
    it.pass_time(2 * GRACE)
    assert await it.parts.ask("d", on="h1")
    assert await it.in_use() == {"a", "b", "c", "d"}
    assert await it.record() is None


async def test_a_release_that_was_begun_is_ended_by_the_next_one(seeded: Store) -> None:
    names = [f"n{number}" for number in range(600)]
    async with leading(seeded) as parts:
        for start in range(0, 600, 100):  # each tenant has blocks of its own: many documents
            await asyncio.gather(
                *(
                    parts.ask(name, tenant=f"t{name}", on="h2")
                    for name in names[start : start + 100]
                )
            )
    await drop_nodes(seeded.client, seeded.keys, ["h2"], force=False)
    async with world(seeded) as first:
        await first.until_written_down()
        first.pass_time(GRACE)

        async def begun() -> bool:
            return len(await first.in_use()) < 600

        await poll(begun, SECONDS)
    async with world(seeded) as second:
        await second.until_in_use(passing=GRACE)


async def test_who_takes_over_counts_the_time_anew(it: World) -> None:
    await drop_nodes(it.store.client, it.store.keys, ["h2"], force=False)
    await it.hear()
    await it.until_written_down()
    async with world(it.store) as successor:
        await poll(lambda: bool(successor.releases.due), SECONDS)
        successor.pass_time(GRACE - 1)
        assert await successor.parts.ask("d", on="h1")
        assert await successor.in_use() == {"a", "b", "c", "d"}
        await successor.until_in_use("a", "d", passing=GRACE)


async def test_each_address_is_logged_with_whom_it_was_for(it: World) -> None:
    given = {*await it.parts.ask("b", "c", on="h2")}
    with structlog.testing.capture_logs() as lines:
        await drop_nodes(it.store.client, it.store.keys, ["h2"], force=True)
        await it.hear()
        await it.until_in_use("a")
        await poll(lambda: any(line["event"] == "node_released" for line in lines), SECONDS)
    released = [line for line in lines if line["event"] == "address_released"]
    assert {line["address"] for line in released} == given
    assert {line["name"] for line in released} == {"b", "c"}
    assert {(line["node"], line["tenant"]) for line in released} == {("h2", "t")}
    events = [line["event"] for line in lines if line["event"].startswith("node_release")]
    assert events == ["node_release_planned", "node_release_started", "node_released"]


async def test_a_record_of_a_node_with_nothing_in_use_is_taken_away(it: World) -> None:
    keys = it.store.keys
    await drop_nodes(it.store.client, keys, ["h2"], force=False)
    await it.hear()
    await it.until_written_down()
    for name in ("b", "c"):
        await it.parts.release(name)
    it.releases.look()
    await it.until_in_use("a")
