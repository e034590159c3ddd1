from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.lease import LeaseElection
from tests.fakes.api_server import FakeApiServer
from tests.support.ipam_process import poll

PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/romana"


@pytest.fixture
def fake() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def server(fake: FakeApiServer) -> AsyncIterator[ApiServer]:
    async with fake.serve() as made:
        yield made


@contextlib.asynccontextmanager
async def candidate(
    server: ApiServer, identity: str, duration: int = 3
) -> AsyncIterator[LeaseElection]:
    made = LeaseElection(
        server, namespace="kube-system", name="romana", identity=identity, duration=duration
    )
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def leads(election: LeaseElection, *, leading: bool = True) -> None:
    async with asyncio.timeout(20):
        await election.until(leading=leading)


async def test_one_of_two_leads_and_its_end_makes_the_other_lead(
    fake: FakeApiServer, server: ApiServer
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with candidate(server, "one", duration=60) as one:
            await leads(one)
            two = await stack.enter_async_context(candidate(server, "two"))
            reads = sum(r == f"GET {PATH}" for r in fake.requests)
            await poll(lambda: sum(r == f"GET {PATH}" for r in fake.requests) > reads + 2, 20)
            assert (one.is_leader, two.is_leader) == (True, False)
        await one.resign()
        assert not one.is_leader
        await leads(two)
        assert fake.objects[PATH]["spec"]["holderIdentity"] == "two"
        assert fake.objects[PATH]["spec"]["leaseTransitions"] == 1


async def test_a_silent_holder_is_replaced(fake: FakeApiServer, server: ApiServer) -> None:
    fake.put(PATH, spec={"holderIdentity": "dead", "renewTime": "2099-01-01T00:00:00.000000Z"})
    async with candidate(server, "one") as one:
        await leads(one)


async def test_who_finds_another_name_leads_no_more(fake: FakeApiServer, server: ApiServer) -> None:
    async with candidate(server, "one", duration=60) as one:
        await leads(one)
        fake.put(PATH, spec={"holderIdentity": "thief"})
        await leads(one, leading=False)


async def test_who_cannot_renew_leads_no_more(fake: FakeApiServer, server: ApiServer) -> None:
    async with candidate(server, "one") as one:
        await leads(one)
        fake.fails = 500
        await leads(one, leading=False)
        fake.fails = 0
        await leads(one)
