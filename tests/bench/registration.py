"""Registering nodes where there are 5,000 in 1,000 groups; the baseline is where there are 50.

What a replica computes for one registration, in CPU time of its process: checks, placement, the
transaction, what the watch brings back. etcd and the network are not in it. Once with a label set
for each group (racks), where a node fits one of them, and once without labels, where it fits all.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Network

from prometheus_client import CollectorRegistry

from services.common.audit.writer import AuditWriter
from services.common.document.tree import from_json
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.types import Operation, Put
from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName, NodeName, TopologyName
from services.common.model.network import Network
from services.common.model.node import Node
from services.common.process.logs import configure_logs
from services.common.records.layout import encode_layout, encode_node
from services.topology.api.audited import TEXTS
from services.topology.forms.node_request import NodeRequest
from services.topology.metrics import TopologyMetrics
from services.topology.store.nodes import NodeChanges, RegisterOptions
from services.topology.store.store import TopologyStore
from tests.bench.report import Row
from tests.bench.world import median, world

TITLE = "registering nodes"
GROUPS = 1_000
MANY, FEW = 5_000, 50
RATIO_AIM = 1.5
FIRST = IPv4Address("192.168.0.1")
NETWORK = NetworkName("net")
TOPOLOGY = TopologyName("dc")
PUTS = 100


def layout(groups: int, *, labelled: bool) -> Layout:
    prefixes = IPv4Network("10.0.0.0/8").subnets(new_prefix=18)
    leaves = tuple(
        Group(
            path(rack),
            f"rack-{rack}",
            {"rack": str(rack)} if labelled else {},
            slot=rack,
            prefixes={NETWORK: prefix},
        )
        for rack, prefix in zip(range(groups), prefixes, strict=False)
    )
    network = Network(NETWORK, IPv4Network("10.0.0.0/8"), 29)
    return Layout((network,), (Topology(TOPOLOGY, (NETWORK,), leaves, 1024),))


def path(rack: int) -> GroupPath:
    return GroupPath(f"{TOPOLOGY}/rack-{rack}")


def nodes(count: int, groups: int) -> list[Node]:
    return [
        Node(
            NodeName(f"node-{number}"),
            FIRST + number,
            labels={"rack": str(number % groups)},
            placements={TOPOLOGY: path(number % groups)},
        )
        for number in range(count)
    ]


async def seed(client: EtcdClient, keys: Keys, made: Layout, there: list[Node]) -> None:
    puts: list[Operation] = [Put(keys.layout, encode_layout(made))]
    puts += [Put(keys.node(node.name), encode_node(node)) for node in there]
    for start in range(0, len(puts), PUTS):
        mark = Put(keys.generation, str(start).encode())
        await client.transact((), [mark, *puts[start : start + PUTS]])


@contextlib.asynccontextmanager
async def replica(client: EtcdClient, keys: Keys) -> AsyncIterator[NodeChanges]:
    metrics = TopologyMetrics(CollectorRegistry())
    store = TopologyStore(client, keys, metrics, AuditWriter(keys, "topology", TEXTS))
    following = asyncio.create_task(store.run())
    try:
        await store.wait_in_sync()
        yield NodeChanges(store, metrics)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def cost(changes: NodeChanges, first: int, number: int, groups: int) -> float:
    """CPU seconds of a registration, with nodes `first` and the following."""
    begin = time.process_time()
    for at in range(first, first + number):
        name, labels = f"node-{at}", {"rack": str(at * 7 % groups)}
        tree = from_json({"name": name, "address": str(FIRST + at), "labels": labels})
        await changes.register(NodeRequest(NodeName(name), tree), RegisterOptions())
    return (time.process_time() - begin) / number


async def measure(*, quick: bool) -> list[Row]:
    many, groups, number, rounds = (200, 50, 3, 1) if quick else (MANY, GROUPS, 10, 9)
    configure_logs("bench", level="warning", format="console")
    rows = []
    async with world() as there:
        for labelled, what in ((True, "a label set each"), (False, "no labels")):
            made = layout(groups, labelled=labelled)
            spent: dict[int, list[float]] = {FEW: [], many: []}
            for count in spent:
                keys = Keys(f"/registration-{labelled}-{count}".lower())
                await seed(there.client, keys, made, nodes(count, groups))
            async with (
                replica(there.client, Keys(f"/registration-{labelled}-{FEW}".lower())) as small,
                replica(there.client, Keys(f"/registration-{labelled}-{many}".lower())) as large,
            ):
                for turn in range(rounds):
                    for count, changes in ((FEW, small), (many, large)):
                        first = MANY * 2 + turn * number
                        spent[count].append(await cost(changes, first, number, groups))
            base, found = median(spent[FEW]), median(spent[many])
            rows.append(
                Row(
                    f"register at {many:,} nodes, {groups:,} groups, {what}",
                    f"{found * 1000:.2f} ms CPU",
                    f"at {FEW}: {base * 1000:.2f} ms",
                    found / base,
                    f"<= {RATIO_AIM}",
                    found / base <= RATIO_AIM,
                )
            )
    return rows
