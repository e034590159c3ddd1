"""Routes per node by placement strategy; `python -m tests.bench.aggregate` prints all cases.

Endpoints come to the nodes of one prefix group, in blocks of 8 addresses per node and owner, as
ipam gives them out: the lowest free address of the oldest block with room, else a new block; an
empty block goes back. Unless a case says otherwise: 64 nodes with 110 endpoints each.

    full       of the slots are held
    blocks     per node: the routes it would take without aggregation
    routes     that lead to a node, mean and max
    ratio      of all routes to those with `sequential` placement, the baseline, in the same run
    waste      of the addresses in blocks are not in use
    gaps       runs of free slots; the longest one's share of the free slots
    moved      routes set or removed per block that came or went, with a flush after each: what
               every other node has to apply
    places/s   choose and take, or give back
    flushes/s  set or clear a block, and flush
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from services.ipam.routes.ortc import RouteTable
from services.ipam.slots.aggregate import AggregatePool
from services.ipam.slots.sequential import SequentialPool
from tests.bench.report import Row

BITS = 32
SIZE = 8  # addresses in a block
LENGTH = 29
Event = tuple[str, int, int]
"""Arrive, leave or move; node; owner."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    slots: int
    nodes: int = 64
    endpoints: int = 110
    owners: int = 1
    onlink: bool = False
    """No route may cover the first two addresses and the last: network, gateway, broadcast."""
    events: Callable[[Case, random.Random], Iterator[Event]] = field(kw_only=True)


@dataclass(slots=True)
class Block:
    slot: int
    used: int = 0


class Cluster:
    """The least of ipam that is needed around placement and routes."""

    def __init__(self, pool: AggregatePool | SequentialPool, slots: int) -> None:
        self.pool = pool
        self.table = RouteTable(0, BITS - (slots * SIZE - 1).bit_length(), BITS)
        self.blocks: dict[tuple[int, int], list[Block]] = {}
        self.endpoints: dict[tuple[int, int], list[Block]] = {}
        self.clock = 0
        self.failed = 0
        self.placing = self.flushing = 0.0
        self.changes = self.moved = 0

    def arrive(self, node: int, owner: int) -> None:
        blocks = self.blocks.setdefault((node, owner), [])
        block = next((b for b in blocks if b.used < SIZE), None)
        if block is None:
            begin = time.perf_counter()
            slot = self.pool.choose(name(node))
            if slot is not None:
                self.pool.take(slot, name(node))
            self.placing += time.perf_counter() - begin
            if slot is None:
                self.failed += 1
                return
            block = Block(slot)
            blocks.append(block)
            self.route(slot, name(node))
        block.used += 1
        self.endpoints.setdefault((node, owner), []).append(block)

    def leave(self, node: int, owner: int, pick: float) -> None:
        there = self.endpoints[node, owner]
        block = there.pop(int(pick * len(there)))
        block.used -= 1
        if not block.used:
            self.blocks[node, owner].remove(block)
            self.clock += 1
            begin = time.perf_counter()
            self.pool.give_back(block.slot, name(node), self.clock)
            self.placing += time.perf_counter() - begin
            self.route(block.slot, None)

    def route(self, slot: int, node: str | None) -> None:
        begin = time.perf_counter()
        if node is None:
            self.table.clear(slot * SIZE, LENGTH)
        else:
            self.table.set(slot * SIZE, LENGTH, node)
        changes = self.table.flush()
        self.flushing += time.perf_counter() - begin
        self.changes += 1
        self.moved += len(changes.updated) + len(changes.removed)


def name(node: int) -> str:
    return f"node-{node * 7919 % 1009:04}"  # the order of names is not that of arrival


def shuffled(case: Case, rng: random.Random) -> Iterator[Event]:
    """All endpoints in random order."""
    todo = [node for node in range(case.nodes) for _ in range(case.endpoints)]
    rng.shuffle(todo)
    for node in todo:
        yield "arrive", node, rng.randrange(case.owners)


def joining(case: Case, rng: random.Random) -> Iterator[Event]:
    """Nodes join four at a time, and are filled before the next join."""
    for first in range(0, case.nodes, 4):
        todo = [n for n in range(first, min(first + 4, case.nodes)) for _ in range(case.endpoints)]
        rng.shuffle(todo)
        for node in todo:
            yield "arrive", node, rng.randrange(case.owners)


