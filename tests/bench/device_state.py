"""A security device goes down: from the report that makes the quorum to the kernels of all nodes.

One node is real: an agent's stream and its table of rules, in a namespace, with a rule that leads
what 10,000 endpoints open through the group. The others are two processes that acknowledge at once.
Timed until the last of them has acknowledged and the kernel of the real one has it. The baseline
is the real one alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from pathlib import Path

from romana.policy.v1 import device_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.agent.kernel.nftables.driver import Nft
from services.agent.model import EndpointAddress, LocalEndpoint
from services.agent.rules.device_legs import Around
from services.agent.rules.ending import Ending
from services.agent.rules.enforce import Enforcement
from services.agent.rules.firewall import Firewall
from services.agent.rules.intake import rule_stream
from services.agent.rules.spool import RuleSpool
from services.agent.rules.wanted import WantedEndpoints
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.types import Operation, Put
from services.common.model.devices import DeviceGroupName
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.rules import Direction, PolicyName, Tier
from services.common.rpc.channel import open_channel
from services.policy.model import EndpointSelector, Policy, Rule
from services.policy.store import codec
from services.policy.store.codec import Stored
from tests.bench.agents import Crowds, crowd
from tests.bench.policy_service import FIRST, NETWORK, Size, documents, write
from tests.bench.report import Row
from tests.bench.world import median, world
from tests.support.ipam_process import poll, seed
from tests.support.netns import Namespace, Namespaces, enter, missing
from tests.support.policy_process import PolicyProcess
from tests.support.topologies import layout, network, node

TITLE = "state of a device"
SECONDS_AIM = 0.2
NODES = 100
DEVICES = 30
"""One goes down in each round, and none comes back: a device that flaps is held."""
NET, GROUP = NetworkName("net"), DeviceGroupName("firewalls")
REAL, WITNESS = "node-0000", "node-0001"
ADDRESSES = [ip_address(f"172.16.200.{number + 1}") for number in range(DEVICES)]
GROUP_FILE = "\n".join(
    (
        f"name: {GROUP}",
        f"networks: [{NET}]",
        "devices:",
        *(
            f"  - {{name: fw-{number}, addresses: [{{network: {NET}, address: {address}}}]}}"
            for number, address in enumerate(ADDRESSES)
        ),
    )
)


class Applied:
    """When the real node's kernel took something."""

    def __init__(self) -> None:
        self._taken: asyncio.Queue[float] = asyncio.Queue()

    def enforced(self, seconds: float) -> None:  # noqa: ARG002
        self._taken.put_nowait(time.monotonic())

    def enforcement_failed(self) -> None:
        raise AssertionError("the kernel refused it")

    def table_repaired(self) -> None:
        """Nobody else writes there."""

    def cut(self, connections: int) -> None:
        """There are none."""

    def forget(self) -> None:
        """All until now."""
        while not self._taken.empty():
            self._taken.get_nowait()

    async def next(self) -> float:
        return await self._taken.get()


@contextlib.asynccontextmanager
async def real_node(
    replica: PolicyProcess, space: Namespace, folder: Path
) -> AsyncIterator[Applied]:
    """Its stream and its kernel, in sync."""
    firewall = Firewall(enter=lambda: enter(space.path))
    ending = Ending(firewall, enter=lambda: enter(space.path))
    applied = Applied()
    enforcement = Enforcement(firewall, ending, Failsafe(), None, applied)
    macs = {
        (NET, address): f"02:00:00:00:00:{number:02x}"
        for number, address in enumerate(ADDRESSES, 1)
    }
    enforcement.set_around(Around({NET: "uplink"}, macs))
    # `documents` gives the first two addresses to a client and to this one
    own = (EndpointAddress(ip_address(FIRST + 1), NET),)
    name = EndpointName("server-0")
    enforcement.put(name, LocalEndpoint(name, Tenant("servers"), Segment(""), "romx0", own))
    spool = RuleSpool(folder)
    async with open_channel(replica.address) as channel, asyncio.TaskGroup() as tasks:
        stream = rule_stream(
            NodeName(REAL),
            {replica.address: channel},
            enforcement,
            WantedEndpoints(),
            spool,
            spool.load(),
            failsafe=Failsafe(),
        )
        running = [tasks.create_task(enforcement.run()), tasks.create_task(stream.run())]
        await poll(lambda: enforcement.open_endpoints == 1 and bool(enforcement.devices), 60)
        await enforcement.reached()
        yield applied
        for task in running:
            task.cancel()
    space.call(_remove)


