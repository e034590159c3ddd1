from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from services.common.backoff import Backoff, BackoffPolicy
from services.kubernetes.cluster import informer
from services.kubernetes.cluster.informer import Change, Informer
from services.kubernetes.cluster.kinds import NODES
from services.kubernetes.objects.nodes import Node
from tests.fakes.api_server import FakeApiServer
from tests.support.ipam_process import poll

PATH = NODES.path


class Following:
    """An informer, and what it said."""

    def __init__(self, fake: FakeApiServer, made: Informer[Node]) -> None:
        self.fake = fake
        self.informer = made
        self.changes: list[Change[Node]] = []
        made.on_change(self._take)

    def _take(self, changes: Sequence[Change[Node]]) -> None:
        self.changes += changes

    @property
    def said(self) -> list[tuple[str, str]]:
        """Names with what became of them, since asked before."""
        found = [
            (one.key, "-" if one.after is None else "+" if one.before is None else "~")
            for one in self.changes
        ]
        self.changes.clear()
        return found

    def put(self, name: str, **labels: str) -> None:
        self.fake.put(f"{PATH}/{name}", metadata={"labels": labels})

    async def until(self, *names: str) -> None:
        async def there() -> bool:
            return set(self.informer.items) == set(names)

        await poll(there, 20)

    async def until_following(self) -> None:
        async def follows() -> bool:
            return self.informer.is_following

        await poll(follows, 20)


@contextlib.asynccontextmanager
async def three_followed() -> AsyncIterator[Following]:
    """Of three nodes, two on a page."""
    fake = FakeApiServer()
    for name in ("a", "b", "c"):
        fake.put(f"{PATH}/{name}")
    async with fake.serve() as server:
        made = Following(fake, Informer(server, NODES, page=2))
        task = asyncio.create_task(made.informer.run())
        await made.informer.in_sync()
        await made.until_following()
        yield made
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def following() -> AsyncIterator[Following]:
    async with three_followed() as made:
        yield made


def lists(fake: FakeApiServer) -> int:
    """How often everything was read."""
    return sum("limit=" in one and "continue=" not in one for one in fake.requests)


async def test_all_pages_are_read_and_then_changes(following: Following) -> None:
    assert following.said == [("a", "+"), ("b", "+"), ("c", "+")]
    following.put("d")
    await following.until("a", "b", "c", "d")
    following.put("d", zone="x")
    following.fake.delete(f"{PATH}/a")
    await following.until("b", "c", "d")
    assert following.said == [("d", "+"), ("d", "~"), ("a", "-")]
    assert following.informer.items["d"].labels == {"zone": "x"}
    assert lists(following.fake) == 1


async def test_what_does_not_touch_what_is_kept_is_no_change(following: Following) -> None:
    assert following.said
    following.fake.put(f"{PATH}/a", status={"conditions": [1]})
    following.put("d")
    await following.until("a", "b", "c", "d")
    assert following.said == [("d", "+")]


async def test_a_broken_watch_goes_on_where_it_was(following: Following) -> None:
    following.put("d")
    await following.until("a", "b", "c", "d")
    following.fake.drop()
    following.put("e")
    await following.until("a", "b", "c", "d", "e")
    assert lists(following.fake) == 1


async def test_a_bookmark_moves_on_from_what_is_forgotten(following: Following) -> None:
    following.fake.put("/api/v1/others/x")  # of another kind: only a bookmark tells of it
    version = str(following.fake.version)
    await poll(lambda: following.informer._version == version, 20)
    following.fake.drop()
    following.fake.compact()
    following.put("d")
    await following.until("a", "b", "c", "d")
    assert lists(following.fake) == 1


async def test_after_410_what_is_missing_is_said_to_be_gone(following: Following) -> None:
    assert following.said
    following.fake.bookmarks = False
    following.fake.fails = 503
    following.fake.drop()
    following.fake.delete(f"{PATH}/a")
    following.put("b", zone="x")
    following.put("d")
    following.fake.compact()
    following.fake.fails = 0
    await following.until("b", "c", "d")
    assert following.said == [("a", "-"), ("b", "~"), ("d", "+")]
    assert lists(following.fake) == 2


