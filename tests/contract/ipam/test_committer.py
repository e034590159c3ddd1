"""The group commit on a real etcd, with the topology changing between decision and transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import pytest

from services.common.audit.record import ObjectAction, Who, decode
from services.common.errors import AlreadyExists, NotFound, RomanaError, Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import STORE_FULL, STORE_OUTCOME_UNKNOWN
from services.common.etcd.keys import Keys
from services.common.etcd.process import EtcdOptions, LocalEtcd
from services.common.etcd.types import (
    Changes,
    Event,
    KeyValue,
    Outcome,
    Put,
    Snapshot,
)
from services.common.model.names import EndpointName, NetworkName
from services.common.records.blocks import decode_page
from services.common.records.layout import encode_layout, encode_node
from services.ipam.deciding.commands import (
    Allocate,
    Command,
    CreateReservation,
    DeleteReservation,
    Release,
)
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.ranges import stored_ranges
from services.ipam.store.fenced_transactions import Deposed
from services.ipam.store.group_commit import NOT_ACTIVE
from services.ipam.store.topology_feed import TopologyFeed
from tests.conftest import Store
from tests.contract.common_etcd.proxy import Proxy
from tests.contract.ipam.leading import Parts, leading, texts
from tests.support.ipam_process import drop_nodes, poll, seed
from tests.support.ipam_world import allocate
from tests.support.topologies import layout, network, node


@pytest.fixture
async def parts(store: Store) -> AsyncIterator[Parts]:
    made = layout([network("net", "10.0.0.0/24", 29)])
    await seed(store.client, store.keys, made, [node("h1"), node("h2")])
    async with leading(store) as found:
        yield found


async def pages(parts: Parts) -> dict[str, bytes]:
    found = await parts.store.client.range(parts.store.keys.blocks)
    return {item.key: item.value for item in found.items}


async def test_a_layout_that_changed_before_the_commit_is_decided_by_anew(parts: Parts) -> None:
    other = layout([network("net", "10.9.0.0/24", 29)])
    await seed(parts.store.client, parts.store.keys, other)
    assert await parts.ask("a", "b") == ["10.9.0.0", "10.9.0.1"]
    assert parts.told.undo == ["stale"]
    assert list(await pages(parts)) == [
        parts.store.keys.block(NetworkName("net"), 0x0A090000, 0, 32)
    ]


async def test_a_node_that_was_deleted_before_the_commit_gets_nothing(parts: Parts) -> None:
    await drop_nodes(parts.store.client, parts.store.keys, ["h1"])
    (refused,) = await parts.ask("a")
    assert isinstance(refused, NotFound)
    assert parts.told.undo == ["stale"]
    assert await pages(parts) == {}
    assert parts.ledger.index.used == 0
    assert await parts.ask("a", on="h2") == ["10.0.0.0"]


async def test_a_block_in_use_needs_no_look_at_the_topology(parts: Parts) -> None:
    assert await parts.ask("a") == ["10.0.0.0"]
    await seed(parts.store.client, parts.store.keys, layout([network("net", "10.9.0.0/24", 29)]))
    assert await parts.ask("b") == ["10.0.0.1"]
    assert parts.told.undo == []


async def test_an_address_that_was_set_aside_before_the_commit_is_not_given(parts: Parts) -> None:
    """In a block that is in use, of which the topology is no part."""
    assert await parts.ask("a") == ["10.0.0.0"]
    client, keys = parts.store.client, parts.store.keys
    taken = node("h3", address="10.0.0.1")
    await client.transact(
        (),
        (
            Put(keys.node(taken.name), encode_node(taken)),
            Put(keys.aside, b"1"),
            Put(keys.generation, b"1"),
        ),
    )
    assert await parts.ask("b") == ["10.0.0.2"]
    assert parts.told.undo == ["stale"]
    await parts.release("a")
    assert parts.told.undo == ["stale"]


async def test_a_topology_that_always_changes_is_given_up_at_last(parts: Parts) -> None:
    async def restless(revision: int) -> None:
        await original(revision)
        await seed(
            parts.store.client, parts.store.keys, layout([network("net", "10.0.0.0/24", 29)])
        )

    original = parts.committer._writer._reach_topology
    parts.committer._writer._reach_topology = restless
    await seed(parts.store.client, parts.store.keys, layout([network("net", "10.0.0.0/24", 29)]))
    (refused,) = await parts.ask("a")
    assert isinstance(refused, Unavailable)
    assert refused.reason == "BUSY"
    parts.committer._writer._reach_topology = original
    assert await parts.ask("a") == ["10.0.0.0"]


def _broken(*_: object) -> None:
    raise ZeroDivisionError


async def test_a_defect_in_one_decision_is_that_items_and_leaves_no_trace(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block is opened when it happens."""
    original = Block.enter

    def enter(block: Block, offset: int, name: str, *rest: int) -> object:
        if name == "bad":
            raise ZeroDivisionError
        return original(block, offset, name, *rest)

    monkeypatch.setattr(Block, "enter", enter)
    bad, good = await parts.ask("bad", "good")
    assert isinstance(bad, RomanaError)
    assert bad.reason == "INTERNAL"
    assert good == "10.0.0.0"
    assert parts.told.defects == 1
    assert parts.ledger.index.used == 1
    monkeypatch.setattr(Block, "enter", original)
    assert await parts.ask("bad") == ["10.0.0.1"]


