"""What changes of nodes, gateways and reservations cost an ipam replica with 5,000 nodes.

In memory: what transactions of topology (100 nodes each) hand to the state and to the routes that
agents follow. Four VLANs, a block of each on every node, the nodes' addresses in the same networks.
A step is what one transaction keeps the event loop from all else; the times are of this thread's
processor time. The baseline of the changes is to read the same nodes at a start.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from types import SimpleNamespace
from typing import Any, cast

from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.etcd.keys import Keys
from services.common.etcd.types import Changes, Event, KeyValue, Snapshot
from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import (
    EndpointName,
    GroupPath,
    NetworkName,
    NodeName,
    Segment,
    Tenant,
    TopologyName,
)
from services.common.model.network import Mode, Network
from services.common.model.node import Attachment, Node
from services.common.process.gc_tuning import tune
from services.common.process.turns import SECONDS, Turns
from services.common.records.layout import encode_layout, encode_node
from services.common.sync.source import Source
from services.ipam.api.evaluating import evaluate
from services.ipam.api.route_messages import ENCODING
from services.ipam.deciding.commands import Allocate, Terms
from services.ipam.deciding.evaluate import NOT_KNOWN
from services.ipam.deciding.execute import execute
from services.ipam.ledger.areas import Interval
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import AddressSpec, Owner
from services.ipam.routes.source import RouteSource
from services.ipam.routes.view import RoutesView
from services.ipam.store.replica import Replica
from services.ipam.store.topology_feed import TopologyFeed
from tests.bench.report import Row
from tests.bench.world import median

TITLE = "changes of many nodes"
MANY, FEW = 5_000, 50
AT_ONCE = 100
"""Nodes in one transaction of topology."""
STEP_AIM = 0.05
CPU_AIM = 1.0
FLAT_AIM = 3.0
VLANS = {"test": 20, "qa": 30, "production": 40, "admin": 50}
TOPOLOGY = TopologyName("dc")
GROUP = GroupPath("dc/all")


def networks() -> list[Network]:
    return [
        Network(
            NetworkName(name),
            cidr,
            29,
            mode=Mode.ONLINK,
            gateway=cidr.network_address + 1,
            reuse_delay=0.0,
        )
        for name, vlan in VLANS.items()
        for cidr in (_cidr(vlan),)
    ]


def layout(made: Sequence[Network]) -> Layout:
    group = Group(GROUP, "all", prefixes={item.name: item.cidr for item in made})
    return Layout(tuple(made), (Topology(TOPOLOGY, tuple(item.name for item in made), (group,)),))


def node(number: int) -> Node:
    return Node(
        NodeName(f"n{number:05d}"),
        IPv4Address("192.168.0.1") + number,
        attachments=tuple(
            Attachment(NetworkName(name), address=_cidr(vlan).network_address + 50_000 + number)
            for name, vlan in VLANS.items()
        ),
        placements={TOPOLOGY: GROUP},
    )


@dataclass
class World:
    """A replica's memory with so many nodes."""

    count: int
    keys: Keys = field(default_factory=Keys)
    ledger: Ledger = field(default_factory=Ledger)
    revision: int = 1

    def __post_init__(self) -> None:
        self.feed = TopologyFeed(self.keys)
        self.view = RoutesView()
        self.source = Source("epoch")
        self.routes = RouteSource(self.source, self.view, ENCODING)
        self.nodes = [node(number) for number in range(self.count)]

    def read(self) -> None:
        """All that a start reads of topology."""
        items = [KeyValue(self.keys.layout, encode_layout(layout(networks())), 1, 1)]
        items += [self._item(item) for item in self.nodes]
        self.feed.push(Snapshot(items, 1))
        self.feed.catch_up(self.ledger)

    def fill(self) -> None:
        for item in self.nodes:
            for name in VLANS:
                command = Allocate(
                    EndpointName(f"{item.name}/{name}"),
                    Owner(item.name, Tenant("t"), Segment("")),
                    (AddressSpec(NetworkName(name)),),
                )
                execute(self.ledger, command, Terms(0, 0, 100))
            self.ledger.saved(2)
        self.follow()

    def change(self, nodes: Sequence[Node]) -> None:
        """A transaction of topology."""
        self.revision += 1
        events = [Event(item.key, item, self.revision) for item in map(self._item, nodes)]
        self.feed.push(Changes(events, self.revision))
        self.feed.catch_up(self.ledger)
        self.follow()

    def lay_out(self, made: Layout) -> None:
        self.revision += 1
        item = KeyValue(self.keys.layout, encode_layout(made), 1, self.revision)
        self.feed.push(Changes([Event(item.key, item, self.revision)], self.revision))
        self.feed.catch_up(self.ledger)
        self.follow()

    def reserve(self) -> None:
        """Makes a reservation in each network, and ends it."""
        for network in networks():
            first = int(network.cidr.network_address) + 40_000
            interval = Interval(first, first + 100)
            self.ledger.set_reservation(Reservation("r", network.name, (interval,), ("",)))
            self.follow()
            self.ledger.drop_reservation("r")
            self.follow()

    def follow(self) -> None:
        """What agents are told."""
        self.view.changed(self.ledger.drain_moved())
        self.routes.update(self.ledger, self.feed.drain_touched(), ())
        self.source.flush(self.revision, 0.0)

    def _item(self, item: Node) -> KeyValue:
        return KeyValue(self.keys.node(item.name), encode_node(item), self.revision, self.revision)


