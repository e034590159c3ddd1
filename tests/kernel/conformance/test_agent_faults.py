"""Agents that hang, that are cut off and that lose what they knew, while policies change.

`FROM_B` lets one pod speak to x/a, `NOBODY` none. A change counts as acknowledged when the policy
service says that the nodes have applied it; from then on nothing may pass that it denies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from romana.agent.v1 import agent_service_pb2 as api

from lab.agents import socket_path
from lab.namespaces import call, run
from lab.spec import CONTROL_ADDRESS
from services.agent.rules.spool import FILE
from services.common.errors import Unavailable
from tests.kernel.conformance.cases import FROM_B, X, Y, policy
from tests.kernel.conformance.driver import Refused
from tests.kernel.conformance.pods import Pod, Probe
from tests.kernel.conformance.site import Site
from tests.kernel.conformance.watching import INTERVAL, Onlooker, never, onlooker
from tests.support.fault_table import Record
from tests.support.ipam_process import poll

SECONDS = float(os.environ.get("ROMANA_FAULT_SECONDS", "0"))
"""After which no fault is made again."""

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(int(SECONDS) + 300),
]

RECOVERY = 60.0
"""Seconds within which a node has what it missed, on a busy machine too."""
Z = {name: Pod("z", name) for name in ("a", "b", "c")}
DENIED = Probe(Y["a"], X["a"], socket.AF_INET, "udp", 80)
ALSO_DENIED = Probe(Z["c"], X["a"], socket.AF_INET6, "tcp", 80)
FROM_B_TO_A = Probe(X["b"], X["a"], socket.AF_INET, "tcp", 80)
NOBODY = policy("b", "{podSelector: {matchLabels: {pod: a}}, ingress: []}")


@contextlib.asynccontextmanager
async def fault(kind: str, site: Site, record: Record) -> AsyncIterator[Onlooker]:
    """What is denied throughout is tried, and two pods that no policy concerns talk."""
    await site.apply_at_last(FROM_B)
    async with (
        onlooker(kind, site.pods, Z["b"], Z["a"], record) as seen,
        never(site.pods, DENIED, ALSO_DENIED, seen=seen),
    ):
        yield seen


async def applied(site: Site, documents: str, seen: Onlooker) -> None:
    """Acknowledged by all nodes; what it denies, and what it allows, is so."""
    await site.apply_at_last(documents)
    await site.driver.realized([*site.pods.nodes], RECOVERY)
    seen.acknowledged += 1
    await in_force(site, documents, seen)


async def in_force(site: Site, documents: str, seen: Onlooker) -> None:
    if documents == FROM_B:
        assert await site.pods.reaches(FROM_B_TO_A, 20)
        return
    async with never(site.pods, FROM_B_TO_A, seen=seen):
        await asyncio.sleep(20 * INTERVAL)


async def changed_without(site: Site, node: str, documents: str, seen: Onlooker) -> None:
    """All nodes but one apply a change, and it is not said that that one has."""
    others = [one for one in site.pods.nodes if one != node]
    await site.submit(documents)
    await site.driver.realized(others, RECOVERY)
    with pytest.raises(Refused, match="have not applied"):
        await site.driver.realized([node], 20 * INTERVAL)


@contextlib.contextmanager
def hanging(site: Site, node: str) -> Iterator[None]:
    """A node's agent stands still meanwhile."""
    program = site.pods.cluster.program(node)
    pid = site.pods.cluster.processes.pid(program.name, program.host)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was killed
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def black_hole(site: Site, node: str) -> Iterator[None]:
    """No packet passes between a node and the services meanwhile, and nobody is told."""
    rules = "".join(
        f"add chain inet fault {hook} {{ type filter hook {hook} priority -300; }}\n"
        f"add rule inet fault {hook} ip {end} {CONTROL_ADDRESS} drop\n"
        for hook, end in (("input", "saddr"), ("output", "daddr"))
    )
    path = site.pods.cluster.path(node)
    call(path, lambda: run(["nft", "-f", "-"], stdin=f"add table inet fault\n{rules}"))
    try:
        yield
    finally:
        call(path, lambda: run(["nft", "delete", "table", "inet", "fault"]))


def again() -> Iterator[None]:
    """Once, and until it is time."""
    end = time.monotonic() + SECONDS
    yield
    while time.monotonic() < end:
        yield


async def test_nothing_is_acknowledged_for_an_agent_that_hangs(
    site: Site, record_property: Record
) -> None:
    node = site.pods.node_of(X["a"])
    for _ in again():
        async with fault("agent stopped while policies change", site, record_property) as seen:
            for documents in (NOBODY, FROM_B):
                with hanging(site, node):
                    await changed_without(site, node, documents, seen)
                await applied(site, documents, seen)


async def test_an_agent_that_hung_and_was_killed_applies_what_it_missed(
    site: Site, record_property: Record
) -> None:
    node = site.pods.node_of(X["a"])
    for _ in again():
        async with fault("agent stopped, then killed", site, record_property) as seen:
            for documents in (NOBODY, FROM_B):
                with hanging(site, node):
                    await changed_without(site, node, documents, seen)
                    site.pods.cluster.kill(node)
                    site.pods.cluster.start(node)
                await applied(site, documents, seen)


async def test_an_agent_that_is_cut_off_goes_on_with_what_it_has(
    site: Site, record_property: Record
) -> None:
    node = site.pods.node_of(X["a"])
    agent = site.pods.cluster.agent(node)

    async def knows() -> bool:
        status = await agent.status()
        return not status.connected and not status.policy.connected

    for _ in again():
        kind = "black hole between agent and services"
        async with fault(kind, site, record_property) as seen:
            with black_hole(site, node):
                await changed_without(site, node, NOBODY, seen)
                await poll(knows, RECOVERY, what="the agent to know that it is cut off")
            await applied(site, NOBODY, seen)
            with black_hole(site, node):
                await changed_without(site, node, FROM_B, seen)
            await applied(site, FROM_B, seen)


async def status_of(site: Site, node: str) -> api.GetStatusResponse:
    """As soon as it answers."""
    found: list[api.GetStatusResponse] = []

    async def answered() -> bool:
        with contextlib.suppress(Unavailable):
            found[:] = [await site.pods.cluster.agent(node).status()]
        return bool(found)

    await poll(answered, RECOVERY, what=f"the agent of {node} to answer")
    return found[0]


@pytest.mark.parametrize("content", [None, b"", b'{"format":2}\nof a later version'])
async def test_an_agent_that_lost_its_rules_beside_a_standing_table_opens_nothing(
    site: Site, record_property: Record, content: bytes | None
) -> None:
    cluster = site.pods.cluster
    node = site.pods.node_of(X["a"])
    file = socket_path(cluster.folder, node).parent / FILE
    for _ in again():
        async with fault("rules.bin lost, table stands", site, record_property) as seen:
            for away in ("policy", ""):
                await site.kept(node)
                cluster.kill(node)
                file.unlink()
                if content is not None:
                    file.write_bytes(content)
                if away:
                    cluster.kill(away)
                cluster.start(node)
                try:
                    status = await status_of(site, node)
                    assert not away or not status.ready, status
                    await in_force(site, FROM_B, seen)
                finally:
                    cluster.start("policy")
                await cluster.agent(node).ready(RECOVERY)
                await applied(site, NOBODY, seen)
                await applied(site, FROM_B, seen)
