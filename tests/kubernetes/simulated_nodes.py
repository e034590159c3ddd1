"""Nodes that are only known: in topology, each with an endpoint that ipam gave an address.

    python -m tests.kubernetes.simulated_nodes up|down COUNT TENANT NETWORK TOPOLOGY IPAM POLICY

The last three are the services' addresses. Run in a host of the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from grpc.aio import Channel
from romana.ipam.v1 import ipam_service_pb2 as ipam_pb
from romana.ipam.v1.allocation_pb2 import AddressSpec, AllocationSpec
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1 import policy_service_pb2 as policy_pb
from romana.policy.v1.endpoint_pb2 import PolicyEndpoint
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1 import topology_service_pb2 as topology_pb
from romana.topology.v1.node_pb2 import Attachment, Node
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.rpc.channel import open_channel

AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Nodes:
    count: int
    tenant: str
    network: str

    @property
    def names(self) -> Iterable[str]:
        return [f"node-{number:04}" for number in range(self.count)]

    async def up(self, topology: Channel, ipam: Channel, policy: Channel) -> None:
        """Registers them, and attaches an endpoint to each."""

        async def register(name: str) -> None:
            number = int(name.rpartition("-")[2])
            there = Attachment(network=self.network, address=f"172.16.{number >> 8}.{number & 255}")
            node = Node(name=name, attachments=[there])
            await TopologyServiceStub(topology).RegisterNode(
                topology_pb.RegisterNodeRequest(node=node)
            )

        await each(register, self.names)
        specs = [
            AllocationSpec(
                name=f"on-{name}",
                node=name,
                tenant=self.tenant,
                addresses=[AddressSpec(network=self.network)],
            )
            for name in self.names
        ]
        answer = await IpamServiceStub(ipam).AllocateAddresses(
            ipam_pb.AllocateAddressesRequest(specs=specs), timeout=120
        )
        given = {}
        for spec, result in zip(specs, answer.results, strict=True):
            assert result.allocations, result.status.message
            given[spec.node] = result.allocations[0].address

        async def report(name: str) -> None:
            attached = PolicyEndpoint(
                name=f"on-{name}", tenant=self.tenant, addresses=[given[name]]
            )
            await PolicyServiceStub(policy).ReportEndpoints(
                policy_pb.ReportEndpointsRequest(node=name, attached=[attached])
            )

        await each(report, self.names)

    async def down(self, topology: Channel, ipam: Channel, policy: Channel) -> None:
        """Undoes all of it."""

        async def detach(name: str) -> None:
            await PolicyServiceStub(policy).ReportEndpoints(
                policy_pb.ReportEndpointsRequest(node=name, detached=[f"on-{name}"])
            )

        async def delete(name: str) -> None:
            await TopologyServiceStub(topology).DeleteNode(topology_pb.DeleteNodeRequest(name=name))

        await each(detach, self.names)
        specs = [ipam_pb.ReleaseSpec(name=f"on-{name}", node=name) for name in self.names]
        await IpamServiceStub(ipam).ReleaseAddresses(
            ipam_pb.ReleaseAddressesRequest(specs=specs), timeout=120
        )
        await each(delete, self.names)


async def each(work: Callable[[str], Awaitable[None]], names: Iterable[str]) -> None:
    """Some at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with gate:
            await work(name)

    await asyncio.gather(*map(one, names))


async def main(verb: str, nodes: Nodes, addresses: Iterable[str]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(open_channel(address, insecure=True))
            for address in addresses
        ]
        await (nodes.up if verb == "up" else nodes.down)(*channels)


if __name__ == "__main__":
    _, what, many, tenant, network, *services = sys.argv
    asyncio.run(main(what, Nodes(int(many), tenant, network), services))