def changes(world: World) -> Iterator[Callable[[], None]]:
    """All nodes lose an attachment and its address, and get it back."""
    without = [replace(item, attachments=item.declared[:3]) for item in world.nodes]
    for nodes in (without, world.nodes):
        for first in range(0, len(nodes), AT_ONCE):
            part = nodes[first : first + AT_ONCE]
            yield lambda part=part: world.change(part)  # type: ignore[misc]


def cost(work: Callable[[], None]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def moved_gateways() -> Layout:
    return layout([replace(item, gateway=item.cidr.network_address + 9) for item in networks()])


async def longest_wait(world: World, requests: int) -> float:
    """How long the event loop is kept from all else while all nodes are evaluated so often at once,
    in processor time."""

    async def committed() -> Ledger:
        return world.ledger

    replica = cast("Replica", SimpleNamespace(committed=committed, now=lambda: 10**12))
    turns = Turns()
    request = pb.EvaluateNodesRequest(tenant="t")
    works = [
        asyncio.create_task(evaluate(replica, turns, request, NOT_KNOWN)) for _ in range(requests)
    ]
    longest, begin = 0.0, time.thread_time()
    while not all(work.done() for work in works):
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, begin = max(longest, now - begin), now
    for work in works:
        work.result()
    return longest


async def measure(*, quick: bool) -> list[Row]:
    many, rounds = (200, 1) if quick else (MANY, 5)
    thresholds: Any = gc.get_threshold()
    tune()  # as the service does
    try:
        worlds = {count: World(count) for count in (FEW, many)}
        read = {count: cost(world.read) for count, world in worlds.items()}
        for world in worlds.values():
            world.fill()
        gc.collect()
        gc.freeze()
        large = worlds[many]
        steps = [cost(step) for step in changes(large)]
        flat: dict[int, list[float]] = {FEW: [], many: []}
        gateways: dict[int, list[float]] = {FEW: [], many: []}
        for _ in range(rounds):
            for count, world in worlds.items():
                flat[count].append(cost(world.reserve))
                gateways[count].append(
                    cost(lambda world=world: world.lay_out(moved_gateways()))  # type: ignore[misc]
                )
                world.lay_out(layout(networks()))
        waited = await longest_wait(large, 1 if quick else 20)
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
    total = sum(steps) / 2
    rows = [
        Row(
            f"change addresses of {many:,} nodes",
            f"{total:.2f} s CPU",
            f"reading them at a start: {read[many]:.2f} s",
            total / read[many],
            f"<= {CPU_AIM:.0f} s",
            total <= CPU_AIM,
        ),
        Row(
            f"longest step of that ({AT_ONCE} nodes)",
            f"{max(steps) * 1000:.0f} ms CPU",
            f"all of it: {total:.2f} s",
            max(steps) / total,
            f"<= {STEP_AIM * 1000:.0f} ms",
            max(steps) <= STEP_AIM,
        ),
    ]
    for what, spent in (("reservations", flat), ("gateways", gateways)):
        few, found = median(spent[FEW]), median(spent[many])
        rows.append(
            Row(
                f"change {what} beside {many:,} nodes",
                f"{found * 1000:.2f} ms CPU",
                f"beside {FEW}: {few * 1000:.2f} ms",
                found / few,
                f"<= {FLAT_AIM}",
                found / few <= FLAT_AIM,
            )
        )
    rows.append(
        Row(
            f"longest step while {many:,} nodes are evaluated, 20 times at once",
            f"{waited * 1000:.1f} ms CPU",
            f"a piece: {SECONDS * 1000:.0f} ms",
            waited / SECONDS,
            f"<= {STEP_AIM * 1000:.0f} ms",
            waited <= STEP_AIM,
        )
    )
    return rows


def _cidr(vlan: int) -> IPv4Network:
    return IPv4Network((10 << 24 | vlan << 16, 16))
