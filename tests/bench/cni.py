"""A runtime's ADD and DEL of one container, each a process of `romana-cni`.

The agent, ipam and etcd behind it do all of the work: an address that etcd has on disk, a journal
that is synced, a veth pair. The baseline is what the reference plug-ins do for the same: `ptp` with
`host-local` makes the same pair, with an address from a file. One endpoint stays, so that the
node's block does: as on a node in use. Needs root and Debian's containernetworking-plugins.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc.aio

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from tests.bench.report import Row, rate, write
from tests.bench.world import median, processor_seconds, resident
from tests.support.agent_node import NODE, PROGRAM, Node, RealNode
from tests.support.ipam_process import IpamProcess, seed
from tests.support.netns import Namespace, Namespaces, enter, missing
from tests.support.topologies import layout, network, node

TITLE = "CNI: ADD and DEL through romana-cni, and through ptp with host-local"
REFERENCE = Path("/usr/lib/cni")
AIM = 1.0
RESIDENTS = 100
REST_AFTER = 3.0
"""Seconds until an agent has done what attaching leaves to later."""

Invoke = Callable[[str, str, Namespace], None]


async def measure(*, quick: bool) -> list[Row]:
    lacking = missing() or ("" if (REFERENCE / "ptp").exists() else "containernetworking-plugins")
    if lacking:
        write(f"cni: skipped, needs {lacking}")
        return []
    with tempfile.TemporaryDirectory(prefix="rb-") as name, Namespaces() as namespaces:
        folder = Path(name)
        etcd = LocalEtcd(folder / "etcd")
        await etcd.start()
        replica = IpamProcess([etcd.endpoint], "/bench", folder)
        replica.address = f"unix:{folder}/ipam.sock"
        replica._environment["ROMANA_IPAM__LISTEN__ADDRESS"] = replica.address
        there = RealNode(namespaces, folder, replica)
        there.networks = ("net",)
        try:
            async with EtcdClient([etcd.endpoint]) as client:
                known = node(NODE, address="192.168.0.1")
                nets = [network("net", "10.1.0.0/16")]
                await seed(client, Keys("/bench"), layout(nets), [known])
            replica.start()
            await replica.wait_until_active()
            there.home.link(namespaces.new("outside"), "up0", "up0")
            there.home.run("ip addr add 192.168.0.1/24 dev up0")
            there.start()
            async with grpc.aio.insecure_channel(there.socket) as channel:
                there.channel = channel
                await there.ready()
            return await asyncio.to_thread(compare, there, namespaces, folder, quick=quick)
        finally:
            there.kill()
            replica.kill()
            etcd.stop()


def compare(there: Node, namespaces: Namespaces, folder: Path, *, quick: bool) -> list[Row]:
    count, residents, seconds = (8, 5, 2.0) if quick else (60, RESIDENTS, 30.0)
    pods = [namespaces.new(f"p{number}") for number in range(8)]
    kinds: dict[str, Invoke] = {"romana": romana(there), "ptp": ptp(folder / "host-local")}
    rows = []
    with ThreadPoolExecutor(1, initializer=enter, initargs=(there.home.path,)) as thread:

        def settle(number: int) -> None:
            thread.submit(
                kinds["romana"], "ADD", f"stays-{number}", namespaces.new(f"s{number}")
            ).result()

        settle(0)
        for width in (1, 8):
            rows += contest(there, f"{width} at a time", width, kinds, pods, count)
        for number in range(1, residents):
            settle(number)
        rows += contest(there, f"beside {residents} others", 1, kinds, pods, count)
    return [*rows, *at_rest(there, residents, seconds)]


def contest(
    there: Node,
    what: str,
    width: int,
    kinds: dict[str, Invoke],
    pods: list[Namespace],
    count: int,
) -> list[Row]:
    """Both kinds, one after the other, `width` at a time."""
    adds: dict[str, list[float]] = {name: [] for name in kinds}
    dels: dict[str, list[float]] = {name: [] for name in kinds}
    spent = dict.fromkeys(kinds, 0.0)
    with ThreadPoolExecutor(width, initializer=enter, initargs=(there.home.path,)) as threads:
        for kind, invoke in kinds.items():  # once around without being counted
            list(threads.map(lambda pod, run=invoke: pair(run, pod.name, pod), pods[:width]))
            begin = time.perf_counter()
            for number in range(count // width):
                names = [f"{kind}-{number}-{index}" for index in range(width)]
                for add, gone in threads.map(
                    lambda name, pod, run=invoke: pair(run, name, pod), names, pods[:width]
                ):
                    adds[kind].append(add)
                    dels[kind].append(gone)
            spent[kind] = time.perf_counter() - begin
    return table(what, adds, dels, {kind: len(adds[kind]) / spent[kind] for kind in kinds})


def at_rest(there: Node, residents: int, seconds: float) -> list[Row]:
    """What an agent costs that nobody asks anything."""
    assert there.process is not None
    time.sleep(REST_AFTER)
    before, begin = processor_seconds(there.process), time.perf_counter()
    time.sleep(seconds)
    share = (processor_seconds(there.process) - before) / (time.perf_counter() - begin) * 100
    size = resident(there.process) / 1e6
    what = f"agent at rest with {residents}"
    return [
        Row(f"{what}: processor", f"{share:.2f} % of a core", aim="< 1 %", met=share < 1),
        Row(f"{what}: memory", f"{size:.0f} MB", aim="< 100 MB", met=size < 100),
    ]


def pair(invoke: Invoke, container: str, pod: Namespace) -> tuple[float, float]:
    """Seconds of an ADD and of the DEL after it."""
    begin = time.perf_counter()
    invoke("ADD", container, pod)
    middle = time.perf_counter()
    invoke("DEL", container, pod)
    return middle - begin, time.perf_counter() - middle


def table(
    what: str,
    adds: dict[str, list[float]],
    dels: dict[str, list[float]],
    rates: dict[str, float],
) -> list[Row]:
    made = []
    for command, found in (("ADD", adds), ("DEL", dels)):
        ours, theirs = median(found["romana"]) * 1e3, median(found["ptp"]) * 1e3
        made.append(
            Row(
                f"{command}, {what}",
                f"{ours:.1f} ms",
                f"ptp: {theirs:.1f} ms",
                ours / theirs,
                f"<= {AIM} of ptp",
                ours <= AIM * theirs,
            )
        )
    made.append(
        Row(
            f"ADD and DEL, {what}",
            rate(rates["romana"], "pairs"),
            f"ptp: {rate(rates['ptp'], 'pairs')}",
            rates["romana"] / rates["ptp"],
        )
    )
    return made


def romana(there: Node) -> Invoke:
    config = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": "romana-cni",
        "tenant": "t",
        "network": "net",
        "socket": str(there.cni_socket),
    }
    return plugin(PROGRAM, config)


def ptp(folder: Path) -> Invoke:
    config = {
        "cniVersion": "1.0.0",
        "name": "bench",
        "type": "ptp",
        "ipam": {"type": "host-local", "subnet": "10.9.0.0/16", "dataDir": str(folder)},
    }
    return plugin(REFERENCE / "ptp", config)


def plugin(path: Path, config: dict[str, object]) -> Invoke:
    content = json.dumps(config).encode()

    def invoke(command: str, container: str, pod: Namespace) -> None:
        done = subprocess.run(
            [str(path)],
            input=content,
            capture_output=True,
            check=False,
            timeout=60,
            env={
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": container,
                "CNI_NETNS": pod.path,
                "CNI_IFNAME": "eth0",
                "CNI_PATH": str(REFERENCE),
            },
        )
        assert done.returncode == 0, done.stdout

    return invoke
