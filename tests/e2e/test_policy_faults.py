"""kill -9 of the policy service and of etcd while policies and labels change."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from romana.policy.v1 import policy_service_pb2 as api

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from tests.support.fault_table import FaultCount, Record
from tests.support.ipam_process import poll, seed
from tests.support.policy_process import (
    PolicyProcess,
    endpoint,
    of_tenant,
    policy,
    report,
    rules_agent,
)
from tests.support.sync_agent import SyncAgent
from tests.support.topologies import layout, network, node

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

pytestmark = pytest.mark.timeout(120)

NODES = ("h1", "h2", "h3")
PEERS = 20
ATTEMPTS = 200


@dataclass
class Acknowledged:
    """What the service said it had done."""

    labels: dict[str, str] = field(default_factory=dict)
    policies: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)
    times: list[float] = field(default_factory=list)
    """Of every acknowledgment."""

    def longest_gap(self, since: float) -> float:
        """Seconds without any."""
        times = [since, *(one for one in self.times if one > since)]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


@dataclass
class Site:
    etcd: LocalEtcd
    client: EtcdClient
    keys: Keys
    replica: PolicyProcess
    stub: PolicyServiceAsyncStub
    agents: list[SyncAgent]
    done: Acknowledged = field(default_factory=Acknowledged)

    async def until_done(self, call: object) -> None:
        """Asks again until it is acknowledged, as clients do."""
        for _ in range(ATTEMPTS):
            try:
                await call()  # type: ignore[operator]
            except grpc.aio.AioRpcError as error:
                if error.code() not in {
                    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED,
                }:  # fmt: skip
                    raise
                await asyncio.sleep(0.05)
            else:
                self.done.times.append(time.monotonic())
                return
        raise AssertionError("nothing was acknowledged any more")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    etcd = LocalEtcd(tmp_path / "etcd")
    await etcd.start()
    try:
        keys = Keys()
        async with EtcdClient([etcd.endpoint]) as client:
            nodes = [node(name, address=f"192.0.2.{name[1:]}") for name in NODES]
            await seed(client, keys, layout([network("net", "10.0.0.0/24", 29)]), nodes)
            with PolicyProcess.started(etcd.endpoint, keys.root, tmp_path) as replica:
                await replica.wait_until_serving()
                async with contextlib.AsyncExitStack() as stack:
                    stub = await stack.enter_async_context(replica.connect())
                    agents = [
                        await stack.enter_async_context(rules_agent(name, [replica.address]))
                        for name in NODES
                    ]
                    yield Site(etcd, client, keys, replica, stub, agents)
    finally:
        await asyncio.to_thread(etcd.stop)


async def set_up(site: Site) -> None:
    """An endpoint on each node that takes from those labelled `web`, and these on the last."""
    await site.stub.CreatePolicy(
        api.CreatePolicyRequest(policy=policy("web", peer=of_tenant("u", app="web")))
    )
    peers = [endpoint(f"p{number}", f"10.0.0.{number}", tenant="u") for number in range(PEERS)]
    for number, name in enumerate(NODES):
        own = endpoint(f"e{number}", f"10.0.0.{100 + number}")
        await report(site, name, own, *(peers if name == NODES[-1] else ()))


async def change(site: Site, stop: asyncio.Event) -> None:
    """Flips labels, adds policies and replaces a large set, one after the other."""
    done, stub, number = site.done, site.stub, 0
    while not stop.is_set():
        number += 1
        name, app = f"p{number % PEERS}", ("web", "db")[number // PEERS % 2]
        labelled = endpoint(name, tenant="u", labels={"app": app})

        async def put(labelled: object = labelled) -> None:
            request = api.PutEndpointsRequest(endpoints=[labelled])  # type: ignore[list-item]
            answer = await stub.PutEndpoints(request, timeout=10)
            if answer.results[0].code:
                raise grpc.aio.AioRpcError(
                    grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()
                )

        async def create(name: str = f"q{number}") -> None:
            message = policy(name, of_tenant("elsewhere"))
            await stub.CreatePolicy(api.CreatePolicyRequest(policy=message), timeout=10)

        async def apply(number: int = number) -> None:
            policies = [policy(f"s{number}-{one}", of_tenant("nobody")) for one in range(150)]
            request = api.ApplyPoliciesRequest(policies=policies, prune_labels={"set": "s"})
            await stub.ApplyPolicies(request, timeout=10)

        await site.until_done(put)
        done.labels[name] = app
        await site.until_done(create)
        done.policies.add(f"q{number}")
        if number % 5 == 0:
            await site.until_done(apply)
            done.sets = {f"s{number}-{one}" for one in range(150)}


def members(agent: SyncAgent) -> set[int]:
    """Last bytes of the addresses in the groups that a node has."""
    pages = [item.page for item in agent.kernel.values() if item.WhichOneof("resource") == "page"]
    return {page.base[-1] + bit for page in pages for bit in range(64) if page.members >> bit & 1}


async def names(site: Site) -> set[str]:
    found: set[str] = set()
    token = ""
    while True:
        request = api.ListPoliciesRequest(page_size=1000, page_token=token)
        answer = await site.stub.ListPolicies(request)
        found |= {one.name for one in answer.policies}
        token = answer.next_page_token
        if not token:
            return found


async def test_nothing_acknowledged_is_lost_and_streams_resume(
    site: Site, record_property: Record
) -> None:
    await set_up(site)
    stop = asyncio.Event()
    changing = asyncio.create_task(change(site, stop))

    async def progress() -> None:
        before = len(site.done.policies)
        await poll(lambda: changing.done() or len(site.done.policies) > before + 6, 30)
        if changing.done():
            changing.result()

    for kill in ("policy", "etcd", "policy", "etcd"):
        await progress()
        began = time.monotonic()
        if kill == "policy":
            site.replica.kill()
            site.replica.start()
        else:
            await asyncio.to_thread(site.etcd.kill)
            await site.etcd.start()
        await progress()
        known = set(site.done.policies)
        await site.stub.GetRealization(api.GetRealizationRequest(nodes_only=True))
        FaultCount(
            f"{kill} killed while policies are written",
            sum(one > began for one in site.done.times),
            losses=len(known - await names(site)),
            longest_gap=site.done.longest_gap(began),
        ).record(record_property)
    stop.set()
    await changing

    done = site.done
    await site.stub.GetRealization(api.GetRealizationRequest(nodes_only=True))
    assert await names(site) == {"web", *done.policies, *done.sets}
    wanted = {int(name[1:]) for name, app in done.labels.items() if app == "web"}
    for agent in site.agents:
        await agent.until(lambda agent=agent: members(agent) == wanted)  # type: ignore[misc]
        await agent.until_in_sync()

    # nothing changes now: what agents hold is what there is
    before = [(len(agent.errors), len(agent.batches)) for agent in site.agents]
    site.replica.kill()
    await asyncio.to_thread(site.etcd.kill)
    await site.etcd.start()
    site.replica.start()
    for agent, (errors, batches) in zip(site.agents, before, strict=True):
        await agent.until(lambda agent=agent, errors=errors: len(agent.errors) > errors)  # type: ignore[misc]
        await agent.until_in_sync(30)
        assert not any(batch.snapshot for batch in agent.batches[batches:])
        assert members(agent) == wanted
