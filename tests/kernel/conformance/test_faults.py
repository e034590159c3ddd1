"""Changes of rules, and crashes of the policy service and of agents, while packets fly."""

from __future__ import annotations

import asyncio
import socket

import pytest

from lab.namespaces import call, run
from lab.probe import Outcome
from tests.kernel.conformance.cases import FROM_B, Step, X, Y, everything, policy
from tests.kernel.conformance.pods import Pod, Probe
from tests.kernel.conformance.site import Site
from tests.kernel.conformance.watching import INTERVAL, never, onlooker
from tests.support.fault_table import Record
from tests.support.probing import traffic

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

DENIED = Probe(Y["a"], X["a"], socket.AF_INET, "udp", 80)
ALSO_DENIED = Probe(Pod("z", "c"), X["a"], socket.AF_INET6, "tcp", 80)
ALLOWED = Probe(X["b"], X["a"], socket.AF_INET, "tcp", 80)
ALSO = policy(
    "also", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}"
)
OTHER = policy("other", "{podSelector: {matchLabels: {pod: b}}, ingress: [{}]}", "z")


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


async def test_crashes_open_nothing_and_cut_nothing(site: Site, record_property: Record) -> None:
    pods, cluster = site.pods, site.pods.cluster
    await site.apply(FROM_B)
    for victim in ("policy", "n1", "n2", "policy"):
        kind = "policy killed" if victim == "policy" else "agent killed"
        async with (
            onlooker(kind, pods, X["b"], X["a"], record_property) as seen,
            never(pods, DENIED, ALSO_DENIED, seen=seen),
        ):
            for documents in (FROM_B + OTHER, FROM_B):
                cluster.kill(victim)
                cluster.start(victim)
                await site.apply_at_last(documents)
                seen.acknowledged += 1
    assert await pods.reaches(ALLOWED, 10)


async def test_an_agent_that_starts_without_the_service_has_its_rules_from_disk(
    site: Site,
) -> None:
    pods, cluster = site.pods, site.pods.cluster
    await site.apply(FROM_B)
    node = pods.node_of(X["a"])
    await site.kept(node)
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
