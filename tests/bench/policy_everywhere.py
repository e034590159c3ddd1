"""A change that concerns every node, from the API call to the acknowledgment of the last agent.

A thousand nodes with one endpoint each. A policy that selects all of these is written and deleted:
each node gets rules of its own. Then an endpoint gets a label that they take from, and loses it:
all get the same. The baseline is the same change with one node. Agents are two processes and
acknowledge at once; by two replicas each has half. What the service computes meanwhile is printed
beside. Before that stands the floor: a server that only has `grpc.aio` send so many agents one
message of that size. From the API server's answer to a real kernel: `make kubernetes-test`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import grpc.aio
from romana.policy.v1 import policy_service_pb2 as api

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from tests.bench.agents import Crowds, shares, started
from tests.bench.bare_fan_out import TELL
from tests.bench.policy_service import documents, wait_until_serving, write
from tests.bench.report import Row
from tests.bench.world import World, median, processor_seconds, world
from tests.support.ipam_process import seed
from tests.support.policy_process import PolicyProcess, endpoint, of_tenant, policy
from tests.support.topologies import layout, network, node

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

TITLE = "changes that concern every node"
SECONDS_AIM = 0.1
NETWORK = "10.0.0.0/12"

MESSAGE_BYTES = 200
"""About what a node is told of a policy."""

Change = Callable[["PolicyServiceAsyncStub", int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Taken:
    """Medians."""

    seconds: float
    computed: float
    """Seconds that all replicas computed."""


async def measure(*, quick: bool) -> list[Row]:
    count, rounds = (40, 4) if quick else (1000, 20)
    async with world() as there:
        alone = await changes(there, "/alone", 1, rounds)
        found = await changes(there, "/many", count, rounds)
        shared = await changes(there, "/shared", count, rounds, replicas=2)
    bare = await bare_fan_out(count, rounds)
    floor = Row(
        f"the floor: {MESSAGE_BYTES} bytes to {count:,} agents by bare grpc.aio",
        f"{bare * 1000:.0f} ms",
        f"a policy: {found['a policy'].seconds * 1000:.0f} ms",
        bare / found["a policy"].seconds,
    )
    return [floor] + [
        Row(
            f"{what}, to the last acknowledgment of {count:,} agents of {replicas}",
            f"{taken.seconds * 1000:.0f} ms ({taken.computed * 1000:.0f} ms computed)",
            f"of one agent: {alone[what].seconds * 1000:.1f} ms",
            taken.seconds / alone[what].seconds,
            f"<= {SECONDS_AIM * 1000:.0f} ms",
            taken.seconds <= SECONDS_AIM,
        )
        for replicas, all_taken in (("a replica", found), ("two replicas", shared))
        for what, taken in all_taken.items()
    ]


async def changes(
    there: World, root: str, nodes: int, rounds: int, *, replicas: int = 1
) -> dict[str, Taken]:
    keys = Keys(root)
    async with EtcdClient([there.etcd.endpoint], timeout=30.0) as client:
        known = [
            node(f"node-{number:04}", address=f"172.16.{number >> 8}.{number & 255}")
            for number in range(nodes)
        ]
        await seed(client, keys, layout([network("net", NETWORK, 29)]), known)
        await write(client, documents(keys, agents=nodes))
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(
                PolicyProcess.started(
                    there.etcd.endpoint, root, there.folder, name=f"{root.strip('/')}-{number}"
                )
            )
            for number in range(replicas)
        ]
        for replica in made:
            await wait_until_serving(replica)
        lines = [
            ("tests.bench.light_agents", replica.address, str(first), str(count))
            for replica, (first, count) in zip(cycle(made), shares(nodes, 2), strict=False)
        ]
        async with started(lines) as agents:
            return {
                "a policy": await time_changes(made, agents, rounds, write_policy),
                "a label": await time_changes(made, agents, rounds, write_label),
            }


async def time_changes(
    replicas: Sequence[PolicyProcess], agents: Crowds, rounds: int, change: Change
) -> Taken:
    seconds, computed = [], []
    async with replicas[0].connect() as stub:
        for number in range(rounds):
            before, begin = sum(map(processor_seconds, replicas)), time.monotonic()
            await change(stub, number)
            seconds.append(max(map(float, await agents.lines())) - begin)
            computed.append(sum(map(processor_seconds, replicas)) - before)
    return Taken(median(seconds), median(computed))


async def bare_fan_out(nodes: int, rounds: int) -> float:
    """Median seconds, as above, without anything to be decided, stored or encoded."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.bare_fan_out", str(MESSAGE_BYTES),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        address = (await server.stdout.readline()).decode().strip()
        lines = [
            ("tests.bench.light_agents", address, str(first), str(count))
            for first, count in shares(nodes, 2)
        ]
        seconds = []
        async with started(lines) as agents, grpc.aio.insecure_channel(address) as channel:
            tell = channel.unary_unary(TELL)
            for _ in range(rounds):
                begin = time.monotonic()
                await tell(b"")
                seconds.append(max(map(float, await agents.lines())) - begin)
    finally:
        server.stdin.close()
        await server.wait()
    return median(seconds)


async def write_policy(stub: PolicyServiceAsyncStub, number: int) -> None:
    if number % 2:
        await stub.DeletePolicy(api.DeletePolicyRequest(name="everywhere"))
    else:
        made = policy("everywhere", of_tenant("servers"), of_tenant("clients", app="db"))
        await stub.CreatePolicy(api.CreatePolicyRequest(policy=made))


async def write_label(stub: PolicyServiceAsyncStub, number: int) -> None:
    labels = {"app": ("web", "db")[number % 2]}
    client = endpoint("client", tenant="clients", labels=labels)
    await stub.PutEndpoints(api.PutEndpointsRequest(endpoints=[client]))
