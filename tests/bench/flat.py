"""What an allocation costs with 300,000 addresses in use, and with 1,000.

Two services with the same topology, on one etcd. Rounds alternate between them: 1,000 addresses are
allocated, eight on each of 125 nodes, which takes a new block per node in both, and released again.
The processor time is the server's own. In memory: `allocate`, what a transaction writes, and
`saved`, without any service.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.etcd.keys import Keys
from services.common.model.names import EndpointName, NodeName, Segment, Tenant
from services.ipam.deciding.commands import Allocate, Release, Terms
from services.ipam.deciding.execute import execute
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import Owner
from services.ipam.store import codec
from tests.bench import h2
from tests.bench.report import Row
from tests.bench.world import (
    ALLOCATE,
    ALLOCATE_MANY,
    RELEASE_MANY,
    Site,
    batch_messages,
    check,
    dense,
    fill,
    median,
    names,
    processor_seconds,
    release_messages,
    running,
    spec,
    world,
)
from tests.support.ipam_process import IpamProcess

TITLE = "flat: many addresses against few"
AIM = 1.2
PER_NODE = 8
AHEAD = 10_000_000
"""Numbers of the names that come and go."""


@dataclass(slots=True)
class Side:
    """One of the two services."""

    replica: IpamProcess
    wall: dict[str, list[float]] = field(default_factory=dict)
    computing: dict[str, list[float]] = field(default_factory=dict)

    def timed(self, what: str, count: int, work: Callable[[], h2.Load]) -> h2.Load:
        """Microseconds per address."""
        before = processor_seconds(self.replica)
        done = work()
        spent = processor_seconds(self.replica) - before
        self.wall.setdefault(what, []).append(done.seconds / count * 1e6)
        self.computing.setdefault(what, []).append(spent / count * 1e6)
        return done


TERMS = Terms(0, 0, 100)


async def measure(*, quick: bool) -> list[Row]:
    few, many, rounds = (80, 2_400, 2) if quick else (1_000, 300_000, 12)
    site = Site(nodes=300 if many >= 300_000 else 30)
    moving = names(few, AHEAD)
    specs = [
        spec(name, site.names[number // PER_NODE % site.nodes])
        for number, name in enumerate(moving)
    ]
    async with world() as there, contextlib.AsyncExitStack() as stack:
        sides = {}
        for name, count in (("few", few), ("many", many)):
            replica = await there.replica(site, f"/{name}", name)
            await stack.enter_async_context(running(replica))
            each = PER_NODE if count == few else count // site.nodes
            await fill(replica.address, dense(site, names(count), each))
            sides[name] = Side(replica)
        for at in range(rounds + 1):
            for name in sorted(sides, reverse=bool(at % 2)):
                service_round(sides[name], specs, moving)
            if not at:  # the first round warms up
                for side in sides.values():
                    side.wall.clear()
                    side.computing.clear()
    rows = []
    for what in sides["few"].wall:
        for kind, unit in (("wall", "us"), ("computing", "us of the server")):
            # the kernel counts processor time in ticks of 10 ms: too coarse for a median
            middle = median if kind == "wall" else mean
            low, high = (middle(getattr(sides[name], kind)[what]) for name in ("few", "many"))
            judged = kind == "computing" or "release" not in what
            rows.append(row(f"{what}", low, high, few, many, unit, judged=judged))
    low, high = in_memory(site, specs, few, many, rounds)
    rows.append(row("in memory, transactions of 100", low, high, few, many, "us", judged=True))
    return rows


def row(what: str, low: float, high: float, few: int, many: int, unit: str, *, judged: bool) -> Row:
    ratio = high / low if low else None
    return Row(
        f"{what}, {many:,} in use",
        f"{high:.1f} {unit}",
        f"{few:,} in use: {low:.1f} {unit}",
        ratio,
        f"<= {AIM}" if judged else "-",
        ratio <= AIM if judged and ratio is not None else None,
    )


def service_round(side: Side, specs: Sequence[AllocationSpec], moving: Sequence[str]) -> None:
    address = side.replica.address
    unary = [pb.AllocateAddressRequest(spec=item).SerializeToString() for item in specs]
    done = side.timed(
        "unary, 64 callers", len(specs), lambda: h2.load(address, ALLOCATE, unary, callers=64)
    )
    given = [pb.AllocateAddressResponse.FromString(answer) for answer in done.answers]
    assert len({item.allocations[0].address for item in given}) == len(specs)
    release = release_messages(moving, 100)
    h2.load(address, RELEASE_MANY, release, callers=1)

    batches = batch_messages([specs[at : at + 100] for at in range(0, len(specs), 100)])
    done = side.timed(
        "batch of 100", len(specs), lambda: h2.load(address, ALLOCATE_MANY, batches, callers=1)
    )
    assert check(map(pb.AllocateAddressesResponse.FromString, done.answers)) == len(specs)
    side.timed(
        "release, batch of 100",
        len(specs),
        lambda: h2.load(address, RELEASE_MANY, release, callers=1),
    )


def in_memory(
    site: Site, specs: Sequence[AllocationSpec], few: int, many: int, rounds: int
) -> tuple[float, float]:
    """Microseconds per address, with few and with many."""
    ledgers = {count: filled(site, count) for count in (few, many)}
    spent: dict[int, list[float]] = {count: [] for count in ledgers}
    commands = [allocate(item.name, item.node) for item in specs]
    for at in range(5 * rounds):
        for count in sorted(ledgers, reverse=bool(at % 2)):
            ledger = ledgers[count]
            begin = time.perf_counter()
            for start in range(0, len(commands), 100):
                for command in commands[start : start + 100]:
                    execute(ledger, command, TERMS)
                codec.operations(Keys(), ledger.pending(), b"1")
                ledger.saved(1)
            spent[count].append((time.perf_counter() - begin) / len(commands) * 1e6)
            for command in commands:
                execute(ledger, Release(command.name), TERMS)
            ledger.saved(1)
    return median(spent[few]), median(spent[many])


def filled(site: Site, count: int) -> Ledger:
    ledger = Ledger()
    ledger.set_layout(site.layout())
    for node in site.node_list():
        ledger.set_node(node)
    each = PER_NODE if count < PER_NODE * site.nodes else count // site.nodes
    for number, name in enumerate(names(count)):
        execute(ledger, allocate(name, site.names[number // each]), TERMS)
        ledger.saved(1)
    return ledger


def allocate(name: str, node: str) -> Allocate:
    owner = Owner(NodeName(node), Tenant("default"), Segment("web"))
    return Allocate(EndpointName(name), owner)
