"""What kube-scheduler's extender takes for one pod: filter and prioritize, over HTTP.

5,000 nodes in four racks, 100,000 addresses in use, ipam as a process of its own. The baseline is
the same pods on 50 nodes with 1,000 addresses in use.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import statistics
import time
from collections.abc import Mapping
from typing import Any

from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.model.names import GroupPath, NetworkName, NodeName
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
from services.kubernetes.scheduling.places import Place, Places
from tests.bench.report import Row
from tests.bench.world import Site, dense, fill, names, running, world
from tests.support.topologies import TOPOLOGY

TITLE = "the scheduler's extender"
NODES_MANY, NODES_FEW = 5_000, 50
EACH = 20
"""Addresses in use on a node."""
AIM_MS = 20.0
NETWORK = NetworkName("net")


async def measure(*, quick: bool) -> list[Row]:
    rounds = 20 if quick else 500
    many = 500 if quick else NODES_MANY
    base = await times(NODES_FEW, rounds)
    found = await times(many, rounds)
    rows = []
    for verb in ("filter", "prioritize"):
        p99, p99_base = (statistics.quantiles(one[verb], n=100)[98] for one in (found, base))
        rows.append(
            Row(
                f"{verb}, {many:,} nodes and {many * EACH:,} addresses in use: p99 "
                f"(median {statistics.median(found[verb]):.1f} ms)",
                f"{p99:.1f} ms",
                f"{NODES_FEW} nodes: {p99_base:.1f} ms",
                p99 / p99_base,
                f"< {AIM_MS:.0f} ms",
                p99 < AIM_MS,
            )
        )
    return rows


async def times(count: int, rounds: int) -> Mapping[str, list[float]]:
    """Milliseconds by verb."""
    site = Site(nodes=count)
    async with world() as there:
        replica = await there.replica(site, f"/extender{count}", f"extender{count}")
        async with running(replica):
            await fill(replica.address, dense(site, names(count * EACH), EACH))
            return await ask(site, replica.address, rounds)


async def ask(site: Site, address: str, rounds: int) -> Mapping[str, list[float]]:
    replicas = Replicas(IpamServiceStub, [address], None, insecure=False)
    namespace = Namespace("default", "u", {"romana.io/segment": "web"}, {})
    followed: Any = Followed(
        known(NAMESPACES, {"default": namespace}),
        known(NODES, {}),
        known(PODS, {}),
        known(NETWORK_POLICIES, {}),
        known(CLUSTER_NETWORK_POLICIES, {}),
    )
    places = Places(
        {
            NodeName(node.name): Place({NETWORK: GroupPath(node.placements[TOPOLOGY])})
            for node in site.node_list()
        }
    )
    nobody: Any = None  # nothing is bound here, and there is room
    extender = Extender(
        followed,
        IpamCalls(replicas),
        lambda: places,
        nobody,
        nobody,
        segment_label="romana.io/segment",
    )
    server = HttpServer("extender", extender.routes)
    port = (await server.start("127.0.0.1:0", None)).port
    try:
        return await asyncio.to_thread(drive, port, site.names, rounds)
    finally:
        await server.stop(1)
        await replicas.close()


def known(kind: Any, items: Mapping[str, Any]) -> Informer[Any]:
    """An informer that has heard of these objects."""
    nobody: Any = None
    made: Informer[Any] = Informer(nobody, kind)
    made._items.update(items)
    return made


def drive(port: int, nodes: Any, rounds: int) -> Mapping[str, list[float]]:
    """Asks as kube-scheduler does, one pod after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    found: dict[str, list[float]] = {"filter": [], "prioritize": []}
    for number in range(rounds + 5):
        metadata = {"name": f"p{number}", "namespace": "default", "uid": f"u{number}"}
        pod = {"metadata": metadata, "spec": {"containers": [{"name": "c"}]}}
        body = json.dumps({"Pod": pod, "Nodes": None, "NodeNames": list(nodes)}).encode()
        for verb, taken in found.items():
            begun = time.perf_counter()
            connection.request("POST", f"/{verb}", body)
            answer = connection.getresponse()
            content = answer.read()
            if number >= 5:
                taken.append((time.perf_counter() - begun) * 1000)
            assert answer.status == 200, content
            assert content.count(b"node-") >= len(nodes), content[:300]
    connection.close()
    return found
