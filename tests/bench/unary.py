"""One durable allocation per call, beside a call that does nothing.

The no-op is grpc.health.v1.Health/Check of the same process. Rounds alternate. All load comes from
the generator in `h2`, since every allocation needs a name of its own and h2load sends the same body
every time; it costs both sides of the ratio the same. Latencies are medians of a single caller: the
baseline is a no-op call plus a put of a like document into etcd by the client and event loop that
ipam has, in a process of its own, which is the least that is durable. Beside it stands the put by
the generator, which shows what grpc.aio as a client costs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable

import uvloop
from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.etcd.client import EtcdClient
from tests.bench import h2
from tests.bench.report import Row, rate
from tests.bench.world import (
    ALLOCATE,
    ETCD_TXN,
    NOOP,
    Site,
    document,
    median,
    names,
    processor_seconds,
    raw_puts,
    running,
    spec,
    world,
)
from tests.support.ipam_process import IpamProcess

TITLE = "one allocation per call"
RATE_AIM = 0.7
LATENCY_AIM = 1.5


async def measure(*, quick: bool) -> list[Row]:
    rounds, many, few = (1, 300, 100) if quick else (12, 4_000, 500)
    site = Site(nodes=64)
    rates: dict[str, list[float]] = {"noop": [], "allocate": []}
    computing: dict[str, list[float]] = {"noop": [], "allocate": []}
    waits: dict[str, list[float]] = {"noop": [], "allocate": [], "put": [], "own": []}
    start = 0

    def bodies(count: int) -> list[bytes]:
        nonlocal start
        start += count
        return [
            pb.AllocateAddressRequest(spec=spec(name, site.names[at % 64])).SerializeToString()
            for at, name in enumerate(names(count, start - count))
        ]

    async with world() as there, running(await there.replica(site, "/romana", "ipam")) as replica:
        calls: dict[str, Callable[[int, int], h2.Load]] = {
            "noop": lambda count, callers: h2.load(
                replica.address, NOOP, [b""] * count, callers=callers
            ),
            "allocate": lambda count, callers: allocate(replica, bodies(count), callers),
            "put": lambda count, callers: h2.load(
                there.etcd.endpoint, ETCD_TXN, raw_puts(count), callers=callers
            ),
        }
        for at in range(rounds + 1):
            for name in sorted(rates, reverse=bool(at % 2)):
                before = processor_seconds(replica)
                done = calls[name](many, 64)
                if at:  # the first round warms up
                    rates[name].append(done.rate)
                    computing[name].append((processor_seconds(replica) - before) / many * 1e6)
            for name in sorted(waits, reverse=bool(at % 2)):
                waits[name].append(
                    own_puts(there.etcd.endpoint, few)
                    if name == "own"
                    else median(calls[name](few, 1).latencies) * 1e3
                )
    ratio = median(pair[0] / pair[1] for pair in zip(rates["allocate"], rates["noop"], strict=True))
    cost = sum(computing["allocate"]) / (sum(computing["noop"]) or 1)
    latency = {name: median(found) for name, found in waits.items()}
    least = latency["noop"] + latency["own"]
    bare = latency["noop"] + latency["put"]
    return [
        Row(
            "64 callers",
            rate(median(rates["allocate"]), "calls"),
            f"no-op: {rate(median(rates['noop']), 'calls')}",
            ratio,
            f">= {RATE_AIM}",
            ratio >= RATE_AIM,
        ),
        Row(
            "64 callers, time of the server",
            f"{sum(computing['allocate']) / rounds:.0f} us a call",
            f"no-op: {sum(computing['noop']) / rounds:.0f} us a call",
            cost,
        ),
        Row(
            "1 caller",
            f"{latency['allocate']:.2f} ms",
            f"no-op {latency['noop']:.2f} + put {latency['own']:.2f} ms",
            latency["allocate"] / least,
            f"<= {LATENCY_AIM}",
            latency["allocate"] / least <= LATENCY_AIM,
        ),
        Row(
            "1 caller, put by the generator",
            f"{latency['allocate']:.2f} ms",
            f"no-op {latency['noop']:.2f} + put {latency['put']:.2f} ms",
            latency["allocate"] / bare,
        ),
    ]


def allocate(replica: IpamProcess, requests: list[bytes], callers: int) -> h2.Load:
    done = h2.load(replica.address, ALLOCATE, requests, callers=callers)
    given = [pb.AllocateAddressResponse.FromString(answer) for answer in done.answers]
    assert not any(item.existed for item in given)
    assert len({item.allocations[0].address for item in given}) == len(requests)
    return done


def own_puts(endpoint: str, count: int) -> float:
    """Median milliseconds of a put by ipam's client, one at a time."""
    command = [sys.executable, "-m", "tests.bench.unary", endpoint, str(count)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


async def puts(endpoint: str, count: int) -> float:
    seconds = []
    async with EtcdClient([endpoint]) as client:
        for at in range(count + 20):
            begin = time.perf_counter()
            await client.transact((), (document(at),))
            seconds.append(time.perf_counter() - begin)
    return median(seconds[20:]) * 1e3  # the first ones connect


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(f"{runner.run(puts(sys.argv[1], int(sys.argv[2])))}\n")
