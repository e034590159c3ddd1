"""Durable addresses per second by stream and by batch, beside what etcd alone takes.

One client process, all of whose requests are made before the clock starts. `dense`: a message is
for one node. `scattered`: each address is for another node than the one before, so that a
transaction holds few addresses per document; then eight rounds over all nodes fill one block each.

The baseline is etcd written to without ipam by the generator in `h2`: transactions of 127
documents like those of ipam, with eight addresses each, eight transactions at a time. Rounds
alternate. The ratio is addresses of ipam to documents of etcd alone. The server's processor time is
per address, and what to look at where other things keep the machine busy.
"""

from __future__ import annotations

from typing import Any

from romana.ipam.v1 import ipam_service_pb2 as pb

from tests.bench import h2
from tests.bench.report import Row, rate
from tests.bench.world import (
    ALLOCATE_MANY,
    ETCD_TXN,
    Site,
    batch_messages,
    check,
    dense,
    median,
    names,
    processor_seconds,
    raw_transactions,
    running,
    scattered,
    stream,
    stream_messages,
    world,
)

TITLE = "stream and batch"
AIM = 50_000


async def measure(*, quick: bool) -> list[Row]:
    rounds, count, transactions = (1, 2_000, 4) if quick else (5, 40_000, 100)
    site = Site(nodes=64)
    kinds = {
        "stream, 256 a message, dense": (dense, 256),
        "stream, 1000 a message, dense": (dense, 1000),
        "stream, 256 a message, scattered": (scattered, 256),
        "stream, 1000 a message, scattered": (scattered, 1000),
        "batch of 1000, 1 caller": (dense, 1000),
        "batch of 1000, 4 callers": (dense, 1000),
    }
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    computing: dict[str, list[float]] = {kind: [] for kind in kinds}
    raw: list[float] = []
    start = 0
    async with world() as there, running(await there.replica(site, "/romana", "ipam")) as replica:
        for _ in range(rounds):
            done = h2.load(there.etcd.endpoint, ETCD_TXN, raw_transactions(transactions), callers=8)
            raw.append(done.rate * 127)
            for kind, (arrange, size) in kinds.items():
                batches = arrange(site, names(count, start), size)
                start += count
                before = processor_seconds(replica)
                if kind.startswith("stream"):
                    done = await stream(replica.address, stream_messages(batches), 8)
                    parse: Any = pb.AllocateStreamResponse.FromString
                else:
                    callers = 4 if "4" in kind else 1
                    requests = batch_messages(batches)
                    done = h2.load(replica.address, ALLOCATE_MANY, requests, callers=callers)
                    parse = pb.AllocateAddressesResponse.FromString
                assert check(map(parse, done.answers)) == count
                computing[kind].append((processor_seconds(replica) - before) / count * 1e6)
                rates[kind].append(count / done.seconds)
    alone = median(raw)
    return [
        Row(
            kind,
            f"{rate(median(found), 'addresses')}, {median(computing[kind]):.1f} us of the server",
            f"etcd alone: {rate(alone, 'documents')}",
            median(found) / alone,
            f">= {AIM:,}/s",
            median(found) >= AIM,
        )
        for kind, found in rates.items()
    ]
