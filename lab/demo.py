"""A data center with four VLANs on this machine, in a few seconds: `make demo`.

Real etcd, real services, the real command. First addresses, for nodes that are made up, in the
topology of `examples/datacenter.yaml`; then packets, between network namespaces, see `lab.reach`,
policy between their endpoints, see `lab.segments`, and firewalls on their way, see `lab.steering`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2
from romana.ipam.v1 import allocation_pb2, utilization_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.topology.v1 import node_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from lab import reach
from lab.commands import as_typed
from lab.example_files import EXAMPLES
from lab.local import LocalCluster, NotStarted, local_cluster
from lab.story import Story, Unexpected
from services.common.rpc.channel import open_channel
from services.common.terminal.table import Column

if TYPE_CHECKING:  # for type checkers only
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

TOPOLOGY = EXAMPLES / "datacenter.yaml"
PICTURE = """\
  VLAN                  20 test        30 qa         40 production  50 admin
  network               10.20.0.0/16   10.30.0.0/16  10.40.0.0/16   10.50.0.0/20
                             │              │              │             │
  rack-1  test-1             ●              │              │             │     dedicated
          qa-1               │              ●              │             │     dedicated
          production-1       │              │              ●             │     dedicated
                             │              │              │             │
  rack-2  qa-2               │              ●              │             │     dedicated
          production-2       │              │              ●             │     dedicated
          shared-1           ●              ●              ●             ●     shared
                             │              │              │             │
                        ═════╧══════════════╧══════════════╧═════════════╧═════
                            core router: gateway of every VLAN, ACLs, firewall"""

SMALL_NETWORK = """\
  - name: devices
    cidr: 10.60.0.0/28
    vlan_id: 60
    gateway: 10.60.0.1
    mode: onlink
    tenants: [qa]
"""
SMALL_TOPOLOGY = """\
  - name: devices
    networks: [devices]
