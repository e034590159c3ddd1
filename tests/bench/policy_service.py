"""A label change, from the API call to the acknowledgment of the last of 100 agents.

Each of the agents' nodes has an endpoint that takes from endpoints with a label; a call gives that
label to one more, or takes it away. All around are 500 tenants with 200 endpoints and 20 policies
each, on 1,000 nodes. The baseline is the same change with nothing around. Agents are two processes
and acknowledge at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from romana.policy.v1 import policy_service_pb2 as api

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.etcd.types import Operation, Put
from services.common.model.names import EndpointName, NodeName, Segment, Tenant
from services.common.model.rules import Direction, PolicyName, Tier
from services.policy.model import (
    Endpoint,
    EndpointSelector,
    LabelSelector,
    Operator,
    Policy,
    Requirement,
    Rule,
)
from services.policy.store import codec
from services.policy.store.codec import Stored
from tests.bench.agents import Crowds, crowd
from tests.bench.report import Row
from tests.bench.world import median, world
from tests.support.ipam_process import seed
from tests.support.ipam_records import allocation
from tests.support.policy_process import PolicyProcess, endpoint
from tests.support.topologies import layout, network, node

TITLE = "policy service"
SECONDS_AIM = 1.0
AGENTS = 100
START_SECONDS = 300.0
NETWORK = "10.0.0.0/12"
FIRST = int(IPv4Address("10.0.1.0"))
TOGETHER = 100
"""Documents in one transaction."""


@dataclass(frozen=True, slots=True)
class Size:
    """What is around."""

    tenants: int
    endpoints: int = 200
    """Of each tenant, on two nodes."""
    policies: int = 20
    """Of each tenant."""


async def measure(*, quick: bool) -> list[Row]:
    around, rounds = (Size(20), 3) if quick else (Size(500), 15)
    async with world() as there:
        alone, _ = await changes(there.etcd, there.folder, "/alone", Size(0), rounds)
        seconds, start = await changes(there.etcd, there.folder, "/many", around, rounds)
    count, policies = around.tenants * around.endpoints, around.tenants * around.policies
    what = f"{count:,} endpoints and {policies:,} policies"
    return [
        Row(
            f"label change to last acknowledgment of {AGENTS} agents, {what}",
            f"{seconds * 1000:.0f} ms",
            f"nothing around: {alone * 1000:.0f} ms",
            seconds / alone,
            f"< {SECONDS_AIM:.0f} s",
            seconds < SECONDS_AIM,
        ),
        Row(f"start of a replica until it serves, {what}", f"{start:.1f} s"),
    ]


async def changes(
    etcd: LocalEtcd, folder: Path, root: str, size: Size, rounds: int
) -> tuple[float, float]:
    """Median seconds of a change, and seconds that a replica takes to start."""
    keys = Keys(root)
    async with EtcdClient([etcd.endpoint], timeout=30.0) as client:
        nodes = [
            node(f"node-{number:04}", address=f"172.16.{number >> 8}.{number & 255}")
            for number in range(max(AGENTS, 2 * size.tenants))
        ]
        await seed(client, keys, layout([network("net", NETWORK, 29)]), nodes)
        await write(client, documents(keys, size))
    begin = time.monotonic()
    with PolicyProcess.started(etcd.endpoint, root, folder, name=root.strip("/")) as replica:
        await wait_until_serving(replica)
        start = time.monotonic() - begin
        async with crowd(replica, 0, AGENTS, "rules") as agents:
            return await time_changes(replica, agents, rounds), start


async def wait_until_serving(replica: PolicyProcess) -> None:
    """However long it takes to read a large store."""
    async with asyncio.timeout(START_SECONDS):
        while not await replica.is_serving():  # noqa: ASYNC110 - a process's state
            await asyncio.sleep(0.05)


async def time_changes(replica: PolicyProcess, agents: Crowds, rounds: int) -> float:
    found = []
    async with replica.connect() as stub:
        for number in range(rounds):
            labelled = endpoint(
                "client", tenant="clients", labels={"app": ("web", "db")[number % 2]}
            )
            begin = time.monotonic()
            await stub.PutEndpoints(api.PutEndpointsRequest(endpoints=[labelled]))
            found.append(await agents.last_acknowledged() - begin)
            await asyncio.sleep(0.05)
    return median(found)


async def write(client: EtcdClient, puts: Iterator[Operation]) -> None:
    some: list[Operation] = []
    for each in puts:
        some.append(each)
        if len(some) == TOGETHER:
            await client.transact((), some)
            some = []
    if some:
        await client.transact((), some)


def documents(keys: Keys, size: Size = Size(0), *, agents: int = AGENTS) -> Iterator[Operation]:
    """As the service would have written them."""
    addresses = iter(range(FIRST, FIRST + (1 << 19)))

    def attached(name: str, tenant: str, node: int, **labels: str) -> Iterator[Operation]:
        there = NodeName(f"node-{node:04}")
        one = Endpoint(
            EndpointName(name),
            Tenant(tenant),
            Segment(""),
            labels,
            node=there,
            addresses=(IPv4Address(next(addresses)),),
        )
        yield allocation(keys, str(one.addresses[0]), name, there, tenant)
        yield Put(keys.attached_to(there, name), codec.encode_endpoint(one))

    yield policy(keys, "watched", "servers", "clients", "web")
    yield from attached("client", "clients", 0, app="db")
    for number in range(agents):
        yield from attached(f"server-{number}", "servers", number)
    for tenant in range(size.tenants):
        name = f"tenant-{tenant}"
        for number in range(size.policies):
            yield policy(keys, f"{name}/{number}", name, name, f"app-{number}")
        for number in range(size.endpoints):
            place = 2 * tenant + number % 2
            app = f"app-{number % max(size.policies, 1)}"
            yield from attached(f"{name}-{number}", name, place, app=app)


def policy(keys: Keys, name: str, target: str, peer: str, app: str) -> Operation:
    """A tenant's endpoints take from those of another one with a label."""
    labels = LabelSelector((Requirement("app", Operator.IN, (app,)),))
    written = Policy(
        PolicyName(name),
        Tier.TENANT,
        (EndpointSelector((Tenant(target),)),),
        {Direction.INGRESS: (Rule(peers=(EndpointSelector((Tenant(peer),), labels=labels),)),)},
    )
    return Put(f"{keys.policies}{name}", codec.encode_policy(Stored(written, 0, 0)))
