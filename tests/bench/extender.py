"""What kube-scheduler's extender takes for one pod: filter and prioritize, over HTTP.

5,000 nodes in four racks, 100,000 addresses in use, ipam as a process of its own; each pod gets an
address before the next is asked about. The baseline is the same pods on 50 nodes with 1,000
addresses in use.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.model.names import (
    EndpointName,
    GroupPath,
    NetworkName,
    NodeName,
    Segment,
    Tenant,
)
from services.common.rpc.http_server import HttpServer
from services.common.rpc.replicas import Replicas
from services.kubernetes.api.extender import Extender
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.cluster.informer import Informer
from services.kubernetes.cluster.kinds import (
    CLUSTER_NETWORK_POLICIES,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    PODS,
)
from services.kubernetes.control.followed import Followed
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.scheduling.places import Kinds, Places
from services.kubernetes.wanted.values import WantedEndpoint
from tests.bench.report import Row
from tests.bench.world import Site, dense, fill, names, running, world
from tests.support.topologies import TOPOLOGY

TITLE = "the scheduler's extender"
NODES_MANY, NODES_FEW = 5_000, 50
WARM_UP = 5
EACH = 20
"""Addresses in use on a node."""
AIM_MS = 20.0
NETWORK = NetworkName("net")


@dataclass(frozen=True, slots=True)
class Taken:
    """Milliseconds of each call."""

    passed: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    """Of this process's processor time."""


async def measure(*, quick: bool) -> list[Row]:
    rounds = 20 if quick else 500
    many = 500 if quick else NODES_MANY
    base = await times(NODES_FEW, rounds)
    found = await times(many, rounds)
    rows = []
    for verb in ("filter", "prioritize"):
        p99, p99_base = (statistics.quantiles(one[verb].passed, n=100)[98] for one in (found, base))
        median = statistics.median(found[verb].passed)
        worked = statistics.median(found[verb].worked)
        rows.append(
            Row(
                f"{verb}, {many:,} nodes and {many * EACH:,} addresses in use: p99 "
                f"(median {median:.1f} ms; processor {worked:.1f} ms, the caller's among it)",
                f"{p99:.1f} ms",
                f"{NODES_FEW} nodes: {p99_base:.1f} ms",
                p99 / p99_base,
                f"< {AIM_MS:.0f} ms",
                p99 < AIM_MS,
            )
        )
    return rows


async def times(count: int, rounds: int) -> Mapping[str, Taken]:
    """By verb."""
    site = Site(nodes=count)
    async with world() as there:
        replica = await there.replica(site, f"/extender{count}", f"extender{count}")
        async with running(replica):
            await fill(replica.address, dense(site, names(count * EACH), EACH))
            return await ask(site, replica.address, rounds)


async def ask(site: Site, address: str, rounds: int) -> Mapping[str, Taken]:
    replicas = Replicas(IpamServiceStub, [address], None, insecure=False, program="")
    namespace = Namespace("default", "u", {"romana.io/segment": "web"}, {})
    followed: Any = Followed(
        known(NAMESPACES, {"default": namespace}),
        known(NODES, {}),
        known(PODS, {}),
        known(NETWORK_POLICIES, {}),
        known(CLUSTER_NETWORK_POLICIES, {}),
    )
    kinds = Kinds()
    places = Places(
        {
            NodeName(node.name): kinds.place({NETWORK: GroupPath(node.placements[TOPOLOGY])})
            for node in site.node_list()
        }
    )
    nobody: Any = None  # nothing is bound here, and there is room
    calls = IpamCalls(replicas)
    extender = Extender(
        followed,
        calls,
        lambda: places,
        nobody,
        nobody,
        segment_label="romana.io/segment",
    )
    server = HttpServer("extender", extender.routes)
    port = (await server.start("127.0.0.1:0", None)).port
    loop = asyncio.get_running_loop()
    pods = iter(range(rounds + WARM_UP))

    def place() -> None:
        """Gives a pod its address, as binding does."""
        number = next(pods)
        endpoint = WantedEndpoint(
            EndpointName(f"bound-{number}"), Tenant("default"), Segment("web"), {}, ()
        )
        node = NodeName(site.names[number % site.nodes])
        asyncio.run_coroutine_threadsafe(calls.allocate(endpoint, node), loop).result(30)

    gc.set_threshold(50_000, 50, 100)  # as the service does
    try:
        return await asyncio.to_thread(drive, port, site.names, rounds, place)
    finally:
        await server.stop(1)
        await replicas.close()


def known(kind: Any, items: Mapping[str, Any]) -> Informer[Any]:
    """An informer that has heard of these objects."""
    nobody: Any = None
    made: Informer[Any] = Informer(nobody, kind)
    made._items.update(items)
    return made


def drive(
    port: int, nodes: Sequence[str], rounds: int, place: Callable[[], None]
) -> Mapping[str, Taken]:
    """Asks as kube-scheduler does, one pod after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    found = {"filter": Taken(), "prioritize": Taken()}
    for number in range(rounds + WARM_UP):
        metadata = {"name": f"p{number}", "namespace": "default", "uid": f"u{number}"}
        pod = {"metadata": metadata, "spec": {"containers": [{"name": "c"}]}}
        body = json.dumps({"Pod": pod, "Nodes": None, "NodeNames": list(nodes)}).encode()
        for verb, taken in found.items():
            begun, worked = time.perf_counter(), time.process_time()
            connection.request("POST", f"/{verb}", body)
            answer = connection.getresponse()
            content = answer.read()
            if number >= WARM_UP:
                taken.passed.append((time.perf_counter() - begun) * 1000)
                taken.worked.append((time.process_time() - worked) * 1000)
            assert answer.status == 200, content
            assert content.count(b"node-") >= len(nodes), content[:300]
        place()
    connection.close()
    return found