"""
CALL_TIMEOUT = 10.0
"""Seconds."""
BATCH = 50
"""Requests in one message of the stream."""


@dataclass(frozen=True, slots=True)
class Vlan:
    """A network of the example, as far as the demo has to know it."""

    network: str
    number: int
    tenant: str
    addresses: tuple[str, str]
    """Of the nodes there, without the last number: rack-1's and rack-2's."""
    endpoints: int
    """How many to allocate."""


VLANS = (
    Vlan("test", 20, "test", ("10.20.127.", "10.20.255."), 90),
    Vlan("qa", 30, "qa", ("10.30.127.", "10.30.255."), 120),
    Vlan("production", 40, "production", ("10.40.127.", "10.40.255."), 160),
    Vlan("admin", 50, "platform", ("10.50.7.", "10.50.15."), 30),
)
NODES = {
    "test-1": (1, ("test",)),
    "qa-1": (1, ("qa",)),
    "production-1": (1, ("production",)),
    "qa-2": (2, ("qa",)),
    "production-2": (2, ("production",)),
    "shared-1": (2, ("test", "qa", "production", "admin")),
}
"""Rack and networks by node name."""


@dataclass(frozen=True, slots=True)
class NodeRoutes:
    """How others reach a node on one network."""

    node: str
    network: str
    endpoints: int
    blocks: int
    prefixes: Sequence[str]


ROUTES: tuple[Column[NodeRoutes], ...] = (
    Column("NODE", lambda item: item.node),
    Column("NETWORK", lambda item: item.network),
    Column("ENDPOINTS", lambda item: str(item.endpoints), right=True),
    Column("BLOCKS", lambda item: str(item.blocks), right=True),
    Column("REACHED BY", lambda item: ", ".join(item.prefixes)),
)


class Demo:
    def __init__(self, story: Story, cluster: LocalCluster, channels: Channels) -> None:
        self._story = story
        self._cluster = cluster
        self._topology = TopologyServiceStub(channels.topology)
        self._ipam: IpamServiceAsyncStub = IpamServiceStub(channels.ipam)
        self._specs: list[allocation_pb2.AllocationSpec] = []
        self._given: dict[str, str] = {}

    async def run(self) -> None:
        await self._apply()
        await self._register()
        await self._evaluate()
        await self._allocate()
        await self._look()
        await self._refuse()
        await self._exhaust()
        await self._release()
        await self._check()

    async def _romana(self, *arguments: str, ends: int = 0) -> None:
        await self._story.romana(*arguments, environment=self._cluster.environment(), ends=ends)

    async def _apply(self) -> None:
        self._story.step("Say what the data center looks like")
        self._story.say("The file names four networks and two racks; Romana carves the prefixes.")
        await self._romana("topology", "apply", as_typed(TOPOLOGY))
        await self._romana("network", "list")

    async def _register(self) -> None:
        self._story.step("Register the nodes")
        self._story.say(
            "A dedicated node is attached to one VLAN, a shared node to several. Labels place it."
        )
        first, *others = (_node(name) for name in NODES)
        await self._romana(*_as_command(first))
        for node in others:
            await self._topology.RegisterNode(
                topology_api.RegisterNodeRequest(node=node), timeout=CALL_TIMEOUT
            )
        self._story.say("The other five the same way, over gRPC: TopologyService.RegisterNode.")
        await self._romana("node", "list")

    async def _evaluate(self) -> None:
        self._story.step("Ask where an endpoint of tenant qa may go")
        self._story.say("A scheduler asks the same over gRPC: IpamService.EvaluateNodes.")
        await self._romana("evaluate", "--tenant", "qa", "--limit", "3")
        await self._romana("evaluate", "--tenant", "qa", "--node", "production-1", ends=1)

    async def _allocate(self) -> None:
        total = sum(vlan.endpoints for vlan in VLANS)
        self._story.step(f"Allocate {total} endpoints over one gRPC stream")
        for vlan in VLANS:
            evaluated = await self._ipam.EvaluateNodes(
                ipam_api.EvaluateNodesRequest(tenant=vlan.tenant), timeout=CALL_TIMEOUT
            )
            fitting = itertools.cycle(sorted(e.node for e in evaluated.evaluations if e.fits))
            self._specs += [
                allocation_pb2.AllocationSpec(
                    name=f"{vlan.network}-{number:03}", node=node, tenant=vlan.tenant
                )
                for number, node in zip(range(1, vlan.endpoints + 1), fitting, strict=False)
            ]
        begun = time.perf_counter()
        self._given = await self._stream(self._specs)
        spent = time.perf_counter() - begun
        self._story.say(
            f"{len(self._given)} addresses in {spent * 1000:.0f} ms, each in etcd before it was "
            f"answered; {BATCH} requests a message."
        )
        again = await self._stream(self._specs)
        if again != self._given or len(set(again.values())) != total:
            raise Unexpected("the same requests did not give the same, distinct addresses")
        self._story.say("The same requests again: the same addresses. A retry never takes two.")
        await self._romana("address", "show", "qa-003")

    async def _look(self) -> None:
        self._story.step("Look at the tree, the blocks and the routes")
        await self._romana("topology", "show")
        await self._romana("block", "list", "--network", "production", "--limit", "6")
        self._story.gap()
        self._story.say("IpamService.GetNodeRoutes, node by node: blocks collapse into few routes.")
        self._story.table([row for name in NODES for row in await self._routes(name)], ROUTES)

    async def _refuse(self) -> None:
        self._story.step("Be refused, with the reason")
        self._story.say("Node test-1 is dedicated to VLAN test. No production endpoint goes there:")
        await self._romana(
            *("address", "allocate", "web-1", "--node", "test-1", "--tenant", "production"), ends=4
        )

    async def _exhaust(self) -> None:
        self._story.step("Grow the data center, and fill a network up")
        self._story.say(
            "The file gets a small network. What is in use stays where it is; apply shows its plan."
        )
        self._story.say("\n".join(f"+ {line}" for line in SMALL_NETWORK.splitlines()))
        file = self._cluster.folder / "grown.yaml"
        await asyncio.to_thread(file.write_text, _grown(TOPOLOGY.read_text()))
        await self._romana("topology", "apply", str(file))
        attachment = "network=devices,interface=eth2,address=10.60.0.14,vlan=60"
        await self._romana("node", "update", "qa-1", "--attach", attachment)
        specs = [
            allocation_pb2.AllocationSpec(
                name=f"device-{number:02}",
                node="qa-1",
                tenant="qa",
                addresses=[allocation_pb2.AddressSpec(network="devices")],
            )
            for number in range(1, 21)
        ]
        self._story.gap()
        answer = await self._ipam.AllocateAddresses(
            ipam_api.AllocateAddressesRequest(specs=specs), timeout=CALL_TIMEOUT
        )
        refused = [result.status for result in answer.results if result.status.code]
        self._story.say(
            f"20 requests in one call of AllocateAddresses: {20 - len(refused)} got an address, "
            f"{len(refused)} did not."
        )
        for status in refused[:1]:
            info, exhaustion = _details(status.details)
            self._story.say(f"  status   {grpc.StatusCode.RESOURCE_EXHAUSTED.name} {info.reason}")
            for each in exhaustion.networks:
                name = utilization_pb2.Refusal.Name(each.refusal)
                self._story.say(f"  detail   {each.network}, group {each.group}: {name}")

    async def _release(self) -> None:
        self._story.step("Release")
        await self._romana("address", "release", "device-01")
        self._story.say("A released address rests, here for 30 s, before somebody else gets it:")
        await self._romana(
            *("address", "allocate", "device-99", "--node", "qa-1", "--tenant", "qa"),
            *("--network", "devices"),
            ends=4,
        )
        answer = await self._ipam.ReleaseAddresses(
            ipam_api.ReleaseAddressesRequest(
                specs=[ipam_api.ReleaseSpec(name=spec.name) for spec in self._specs]
            ),
            timeout=CALL_TIMEOUT,
        )
        released = sum(len(result.addresses) for result in answer.results)
        self._story.gap()
        self._story.say(f"And {released} in one call of ReleaseAddresses.")

    async def _check(self) -> None:
        self._story.step("Prove that store and memory agree")
        await self._romana("ipam", "check")
        await self._romana("status")

    async def _stream(self, specs: Sequence[allocation_pb2.AllocationSpec]) -> dict[str, str]:
        """Allocates over AllocateStream; the address by name."""
        batches = [specs[start : start + BATCH] for start in range(0, len(specs), BATCH)]

        async def messages() -> AsyncIterator[ipam_api.AllocateStreamRequest]:
            for sequence, batch in enumerate(batches):
                yield ipam_api.AllocateStreamRequest(sequence=sequence, specs=batch)

        given: dict[str, str] = {}
        async for answer in self._ipam.AllocateStream(messages(), timeout=CALL_TIMEOUT):
            for spec, result in zip(batches[answer.sequence], answer.results, strict=True):
                if result.status.code:
                    raise Unexpected(f"{spec.name}: {result.status.message}")
                given[spec.name] = result.allocations[0].address
        return given

    async def _routes(self, name: str) -> list[NodeRoutes]:
        """The prefixes by which a node is reached, by network."""
        routes = await self._ipam.GetNodeRoutes(
            ipam_api.GetNodeRoutesRequest(node=name), timeout=CALL_TIMEOUT
        )
        blocks = await self._ipam.ListBlocks(
            ipam_api.ListBlocksRequest(node=name), timeout=CALL_TIMEOUT
        )
        return [
            NodeRoutes(
                name,
                network,
                sum(block.used for block in blocks.blocks if block.network == network),
                sum(block.network == network for block in blocks.blocks),
                [route.prefix for route in routes.own if route.network == network],
            )
            for network in NODES[name][1]
        ]


@dataclass(frozen=True, slots=True)
class Channels:
    topology: grpc.aio.Channel
    ipam: grpc.aio.Channel


async def tell(story: Story, *, keep: bool) -> None:
    story.title(
        "Romana: addresses, routes and policy for a data center with four VLANs and two racks"
    )
    story.picture(PICTURE)
    story.step("Start etcd and the services")
    story.command("up")
    story.say("(here on free ports, with a data directory that goes at the end)")
    async with local_cluster() as cluster:
        try:
            story.say(
                f"topology  {cluster.topology:<16}  metrics http://{cluster.topology_metrics}\n"
                f"ipam      {cluster.ipam:<16}  metrics http://{cluster.ipam_metrics}\n"
                f"etcd      {cluster.etcd}"
            )
            async with (
                open_channel(cluster.topology) as topology,
                open_channel(cluster.ipam) as ipam,
            ):
                await Demo(story, cluster, Channels(topology, ipam)).run()
            await reach.show(story)
            if keep:
                story.step("It keeps running until Ctrl-C")
                story.say(
                    f"export ROMANA_DATA_DIR={cluster.folder / 'data'}\n"
                    f"The console, for a browser: {cluster.console}"
                )
                await asyncio.Event().wait()
        except (Unexpected, grpc.aio.AioRpcError) as error:
            what = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
            raise Unexpected(f"{what}\nThe end of the log:\n{cluster.log_tail()}") from error
        story.step("Stop")
    story.say("All processes have ended and the data directory is removed.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code: 0, 1 if something failed, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    keep = parser.parse_args(arguments).keep
    begun = time.monotonic()
    story = Story()
    try:
        asyncio.run(_until_stopped(tell(story, keep=keep)))
    except asyncio.CancelledError:
        if not keep:
            sys.stderr.write("Interrupted; everything is stopped and removed.\n")
            return 130
        story.say("All processes have ended and the data directory is removed.")
    except (NotStarted, Unexpected) as error:
        sys.stderr.write(f"The demo failed: {error}\n")
        return 1
    else:
        story.say(f"That took {time.monotonic() - begun:.0f} s.")
    return 0


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Cancels it when somebody wants it to end, also where SIGINT was ignored on entry."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await task


def _node(name: str) -> node_pb2.Node:
    rack, networks = NODES[name]
    place = [*NODES].index(name) + 1
    shared = len(networks) > 1
    return node_pb2.Node(
        name=name,
        address=f"192.0.2.{place}",
        labels={"rack": f"rack-{rack}"},
        attachments=[
            node_pb2.Attachment(
                network=vlan.network,
                interface=f"eth1.{vlan.number}" if shared else "eth1",
                address=f"{vlan.addresses[rack - 1]}{place}",
                vlan_id=vlan.number,
                parent_interface="eth1" if shared else "",
            )
            for vlan in VLANS
            if vlan.network in networks
        ],
    )


def _as_command(node: node_pb2.Node) -> Iterable[str]:
    """`romana node register` for a node that is attached to one network."""
    (attachment,) = node.attachments
    parts = (
        f"network={attachment.network}",
        f"interface={attachment.interface}",
        f"address={attachment.address}",
        f"vlan={attachment.vlan_id}",
    )
    return (
        *("node", "register", node.name, "--address", node.address),
        *("--label", f"rack={node.labels['rack']}"),
        *("--attach", ",".join(parts)),
    )


def _grown(text: str) -> str:
    """The example with a small network of its own topology."""
    before, separator, after = text.partition("topologies:\n")
    if not separator:
        raise Unexpected(f"{TOPOLOGY} has no topologies")
    return f"{before}{SMALL_NETWORK}\n{separator}{SMALL_TOPOLOGY}{after}"


def _details(
    details: Iterable[object],
) -> tuple[error_details_pb2.ErrorInfo, utilization_pb2.Exhaustion]:
    info, exhaustion = error_details_pb2.ErrorInfo(), utilization_pb2.Exhaustion()
    for detail in details:
        assert hasattr(detail, "Unpack")
        detail.Unpack(info)
        detail.Unpack(exhaustion)
    return info, exhaustion


if __name__ == "__main__":
    sys.exit(main())