def _remove() -> None:
    nft = Nft()
    nft.remove()
    nft.close()


async def falls(
    replica: PolicyProcess, applied: Applied, crowds: Crowds | None, devices: range
) -> float:
    """Median seconds from the second node's report that a device is down."""
    found = []
    async with replica.connect() as stub:
        for device in devices:
            await stub.ReportDevices(report(REAL, device))
            await asyncio.sleep(0.1)
            applied.forget()
            begin = time.monotonic()
            await stub.ReportDevices(report(WITNESS, device))
            ends = [await applied.next()]
            if crowds is not None:
                ends.append(await crowds.last_acknowledged())
            assert min(ends) > begin
            found.append(max(ends) - begin)
            await asyncio.sleep(0.1)
    return median(found)


def report(node_name: str, last: int) -> api.ReportDevicesRequest:
    """All devices up to this one are down."""
    return api.ReportDevicesRequest(
        node=node_name,
        observations=[
            device_pb2.DeviceObservation(
                group=GROUP, device=f"fw-{number}", network=NET, up=number > last
            )
            for number in range(DEVICES)
        ],
    )


def inspecting(keys: Keys, tenants: int) -> Iterator[Operation]:
    """A policy that leads what all others open to the servers through the group."""
    peers = tuple(EndpointSelector((Tenant(f"tenant-{number}"),)) for number in range(tenants))
    written = Policy(
        PolicyName("inspect"),
        Tier.ADMIN,
        (EndpointSelector((Tenant("servers"),)),),
        {Direction.INGRESS: (Rule(peers=peers, via=GROUP),)},
        priority=10,
    )
    yield Put(f"{keys.policies}inspect", codec.encode_policy(Stored(written, 0, 0)))


async def measure(*, quick: bool) -> list[Row]:
    lack = missing()
    if lack:
        return [Row("device_state", f"needs {lack}")]
    size, rounds = (Size(5), 2) if quick else (Size(50), 12)
    keys = Keys("/devices")
    nodes = [node(f"node-{number:04}", address=f"172.16.0.{number + 1}") for number in range(NODES)]
    async with world() as there, EtcdClient([there.etcd.endpoint], timeout=30.0) as client:
        await seed(client, keys, layout([network(NET, NETWORK, 29)]), nodes)
        await write(client, documents(keys, size))
        with (
            PolicyProcess.started(there.etcd.endpoint, "/devices", there.folder) as replica,
            Namespaces() as made,
        ):
            await poll(replica.is_serving, 120)
            async with replica.connect() as stub:
                await stub.PutDeviceGroup(api.PutDeviceGroupRequest(document=GROUP_FILE))
                await write(client, inspecting(keys, size.tenants))
                for name in (REAL, WITNESS):
                    await stub.ReportDevices(report(name, -1))
            folder = there.folder / "node"
            folder.mkdir()
            async with real_node(replica, made.new("node"), folder) as applied:
                alone = await falls(replica, applied, None, range(rounds))
                async with crowd(replica, 1, NODES - 1, "rules") as others:
                    seconds = await falls(replica, applied, others, range(rounds, 2 * rounds))
    pairs = size.tenants * size.endpoints
    return [
        Row(
            f"quorum to the kernel of {NODES} nodes, {pairs:,} led pairs on one",
            f"{seconds * 1000:.0f} ms",
            f"of that one alone: {alone * 1000:.0f} ms",
            seconds / alone,
            f"<= {SECONDS_AIM * 1000:.0f} ms",
            seconds <= SECONDS_AIM,
        )
    ]
