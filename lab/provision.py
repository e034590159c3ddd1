"""`python -m lab.provision FILE PATIENCE`: tells the services what the lab is.

In the control namespace. Waits until topology, ipam and policy serve, PATIENCE times as long as
else, applies the topology, registers the nodes with the interfaces that they have, and reserves the
addresses of plain machines and firewalls. Each step can be repeated.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from romana.ipam.v1 import block_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from lab.control import IPAM, POLICY, TOPOLOGY
from lab.file import parse, topology_document
from lab.spec import TRUNK_INTERFACE, Lab, Node
from services.common.rpc.channel import open_channel

if TYPE_CHECKING:  # for type checkers only
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub

TIMEOUT = 40.0
"""Seconds for everything together."""
CALL_TIMEOUT = 5.0
POLL_INTERVAL = 0.05
RETRIED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.NOT_FOUND,  # ipam has not seen the topology yet
}
RESERVATION = "lab-machines"


async def provision(text: str, patience: float) -> None:
    """Does all of it, in `patience` times TIMEOUT; raises AioRpcError, or TimeoutError."""
    lab = parse(text)
    async with (
        asyncio.timeout(TIMEOUT * patience),
        open_channel(TOPOLOGY, insecure=True) as topology_channel,
        open_channel(IPAM, insecure=True) as ipam_channel,
        open_channel(POLICY, insecure=True) as policy_channel,
    ):
        topology: TopologyServiceAsyncStub = TopologyServiceStub(topology_channel)
        ipam: IpamServiceAsyncStub = IpamServiceStub(ipam_channel)
        for channel in (topology_channel, ipam_channel, policy_channel):
            await _serving(channel)
        await _retried(
            lambda: topology.ApplyTopology(
                topology_api.ApplyTopologyRequest(
                    document=topology_pb2.TopologyDocument(text=topology_document(text))
                ),
                timeout=CALL_TIMEOUT,
            )
        )
        for node in lab.nodes:
            request = topology_api.RegisterNodeRequest(node=registered(lab, node))
            await _retried(partial(topology.RegisterNode, request, timeout=CALL_TIMEOUT))
        for reservation in reservations(lab):
            created = ipam_api.CreateReservationRequest(reservation=reservation)
            await _retried(partial(ipam.CreateReservation, created, timeout=CALL_TIMEOUT))


def registered(lab: Lab, node: Node) -> node_pb2.Node:
    return node_pb2.Node(
        name=node.name,
        address=str(lab.management(node.name)),
        labels=dict(node.labels),
        attachments=[
            node_pb2.Attachment(
                network=network,
                interface=lab.network(network).interface,
                address=str(address),
                vlan_id=lab.network(network).vlan_id,
                parent_interface=TRUNK_INTERFACE if lab.trunk else "",
            )
            for network, address in node.addresses.items()
        ],
    )


def reservations(lab: Lab) -> list[block_pb2.Reservation]:
    """So that no endpoint gets an address of a plain machine or a firewall."""
    made = []
    for vlan in lab.vlans:
        ranges = [str(each.address) for each in lab.machines if each.network == vlan.name]
        ranges += [
            str(arm.address)
            for each in lab.firewalls
            for arm in each.arms
            if arm.network == vlan.name
        ]
        if ranges:
            made.append(
                block_pb2.Reservation(
                    name=f"{RESERVATION}-{vlan.name}", network=vlan.name, ranges=ranges
                )
            )
    return made


async def _serving(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)

    async def check() -> None:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT)
        while answer.status != health_pb2.HealthCheckResponse.SERVING:
            await asyncio.sleep(POLL_INTERVAL)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT)

    await _retried(check)


async def _retried(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRIED:
                raise
            await asyncio.sleep(POLL_INTERVAL)
        else:
            return


def main() -> int:
    """Returns the exit status; what failed is on standard error."""
    file, patience = sys.argv[1], float(sys.argv[2])
    try:
        asyncio.run(provision(Path(file).read_text(), patience))
    except grpc.aio.AioRpcError as error:
        sys.stderr.write(f"{error.code().name}: {error.details()}\n")
        return 1
    except TimeoutError:
        sys.stderr.write(f"the services did not take it within {TIMEOUT * patience:.0f} s\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
