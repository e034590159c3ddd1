"""Starting with 300,000 addresses in the store, and the memory they take.

From the start of the process until it says SERVING, its election included, for blocks of 8 and of
16 addresses; the baseline is a service with the same topology and nothing in use. Memory is what
the process has resident beyond that one once it is active, per address. Names have 18 bytes.
"""

from __future__ import annotations

import time

from tests.bench.report import Row
from tests.bench.world import Site, dense, fill, median, names, resident, running, world
from tests.support.ipam_process import IpamProcess

TITLE = "start and memory"
SECONDS_AIM = 3.0
BYTES_AIM = 300


async def measure(*, quick: bool) -> list[Row]:
    count, rounds = (2_400, 1) if quick else (300_000, 3)
    nodes = 30 if quick else 300
    rows = []
    async with world() as there:
        for length, size in ((29, 8), (28, 16)):
            site = Site(nodes=nodes, block_length=length)
            empty = await there.replica(site, f"/empty{size}", f"empty{size}")
            full = await there.replica(site, f"/full{size}", f"full{size}")
            async with running(full):
                await fill(full.address, dense(site, names(count), count // nodes))
            rows += await compare(empty, full, size, count, rounds)
    return rows


async def compare(
    empty: IpamProcess, full: IpamProcess, size: int, count: int, rounds: int
) -> list[Row]:
    seconds: dict[str, list[float]] = {"empty": [], "full": []}
    memory: dict[str, list[float]] = {"empty": [], "full": []}
    for _ in range(rounds):
        for name, replica in (("empty", empty), ("full", full)):
            try:
                begin = time.monotonic()
                replica.start()
                await replica.wait_until_serving()
                seconds[name].append(time.monotonic() - begin)
                await replica.wait_until_active()
                memory[name].append(resident(replica))
                await replica.stop()
            finally:
                replica.kill()
    start, base = median(seconds["full"]), median(seconds["empty"])
    all_of_it, floor = median(memory["full"]), median(memory["empty"])
    each = (all_of_it - floor) / count
    return [
        Row(
            f"start with {count:,} in use, blocks of {size}",
            f"{start:.2f} s",
            f"none in use: {base:.2f} s",
            start / base,
            f"<= {SECONDS_AIM:.0f} s",
            start <= SECONDS_AIM,
        ),
        Row(
            f"memory per address, blocks of {size}",
            f"{each:.0f} B",
            f"none in use: {floor / 2**20:.0f} MiB in all",
            all_of_it / floor,
            f"<= {BYTES_AIM} B",
            each <= BYTES_AIM,
        ),
    ]
