"""Asks the services for names, for the shell's completion."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from grpc.aio import Channel
from romana.audit.v1 import audit_service_pb2 as audit_api
from romana.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1 import topology_pb2, topology_service_pb2
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.rpc.channel import open_channel
from services.common.tls import TlsFiles
from services.ctl.calls.choosing import choose
from services.ctl.calls.service_addresses import ServiceAddresses

PATIENCE: Final = 0.7
"""Seconds. Who pressed a key waits no longer."""

MOST: Final = 1000
"""Names that are asked for; nobody reads more suggestions."""
CHANGES_MOST: Final = 20
"""Who wants an earlier one looks for it."""


async def names_of(
    kind: str, addresses: ServiceAddresses, tls: TlsFiles | None, *, insecure: bool
) -> list[str]:
    """All names of a kind; raises whatever goes wrong."""
    service, ask = KINDS[kind]
    async with asyncio.timeout(PATIENCE):
        address = str(getattr(await choose(addresses), service))
        async with open_channel(address, tls=tls, insecure=insecure) as channel:
            return await ask(channel)


async def _nodes(channel: Channel) -> list[str]:
    answer = await TopologyServiceStub(channel).ListNodes(
        topology_service_pb2.ListNodesRequest(page_size=MOST)
    )
    return [node.name for node in answer.nodes]


async def _networks(channel: Channel) -> list[str]:
    answer = await TopologyServiceStub(channel).ListNetworks(
        topology_service_pb2.ListNetworksRequest(page_size=MOST)
    )
    return [network.name for network in answer.networks]


async def _groups(channel: Channel) -> list[str]:
    answer = await TopologyServiceStub(channel).GetTopology(
        topology_service_pb2.GetTopologyRequest()
    )
    return [path for topology in answer.spec.topologies for path in _paths(topology.groups)]


async def _reservations(channel: Channel) -> list[str]:
    answer = await IpamServiceStub(channel).ListReservations(
        ipam_api.ListReservationsRequest(page_size=MOST)
    )
    return [reservation.name for reservation in answer.reservations]


async def _policies(channel: Channel) -> list[str]:
    answer = await PolicyServiceStub(channel).ListPolicies(
        policy_api.ListPoliciesRequest(page_size=MOST)
    )
    return [policy.name for policy in answer.policies]


async def _device_groups(channel: Channel) -> list[str]:
    answer = await PolicyServiceStub(channel).ListDeviceGroups(
        policy_api.ListDeviceGroupsRequest(page_size=MOST)
    )
    return [one.group.name for one in answer.groups]


async def _tenants(channel: Channel) -> list[str]:
    answer = await PolicyServiceStub(channel).ListTenants(
        policy_api.ListTenantsRequest(page_size=MOST)
    )
    return [tenant.name for tenant in answer.tenants]


async def _endpoints(channel: Channel) -> list[str]:
    answer = await PolicyServiceStub(channel).ListEndpoints(
        policy_api.ListEndpointsRequest(page_size=MOST)
    )
    return [endpoint.name for endpoint in answer.endpoints]


async def _changes(channel: Channel) -> list[str]:
    answer = await AuditServiceStub(channel).ListChanges(
        audit_api.ListChangesRequest(page_size=CHANGES_MOST)
    )
    return [str(change.revision) for change in answer.changes]


def _paths(groups: Sequence[topology_pb2.PrefixGroup]) -> Iterator[str]:
    for group in groups:
        yield group.path
        yield from _paths(group.groups)


KINDS: Final[Mapping[str, tuple[str, Callable[[Channel], Awaitable[list[str]]]]]] = {
    "nodes": ("topology", _nodes),
    "networks": ("topology", _networks),
    "groups": ("topology", _groups),
    "reservations": ("ipam", _reservations),
    "policies": ("policy", _policies),
    "device_groups": ("policy", _device_groups),
    "tenants": ("policy", _tenants),
    "endpoints": ("policy", _endpoints),
    "changes": ("topology", _changes),
}
"""Service and question, by kind."""