async def test_a_defect_in_a_transaction_is_told_to_whom_it_was_for(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it does not come again with them, and memory is not trusted any more."""
    monkeypatch.setattr(Ledger, "pending", _broken)
    (refused,) = await parts.ask("a")
    assert isinstance(refused, RomanaError)
    assert refused.reason == "INTERNAL"
    with pytest.raises(ZeroDivisionError):
        await parts.task
    assert parts.told.undo == ["failed"]
    assert parts.committer.waiting == 0


async def test_who_was_deposed_writes_nothing_and_says_so(parts: Parts) -> None:
    assert await parts.ask("a") == ["10.0.0.0"]
    before = await pages(parts)
    await parts.store.client.put(parts.store.keys.commit, b"somebody else")
    (refused,) = await parts.ask("b")
    assert isinstance(refused, Unavailable)
    with pytest.raises(Deposed):
        await parts.task
    assert await pages(parts) == before
    with pytest.raises(Unavailable):
        await parts.ask("c")


async def test_who_was_deposed_before_it_knew_does_not_say_that_nothing_was_decided(
    store: Store,
) -> None:
    """Else whoever passed the call on has the next one do it again, unseen by the caller."""
    async with (
        Proxy(store.endpoint) as proxy,
        EtcdClient([proxy.endpoint], timeout=1) as slow,
    ):
        await seed(
            store.client, store.keys, layout([network("net", "10.0.0.0/24", 29)]), [node("h1")]
        )
        async with leading(replace(store, client=slow)) as parts:
            assert await parts.ask("a") == ["10.0.0.0"]
            before = await store.client.range(store.keys.blocks)
            proxy.hold_back_answers()
            asked = asyncio.create_task(parts.ask("b"))

            async def carried_out() -> bool:
                return (await store.client.range(store.keys.blocks)).items != before.items

            await poll(carried_out, 60, what="the transaction")
            await store.client.put(store.keys.commit, b"somebody else")
            proxy.cut()  # the answer never comes
            proxy.speak()
            (refused,) = await asked
            assert isinstance(refused, Unavailable)
            assert refused.reason == STORE_OUTCOME_UNKNOWN
            with pytest.raises(Deposed):
                await parts.task


async def test_who_is_stopped_while_it_writes_does_not_say_that_nothing_was_decided(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it hears that another replica was elected: the transaction may come through."""
    transact, written = parts.store.client.transact, asyncio.Event()

    async def lost(*arguments: Any) -> Outcome:
        await transact(*arguments)
        written.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(parts.store.client, "transact", lost)
    asked = asyncio.create_task(parts.ask("a"))
    await written.wait()
    waiting = asyncio.create_task(parts.ask("b"))
    await asyncio.sleep(0)
    parts.task.cancel()
    reasons = [error.reason for error in (*await asked, *await waiting) if _is_unavailable(error)]
    assert reasons == [STORE_OUTCOME_UNKNOWN, NOT_ACTIVE]


def _is_unavailable(result: object) -> TypeGuard[Unavailable]:
    return isinstance(result, Unavailable)


async def test_all_that_waits_goes_into_one_transaction(parts: Parts) -> None:
    first = asyncio.create_task(parts.ask("first"))
    await asyncio.sleep(0)
    given = await asyncio.gather(*(parts.ask(f"n{number}") for number in range(50)))
    await first
    assert len({address for (address,) in given}) == 50
    assert sum(parts.told.commits) == 51
    assert len(parts.told.commits) <= 3


async def test_a_stream_waits_for_room_in_its_turn_and_others_do_not(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ipam.store.group_commit.STREAMED_MOST", 10)
    order: list[str] = []

    async def stream(name: str, count: int) -> None:
        await parts.committer.room(count)
        assert parts.committer.waiting <= 10
        order.append(name)
        await parts.ask(*(f"{name}{number}" for number in range(count)))

    first = asyncio.create_task(parts.ask(*(f"first{number}" for number in range(20))))
    await asyncio.sleep(0)
    assert parts.committer.waiting == 20
    large, small = asyncio.create_task(stream("large", 9)), asyncio.create_task(stream("small", 2))
    other = asyncio.create_task(parts.ask("other"))
    await asyncio.sleep(0)
    assert order == []
    assert parts.committer.waiting == 21
    await asyncio.gather(first, large, small, other)
    assert order == ["large", "small"]
    await parts.committer.room(1000)


async def test_a_stream_that_waits_for_room_is_told_when_there_will_be_none(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ipam.store.group_commit.STREAMED_MOST", 1)
    asked = asyncio.create_task(parts.ask("a", "b"))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(parts.committer.room(1))
    await asyncio.sleep(0)
    parts.task.cancel()
    with pytest.raises(Unavailable):
        await waiting
    await asked


async def test_a_name_asked_for_twice_at_once_is_given_once(parts: Parts) -> None:
    given = await asyncio.gather(*(parts.ask("same") for _ in range(10)))
    assert given == [["10.0.0.0"]] * 10
    (refused,) = await parts.ask("same", tenant="u")
    assert isinstance(refused, AlreadyExists)
    assert parts.ledger.index.used == 1


async def test_many_owners_are_divided_into_transactions_that_etcd_takes(parts: Parts) -> None:
    await seed(parts.store.client, parts.store.keys, layout([network("net", "10.0.0.0/16", 29)]))
    wanted = [allocate(f"n{n}", f"h{n % 2 + 1}", f"t{n}") for n in range(1000)]
    given = texts(await parts.committer.submit(wanted))
    assert len(set(given)) == 1000
    assert "too_large" not in parts.told.undo
    assert len(await pages(parts)) == 1000


@pytest.fixture
async def narrow_store(tmp_path: Path) -> AsyncIterator[Store]:
    """An etcd that takes transactions of 8 KiB at most."""
    server = LocalEtcd(tmp_path, EtcdOptions(extra=("--max-request-bytes", "8192")))
    await server.start()
    try:
        async with EtcdClient([server.endpoint]) as client:
            yield Store(client, Keys("/narrow"), server.endpoint)
    finally:
        server.stop()


async def test_what_is_too_large_for_etcd_is_divided(narrow_store: Store) -> None:
    net = layout([network("net", "10.0.0.0/16", 29)])
    await seed(narrow_store.client, narrow_store.keys, net, [node("h1"), node("h2")])
    async with leading(narrow_store) as parts:
        wanted = [allocate(f"{n:x>200}", "h1", f"t{n}") for n in range(300)]
        given = texts(await parts.committer.submit(wanted))
        assert len(set(given)) == 300
        assert "too_large" in parts.told.undo
        assert len(await pages(parts)) == 300


async def test_one_request_that_is_too_large_for_etcd_fails_and_nothing_else(
    narrow_store: Store,
) -> None:
    net = layout([network("net", "10.0.0.0/24", 26)])
    await seed(narrow_store.client, narrow_store.keys, net, [node("h1"), node("h2")])
    async with leading(narrow_store) as parts:
        for number in range(64):
            (last,) = await parts.ask(f"{number:x>200}")
            if isinstance(last, RomanaError):
                break
        assert isinstance(last, RomanaError)
        assert await parts.ask("other", on="h2") == ["10.0.0.128"]
        assert parts.ledger.index.used == number + 1
        assert "failed" not in parts.told.undo


async def test_a_caller_who_gave_up_does_not_hold_up_the_others(parts: Parts) -> None:
    gone = [asyncio.create_task(parts.ask(*(f"gone{n}-{m}" for m in range(20)))) for n in range(20)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    assert isinstance((await parts.ask("a"))[0], str)
    await asyncio.gather(*gone, return_exceptions=True)
    assert parts.committer.waiting == 0


async def test_reservations_between_allocations_take_effect_in_their_order(parts: Parts) -> None:
    ranges = ("10.0.0.1-10.0.0.7",)
    made = Reservation("r", NetworkName("net"), stored_ranges(ranges), ranges)

    def want(name: str) -> Allocate:
        return allocate(name, "h1", "t")

    commands: list[Command] = [
        want("a"),
        CreateReservation(made),
        want("b"),
        DeleteReservation("r"),
        want("c"),
        Release(EndpointName("a")),
    ]
    results = texts(await parts.committer.submit(commands))
    assert results[0] == "10.0.0.0"
    assert results[2] == "10.0.0.8"
    assert results[4] == "10.0.0.1"
    assert parts.committer.waiting == 0


async def test_a_reservation_behind_callers_who_gave_up(parts: Parts) -> None:
    gone = [asyncio.create_task(parts.ask(f"gone{number}")) for number in range(3)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    ranges = ("10.0.0.1",)
    made = Reservation("r", NetworkName("net"), stored_ranges(ranges), ranges)
    who = Who("alice", request_id="r1")
    assert await parts.committer.submit([CreateReservation(made)], who) == [None]
    assert await parts.committer.submit([DeleteReservation("r")], who) == [None]
    await asyncio.gather(*gone, return_exceptions=True)
    assert parts.committer.waiting == 0
    stored = await parts.store.client.range(parts.store.keys.audit)
    records = [decode(item.value) for item in stored.items]
    assert [(one.who, one.objects[0].action) for one in records] == [
        (who, ObjectAction.CREATED),
        (who, ObjectAction.REMOVED),
    ]


def test_a_feed_goes_on_with_what_it_knew_of_what_it_cannot_read() -> None:
    keys = Keys("/x")
    feed, ledger = TopologyFeed(keys), Ledger()
    document = encode_layout(layout([network("net", "10.0.0.0/24", 29)]))
    feed.push(
        Snapshot(
            (KeyValue(keys.layout, document, 1, 1), KeyValue(f"{keys.nodes}bad", b"{", 1, 1)), 1
        )
    )
    feed.push(Changes((Event(keys.layout, KeyValue(keys.layout, b"[", 1, 2), 2),), 2))
    while feed.is_behind:
        assert feed.catch_up(ledger) == set()
    assert list(ledger.networks) == ["net"]
    assert feed.view.layout_revision == 2
    assert set(feed.view.unreadable) == {keys.layout, f"{keys.nodes}bad"}


async def test_what_was_put_in_between_is_an_error_of_nobody(parts: Parts) -> None:
    """Other keys of the store change all the time."""
    await parts.store.client.transact((), (Put(f"{parts.store.keys.root}/else", b"x"),))
    assert await parts.ask("a") == ["10.0.0.0"]
    assert parts.told.undo == []


async def test_who_waits_for_memory_to_settle_never_sees_what_is_not_stored(parts: Parts) -> None:
    async def read() -> int:
        await parts.committer.idle()
        assert not parts.ledger.unsaved.operations
        return parts.ledger.index.used

    asked = [asyncio.create_task(parts.ask(f"n{n}")) for n in range(50)]
    seen = 0
    for n in range(50, 200):
        asked.append(asyncio.create_task(parts.ask(f"n{n}")))
        reading = asyncio.create_task(read())
        await asked[n - 50]
        seen = max(seen, await reading)
    await asyncio.gather(*asked)
    assert seen > 0


async def test_a_full_store_is_told_and_nothing_is_taken(tmp_path: Path) -> None:
    """What etcd carried out all the same counts; what it did not is undone."""
    server = LocalEtcd(tmp_path, EtcdOptions(extra=("--quota-backend-bytes", str(1 << 20))))
    await server.start()
    try:
        async with EtcdClient([server.endpoint]) as client:
            store = Store(client, Keys("/full"), server.endpoint)
            net = layout([network("net", "10.0.0.0/16", 29)])
            await seed(client, store.keys, net, [node("h1")])
            async with leading(store) as parts:
                given: dict[str, object] = {}
                refused: list[RomanaError] = []
                for number in range(100_000):
                    (result,) = await parts.ask(f"n{number}", tenant=f"t{number}")
                    if isinstance(result, RomanaError):
                        refused.append(result)
                        break
                    given[f"n{number}"] = result
                assert [error.reason for error in refused] == [STORE_FULL]
                assert not parts.task.done()
                stored = {
                    use.name
                    for page in (await pages(parts)).values()
                    for use in decode_page(page).used
                }
                assert stored == given.keys()
                assert parts.ledger.index.used == len(given)
    finally:
        server.stop()
