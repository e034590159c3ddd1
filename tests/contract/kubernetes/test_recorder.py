"""Events on objects."""

from __future__ import annotations

import asyncio

import pytest

from services.kubernetes.cluster.recorder import Note, Recorder, Subject
from tests.fakes.api_server import FakeApiServer
from tests.support.ipam_process import poll

EVENTS = "/api/v1/namespaces/shop/events"


@pytest.mark.parametrize("name", ["web", "a" * 199 + "-" + "b" * 40, "a" * 198 + ".-" + "b" * 40])
async def test_an_event_has_a_name_that_the_api_server_takes(name: str) -> None:
    fake = FakeApiServer()
    async with fake.serve() as server:
        recorder = Recorder(server)
        task = asyncio.create_task(recorder.run())
        subject = Subject("Pod", "v1", "shop", name, "u")
        recorder.note(Note(subject, "RomanaRefused", "it is wrong"))
        await poll(lambda: any(path.startswith(EVENTS) for path in fake.objects), 20)
        (event,) = fake.objects.values()
        assert event["involvedObject"]["name"] == name
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
