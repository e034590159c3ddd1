"""Records of changes on a real store: kept within a bound, the same for every service."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from romana.audit.v1 import audit_service_pb2 as api
from structlog.testing import capture_logs

from services.common.audit import trail as bounds
from services.common.audit.in_force import InForceNotes, Reach
from services.common.audit.lines import AuditLines
from services.common.audit.record import Changed, InForceRecord, ObjectKind, Who
from services.common.audit.service import AuditService
from services.common.audit.trail import AuditTrail, Change
from services.common.audit.writer import AuditWriter
from services.common.errors import InvalidInput, NotFound, Unavailable
from services.common.etcd.types import Put, Revision
from tests.conftest import Store
from tests.support.ipam_process import poll

WHO = Who("romana:operator", ("spiffe://romana/operator",), "romana-command", "r1")
SECONDS = 60.0
NO_CONTEXT = cast("Any", None)


@dataclass
class Site:
    """A service that writes records and follows them."""

    store: Store
    writer: AuditWriter
    trail: AuditTrail
    heard: list[Change] = field(default_factory=list)
    last: Revision = 0

    async def change(self, *changed: Changed) -> Revision:
        """Makes a change; returns its revision."""
        writes = self.writer.operations(changed, WHO, self.last)
        self.last = (await self.store.client.transact((), writes)).revision
        return self.last

    async def known(self) -> list[Revision]:
        await self.trail.confirm()
        return [one.revision for one in self.trail.newest_first()]


@contextlib.asynccontextmanager
async def running(store: Store, service: str = "topology") -> AsyncIterator[Site]:
    heard: list[Change] = []
    trail = AuditTrail(store.client, store.keys, service, heard.append)
    task = asyncio.create_task(trail.run())
    try:
        await trail.confirm()
        yield Site(store, AuditWriter(store.keys, service, {}), trail, heard)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def node(name: str, before: str | None = None, after: str | None = "{}") -> Changed:
    return Changed(ObjectKind.NODE, name, before, after)


async def test_every_service_knows_what_any_of_them_changed(store: Store) -> None:
    async with running(store) as topology, running(store, "policy") as policy:
        first = await topology.change(node("n1"))
        second = await policy.change(Changed(ObjectKind.TENANT, "shop", '{"a":1}', None))
        for site in (topology, policy):
            assert await site.known() == [second, first]
        found = topology.trail.find(second)
        assert found is not None
        assert found.service == "policy"
        assert found.record.who == WHO
        assert [one.before for one in found.record.documents()] == ['{"a":1}']


async def test_who_follows_later_hears_only_of_new_changes(store: Store) -> None:
    async with running(store) as first:
        old = await first.change(node("n1"))
        async with running(store, "ipam") as later:
            new = await first.change(node("n2"))
            assert await later.known() == [new, old]
            assert [one.revision for one in later.heard] == [new]


async def test_a_change_of_nothing_leaves_no_record(store: Store) -> None:
    async with running(store) as site:
        assert site.writer.operations((), WHO, 0) == []


@pytest.mark.parametrize("limit", ["records", "bytes"])
async def test_a_service_drops_its_own_oldest_records(
    store: Store, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    async with running(store) as topology, running(store, "policy") as policy:
        others = await policy.change(node("n0"))
        made = [await topology.change(node(f"n{number}")) for number in range(8)]
        await topology.trail.confirm()
        if limit == "records":
            monkeypatch.setattr(bounds, "RECORDS_MOST", 3)
        else:
            items = (await store.client.range(f"{store.keys.audit}topology/")).items
            largest = max(len(item.value) for item in items)
            monkeypatch.setattr(bounds, "BYTES_MOST", 9 * largest // 2)
        made.append(await topology.change(node("n8")))
        kept = 3 if limit == "records" else 4

        async def is_short() -> bool:
            return len(await policy.known()) == kept + 1

        await poll(is_short, SECONDS)
        assert await policy.known() == [*reversed(made[-kept:]), others]
        assert await topology.known() == await policy.known()


async def test_when_a_change_was_in_force_is_noted_once(store: Store) -> None:
    async with running(store) as one, running(store) as other:
        revision = await one.change(node("n1"))
        assert await one.trail.note_in_force(revision, InForceRecord(1000, 3))
        assert not await other.trail.note_in_force(revision, InForceRecord(2000, 4))
        await other.trail.confirm()
        assert other.trail.in_force(revision) == InForceRecord(1000, 3)


async def test_it_is_asked_until_no_node_is_late(store: Store) -> None:
    async with running(store) as site:
        asked: list[Revision] = []
        answers = iter([Unavailable("away", reason="X"), Reach(2, 1), Reach(2, 0)])
        noted: list[tuple[Revision, InForceRecord]] = []

        async def ask(revisions: Any) -> list[Reach]:
            asked.extend(revisions)
            answer = next(answers)
            if isinstance(answer, Unavailable):
                raise answer
            return [answer]

        notes = InForceNotes(
            site.trail, {"topology"}, ask, lambda revision, record: noted.append((revision, record))
        )
        task = asyncio.create_task(notes.run())
        revision = await site.change(node("n1"))
        await poll(lambda: bool(noted), SECONDS)
        task.cancel()
        assert asked == [revision] * 3
        assert [(one, record.nodes) for one, record in noted] == [(revision, 2)]


async def test_what_cannot_be_read_hides_nothing_else(store: Store) -> None:
    await store.client.transact((), [Put(store.keys.audit_change("topology", 1), b"[")])
    await store.client.transact((), [Put(f"{store.keys.audit}strange", b"{}")])
    async with running(store) as site:
        made = await site.change(node("n1"))
        assert await site.known() == [made]


async def test_what_objects_were_is_left_out_when_there_are_too_many(store: Store) -> None:
    async with running(store) as site:
        service = AuditService(site.trail)
        revision = await site.change(*[node(f"n{number}") for number in range(1500)])
        answer = await service.GetChange(api.GetChangeRequest(revision=revision), NO_CONTEXT)
        assert answer.change.is_cut
        assert answer.change.object_count == 1500
        assert len(answer.change.objects) == 1000


async def test_lists_have_pages_and_filters(store: Store) -> None:
    async with running(store) as site:
        service = AuditService(site.trail)
        made = [await site.change(node(f"n{number}")) for number in range(5)]
        tenant = await site.change(Changed(ObjectKind.TENANT, "shop", None, "{}"))
        found: list[int] = []
        request = api.ListChangesRequest(page_size=2)
        while True:
            page = await service.ListChanges(request, NO_CONTEXT)
            found += [change.revision for change in page.changes]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == [tenant, *reversed(made)]

        async def asked(**wanted: Any) -> list[int]:
            answer = await service.ListChanges(api.ListChangesRequest(**wanted), NO_CONTEXT)
            return [change.revision for change in answer.changes]

        assert await asked(kinds=[api.OBJECT_KIND_TENANT]) == [tenant]
        assert await asked(object="n3") == [made[3]]
        assert await asked(object="shop", kinds=[api.OBJECT_KIND_NODE]) == []
        assert await asked(identity="operator", after_revision=made[4]) == [tenant]
        assert await asked(identity="somebody") == []
        with pytest.raises(InvalidInput):
            await asked(kinds=[99])
        with pytest.raises(InvalidInput):
            await asked(page_size=1001)
        with pytest.raises(NotFound):
            await service.GetChange(api.GetChangeRequest(revision=1), NO_CONTEXT)


async def test_each_replica_writes_its_own_changes_as_lines(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "changes.jsonl"
    async with running(store) as one, running(store) as other:
        writing = AuditLines(file, "topology", one.writer.replica)
        task = asyncio.create_task(writing.run())
        revision = await one.change(node("n1", None, '{"name":"n1"}'))
        other.last = revision
        await other.change(node("n2"))
        await one.trail.confirm()
        for change in one.heard:
            writing.changed(change)
        writing.in_force(revision, InForceRecord(0, 2))
        writing.refused("romana.x/Y", InvalidInput.at("name", "is bad"), WHO)
        writing.refused("romana.x/Y", Unavailable("away", reason="X"), WHO)

        def lines() -> list[dict[str, Any]]:
            text = file.read_text() if file.exists() else ""
            return [json.loads(line) for line in text.splitlines()]

        await poll(lambda: len(lines()) == 3, SECONDS)
        changed, in_force, refused = lines()
        assert file.stat().st_mode & 0o777 == 0o600
        assert changed["revision"] == revision
        assert changed["identity"] == WHO.identity
        assert changed["objects"] == [
            {
                "kind": "node",
                "name": "n1",
                "action": "created",
                "before": None,
                "after": {"name": "n1"},
            }
        ]
        assert (in_force["event"], in_force["time"]) == ("in_force", "1970-01-01T00:00:00Z")
        assert (refused["event"], refused["request_id"]) == ("refused", "r1")

        file.rename(tmp_path / "older")
        writing.in_force(revision, InForceRecord(0, 2))
        await poll(lambda: len(lines()) == 1, SECONDS)
        task.cancel()


async def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "there"
    writing = AuditLines(missing / "changes", "topology", "r")
    task = asyncio.create_task(writing.run())
    with capture_logs() as logs:
        writing.in_force(1, InForceRecord(0, 1))
        await poll(lambda: bool(logs), SECONDS)
    assert [log["event"] for log in logs] == ["audit_lines_not_written"]
    missing.mkdir()
    writing.in_force(2, InForceRecord(0, 1))
    await poll((missing / "changes").exists, SECONDS)
    task.cancel()
