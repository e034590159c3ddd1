"""Changes of rules, and crashes of the policy service and of agents, while packets fly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from lab.namespaces import call, open_socket, run
from lab.probe import Outcome, traffic
from tests.kernel.conformance.cases import FROM_B, Step, X, Y, everything, policy
from tests.kernel.conformance.pods import Pod, Pods, Probe
from tests.kernel.conformance.site import Site

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

INTERVAL = 0.05
"""Seconds between two attempts of what is denied, and two words of what is established."""
PORT = 90
ANSWER_SECONDS = 15.0
"""A lost segment is sent again; a connection that was cut is silent for ever."""
DENIED = Probe(Y["a"], X["a"], socket.AF_INET, "udp", 80)
ALSO_DENIED = Probe(Pod("z", "c"), X["a"], socket.AF_INET6, "tcp", 80)
ALLOWED = Probe(X["b"], X["a"], socket.AF_INET, "tcp", 80)
ALSO = policy(
    "also", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}"
)
OTHER = policy("other", "{podSelector: {matchLabels: {pod: b}}, ingress: [{}]}", "z")


@contextlib.asynccontextmanager
async def never(pods: Pods, *probes: Probe) -> AsyncIterator[None]:
    """Tries these all the time while the block runs: nothing may get there."""
    got: list[str] = []
    tried = 0
    done = asyncio.Event()

    async def attempt(one: Probe) -> None:
        nonlocal tried
        pending: set[asyncio.Task[None]] = set()

        async def once() -> None:
            if await pods.reaches(one, 0.3):
                got.append(str(one))

        while not done.is_set():
            task = asyncio.create_task(once())
            pending.add(task)
            task.add_done_callback(pending.discard)
            tried += 1
            await asyncio.sleep(INTERVAL)
        await asyncio.gather(*pending)

    async with asyncio.TaskGroup() as group:
        for one in probes:
            group.create_task(attempt(one))
        try:
            yield
        finally:
            done.set()
    assert tried > 10
    assert not got, f"{len(got)} of {tried} attempts got through, such as {got[0]}"


@contextlib.asynccontextmanager
async def conversation(pods: Pods, source: Pod, destination: Pod) -> AsyncIterator[None]:
    """One connection on which every word is answered while the block runs."""
    loop = asyncio.get_running_loop()
    address = str(pods.addresses[destination][socket.AF_INET])
    with (
        open_socket(pods.path(destination), socket.AF_INET, socket.SOCK_STREAM) as listener,
        open_socket(pods.path(source), socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen()
        async with asyncio.timeout(ANSWER_SECONDS):
            await loop.sock_connect(client, (address, PORT))
            server, _ = await loop.sock_accept(listener)
        done = asyncio.Event()

        async def talk() -> None:
            while not done.is_set():
                async with asyncio.timeout(ANSWER_SECONDS):
                    await loop.sock_sendall(client, b"word")
                    await loop.sock_sendall(server, await loop.sock_recv(server, 64))
                    assert await loop.sock_recv(client, 64) == b"word"
                await asyncio.sleep(INTERVAL)

        with server:
            async with asyncio.TaskGroup() as group:
                group.create_task(talk())
                try:
                    yield
                finally:
                    done.set()


async def test_changes_lose_no_packet_of_what_stays_allowed(site: Site) -> None:
    pods = site.pods
    await site.apply(FROM_B)
    to_a = [*pods.addresses[X["a"]].values()]
    async with traffic([(pods.path(X["b"]), one) for one in to_a], interval=0.005) as sent:
        for number in range(8):
            await site.apply(FROM_B + (OTHER if number % 2 else ALSO))
            await site.take(Step(everything, FROM_B, pod_labels={X["c"]: {"pod": "b"}}))
            await site.take(Step(everything, FROM_B))
    for (_, destination), echoes in sent.items():
        assert len(echoes) > 100
        lost = [one for one in echoes if one.outcome is not Outcome.ANSWERED]
        assert not lost, f"{len(lost)} of {len(echoes)} to {destination}: {lost[0]}"


async def test_crashes_open_nothing_and_cut_nothing(site: Site) -> None:
    pods, cluster = site.pods, site.pods.cluster
    await site.apply(FROM_B)
    async with (
        never(pods, DENIED, ALSO_DENIED),
        conversation(pods, X["b"], X["a"]),
    ):
        for victim in ("policy", "n1", "n2", "policy"):
            cluster.kill(victim)
            cluster.start(victim)
            await site.apply_at_last(FROM_B + OTHER)
            cluster.kill(victim)
            cluster.start(victim)
            await site.apply_at_last(FROM_B)
    assert await pods.reaches(ALLOWED, 10)


async def test_an_agent_that_starts_without_the_service_has_its_rules_from_disk(
    site: Site,
) -> None:
    pods, cluster = site.pods, site.pods.cluster
    await site.apply(FROM_B)
    node = pods.node_of(X["a"])
    cluster.kill("policy")
    try:
        cluster.kill(node)
        call(cluster.path(node), lambda: run(["nft", "delete", "table", "inet", "romana"]))
        cluster.start(node)
        await cluster.agent(node).ready()
        assert await pods.reaches(ALLOWED, 20)
        async with never(pods, DENIED, ALSO_DENIED):
            await asyncio.sleep(20 * INTERVAL)
    finally:
        cluster.start("policy")
    await site.apply_at_last("")


async def test_a_new_endpoint_is_closed_until_its_rules_are_there(site: Site) -> None:
    pods, cluster = site.pods, site.pods.cluster
    await site.apply("")
    await pods.detach(Y["a"])
    cluster.kill("policy")
    try:
        await pods.attach_again(Y["a"])
        async with never(pods, DENIED, Probe(X["a"], Y["a"], socket.AF_INET, "tcp", 80)):
            await asyncio.sleep(20 * INTERVAL)
    finally:
        cluster.start("policy")
    await site.apply_at_last("")
    assert await pods.reaches(DENIED, 20)
    wrong = await pods.check(everything, ("tcp",))
    assert not wrong