async def test_what_is_too_old_as_soon_as_it_was_listed_is_not_listed_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    class Counted(Backoff):
        def failed(self) -> float:
            pauses.append(super().failed())
            return 0.001

    monkeypatch.setattr(informer, "Backoff", Counted)

    class Forgetful(FakeApiServer):
        async def _watch(self, writer: asyncio.StreamWriter, path: str, since: int) -> None:
            self.version += 1
            self.compact()
            await super()._watch(writer, path, since)

    fake = Forgetful()
    async with fake.serve() as server:
        task = asyncio.create_task(Informer(server, NODES).run())
        await poll(lambda: lists(fake) > 3, 20)
        assert len(pauses) >= 3
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_watches_that_last_and_break_are_taken_up_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As behind a proxy that breaks what is silent for a minute."""
    monkeypatch.setattr(informer, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(informer, "RETRY", BackoffPolicy(0.01, factor=1e6, maximum=1e6))
    async with three_followed() as following:
        for number in range(8):
            following.fake.drop()
            following.put("d", round=str(number))
            await poll(lambda: _round(following) == str(number), 20)  # noqa: B023


def _round(following: Following) -> str:
    node = following.informer.items.get("d")
    return "" if node is None else node.labels["round"]


async def test_a_list_whose_pages_have_expired_begins_anew(following: Following) -> None:
    following.fake.bookmarks = False
    following.fake.fails = 410
    following.fake.drop()

    async def refused() -> bool:
        return lists(following.fake) > 1

    await poll(refused, 20)
    assert set(following.informer.items) == {"a", "b", "c"}
    following.fake.fails = 0
    following.put("d")
    await following.until("a", "b", "c", "d")


async def test_nothing_is_gone_because_the_server_is_away(following: Following) -> None:
    following.fake.fails = 500
    following.fake.drop()

    async def tried() -> bool:
        return sum("watch=true" in one for one in following.fake.requests) > 2

    await poll(tried, 20)
    assert set(following.informer.items) == {"a", "b", "c"}
    assert not following.informer.is_following
    following.fake.fails = 0
    await following.until_following()


async def test_an_object_that_cannot_be_read_stays_as_it_was_known(following: Following) -> None:
    assert following.said
    following.fake.put(f"{PATH}/a", status={"addresses": "no list"})
    following.put("d")
    await following.until("a", "b", "c", "d")
    following.fake.drop()
    following.fake.compact()
    following.put("e")
    await following.until("a", "b", "c", "d", "e")
    assert following.said == [("d", "+"), ("e", "+")]


async def test_an_object_that_cannot_be_read_is_gone_when_it_is_deleted(
    following: Following,
) -> None:
    following.fake.put(f"{PATH}/a", status={"addresses": "no list"})
    following.fake.delete(f"{PATH}/a")
    await following.until("b", "c")
    assert lists(following.fake) == 1


async def test_a_list_that_is_none_changes_nothing(following: Following) -> None:
    """As from something on the way that answers by itself."""
    following.fake.bookmarks = False
    following.fake.garbled = True
    following.fake.fails = 503
    following.fake.drop()
    following.put("d")
    following.fake.compact()
    following.fake.fails = 0
    await poll(lambda: lists(following.fake) > 2, 20)
    assert set(following.informer.items) == {"a", "b", "c"}
    following.fake.garbled = False
    await following.until("a", "b", "c", "d")


async def test_a_kind_that_the_cluster_does_not_know_is_looked_for_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(informer, "MISSING_SECONDS", 0.01)
    fake = FakeApiServer()
    fake.fails = 404
    async with fake.serve() as server:
        made = Informer(server, NODES)
        task = asyncio.create_task(made.run())

        async def missing() -> bool:
            return not made.is_known

        await poll(missing, 20)
        assert not made.is_in_sync
        fake.fails = 0
        fake.put(f"{PATH}/a")
        await made.in_sync()
        assert made.is_known
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