def churning(case: Case, rng: random.Random) -> Iterator[Event]:
    """Random order up to 70 %; then each leaves and another comes elsewhere, five times over."""
    some = replace(case, endpoints=case.endpoints * 7 // 10)
    yield from shuffled(some, rng)
    for _ in range(5 * case.nodes * some.endpoints):
        yield "move", rng.randrange(case.nodes), rng.randrange(case.owners)


def uneven(case: Case, rng: random.Random) -> Iterator[Event]:
    """Random order, nodes of very different sizes with the same sum."""
    weights = [rng.choice((1, 2, 4, 8)) for _ in range(case.nodes)]
    for node in rng.choices(range(case.nodes), weights, k=case.nodes * case.endpoints):
        yield "arrive", node, rng.randrange(case.owners)


def draining(case: Case, rng: random.Random) -> Iterator[Event]:
    """Random order; then nodes leave for good and new ones join in their place, all in turn."""
    yield from shuffled(case, rng)
    present = deque(range(case.nodes))
    for node in range(case.nodes, 3 * case.nodes):
        yield "leave all", present.popleft(), 0
        for _ in range(case.endpoints):
            yield "arrive", node, rng.randrange(case.owners)
        present.append(node)


def run(case: Case, make: type[AggregatePool | SequentialPool]) -> Cluster:
    rng = random.Random(4)
    cluster = Cluster(make(case.slots), case.slots)
    if case.onlink:
        for address in (0, 1, case.slots * SIZE - 1):
            cluster.table.forbid(address, BITS)
    for what, node, owner in case.events(case, rng):
        if what == "arrive":
            cluster.arrive(node, owner)
        elif what == "leave all":
            for there, its in sorted(cluster.endpoints):
                while there == node and cluster.endpoints[there, its]:
                    cluster.leave(there, its, 0)
        else:
            total = Counter[int]()
            for (there, _), found in cluster.endpoints.items():
                total[there] += len(found)
            leaving = rng.choice(sorted(at for at, found in cluster.endpoints.items() if found))
            cluster.leave(*leaving, rng.random())
            total[leaving[0]] -= 1
            room = node if total[node] < case.endpoints else leaving[0]
            cluster.arrive(room, owner)
    return cluster


def report(case: Case, cluster: Cluster, baseline: Cluster) -> str:
    held: Counter[int] = Counter()
    for (node, _), its in cluster.blocks.items():
        held[node] += len(its)
    present = [node for node, count in held.items() if count]
    routes = [len(cluster.table.prefixes_of(name(node))) for node in present]
    used = sum(len(found) for found in cluster.endpoints.values())
    blocks = sum(held.values())
    gaps = cluster.pool._free
    longest = gaps.longest or (0, 0)
    return (
        f"{case.name:32} {type(cluster.pool).__name__[:-5].lower():10} {blocks / case.slots:4.0%}"
        f"  {blocks / len(present):6.1f} {sum(routes) / len(routes):6.2f} {max(routes):4}"
        f"  {len(cluster.table.routes) / len(baseline.table.routes):5.2f}"
        f"  {1 - used / (blocks * SIZE):5.0%} {len(gaps):5}"
        f" {(longest[1] - longest[0]) / (gaps.count or 1):7.0%}"
        f"  {cluster.moved / cluster.changes:5.2f}"
        f"  {cluster.changes / cluster.placing:9,.0f} {cluster.changes / cluster.flushing:9,.0f}"
        + (f"  {cluster.failed} found no slot" if cluster.failed else "")
    )


CASES = [
    Case("random order, 1024 slots", 1024, events=shuffled),
    Case("random order, 2048 slots", 2048, events=shuffled),
    Case("random order, 8192 slots", 8192, events=shuffled),
    Case("joining, 1024 slots", 1024, events=joining),
    Case("joining, 2048 slots", 2048, events=joining),
    Case("churn, 1024 slots", 1024, events=churning),
    Case("churn, 2048 slots", 2048, events=churning),
    Case("4 owners, 2048 slots", 2048, owners=4, events=shuffled),
    Case("4 owners and churn, 2048 slots", 2048, owners=4, events=churning),
    Case("uneven nodes, 1024 slots", 1024, events=uneven),
    Case("uneven nodes, 2048 slots", 2048, events=uneven),
    Case("uneven nodes, 8192 slots", 8192, events=uneven),
    Case("nodes replaced, 1024 slots", 1024, events=draining),
    Case("nodes replaced, 2048 slots", 2048, events=draining),
    Case("onlink, 2048 slots", 2048, onlink=True, events=shuffled),
    Case("100 nodes, 2048 slots", 2048, nodes=100, events=shuffled),
    Case("72 nodes, 1024 slots (crowded)", 1024, nodes=72, events=shuffled),
    Case("250 nodes of 30, 1024 slots", 1024, nodes=250, endpoints=30, events=shuffled),
    Case("1000 nodes, 16384 slots", 16384, nodes=1000, events=shuffled),
]


TITLE = "routes per node, by placement"
SUMMARY = (
    "random order, 1024 slots",
    "random order, 2048 slots",
    "churn, 2048 slots",
    "4 owners and churn, 2048 slots",
    "nodes replaced, 2048 slots",
)
"""Cases that `python -m tests.bench` shows."""


async def measure(*, quick: bool) -> list[Row]:
    """Without an aim: few routes are the aim, and `ratio` says how few."""
    rows = []
    for case in CASES:
        if case.name in SUMMARY[:1] or (case.name in SUMMARY and not quick):
            mean = {make: routes_per_node(run(case, make)) for make in STRATEGIES}
            low, high = mean[AggregatePool], mean[SequentialPool]
            rows.append(
                Row(
                    case.name,
                    f"aggregate: {low:.2f} routes",
                    f"sequential: {high:.2f} routes",
                    low / high,
                    "< 1",
                    low < high,
                )
            )
    return rows


def routes_per_node(cluster: Cluster) -> float:
    nodes = {node for (node, _), blocks in cluster.blocks.items() if blocks}
    return len(cluster.table.routes) / len(nodes)


STRATEGIES = (SequentialPool, AggregatePool)


def scale(bits: int, length: int, block_length: int, *, nodes: int, blocks: int) -> str:
    """One group with many blocks: the cost of a start, and of a change."""
    rng = random.Random(4)
    shift = bits - block_length
    pool, table = AggregatePool(1 << block_length - length), RouteTable(0, length, bits)
    begin = time.perf_counter()
    for number in range(blocks):
        node = name(number % nodes)
        slot = pool.choose(node)
        assert slot is not None
        pool.take(slot, node)
        table.set(slot << shift, block_length, node)
    placed = time.perf_counter()
    table.flush()
    built = time.perf_counter()
    moved, rounds = 0, 2000
    for _ in range(rounds):
        node = name(rng.randrange(nodes))
        slot = pool.choose(node)
        assert slot is not None
        pool.take(slot, node)
        table.set(slot << shift, block_length, node)
        changes = table.flush()
        moved += len(changes.updated) + len(changes.removed)
    done = time.perf_counter()
    return (
        f"IPv{4 if bits == 32 else 6}, {nodes:,} nodes, {blocks:,} blocks of /{block_length}:"
        f" {len(table.routes):,} routes; placed {(placed - begin) / blocks * 1e6:.0f} us/block,"
        f" routes {(built - placed) / blocks * 1e6:.0f} us/block,"
        f" then {(done - built) / rounds * 1e6:.0f} us and {moved / rounds:.2f} moved per change"
    )


def main() -> None:
    show(
        f"{'case':32} {'strategy':10} {'full':>4}  {'blocks':>6} {'routes':>6} {'max':>4}"
        f"  {'ratio':>5}  {'waste':>5} {'gaps':>5} {'longest':>7}  {'moved':>5}"
        f"  {'places/s':>9} {'flushes/s':>9}"
    )
    for case in CASES:
        baseline = run(case, SequentialPool)
        show(report(case, baseline, baseline))
        show(report(case, run(case, AggregatePool), baseline))
    show(scale(32, 8, 29, nodes=1_000, blocks=10_000))
    show(scale(32, 8, 29, nodes=1_000, blocks=100_000))
    show(scale(128, 48, 122, nodes=1_000, blocks=100_000))


def show(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
