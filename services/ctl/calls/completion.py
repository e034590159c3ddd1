"""Names for the shell's completion: asked of the services, with little patience.

Completion must never hang, print or fail: whatever goes wrong, there are no suggestions.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import typer
from grpc.aio import Channel
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1 import topology_pb2, topology_service_pb2
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.rpc.channel import open_channel
from services.common.tls import TlsFiles
from services.ctl.calls import service_addresses

PATIENCE = 0.7
"""Seconds. Who pressed a key waits no longer."""

MOST = 1000
"""Names that are asked for; nobody reads more suggestions."""

TLS_OPTIONS = ("tls_ca", "tls_cert", "tls_key")

Asking = Callable[[Channel], Awaitable[list[str]]]


def nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "topology", _nodes))


def networks(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "topology", _networks))


def groups(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "topology", _groups))


def reservations(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "ipam", _reservations))


def policies(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "policy", _policies))


def tenants(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of tenants that something is known of."""
    return _matching(incomplete, _ask(ctx, "policy", _tenants))


def endpoints_known(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of endpoints that policy knows."""
    return _matching(incomplete, _ask(ctx, "policy", _endpoints))


def _matching(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _ask(ctx: typer.Context, service: str, asking: Asking) -> list[str]:
    typed = {name: str(value or "") for name, value in ctx.params.items()}
    files = [Path(typed[name]) for name in TLS_OPTIONS if typed.get(name)]

    async def bounded() -> list[str]:
        found = service_addresses.find(
            typed.get("topology_address", ""),
            typed.get("ipam_address", ""),
            os.environ,
            policy=typed.get("policy_address", ""),
        )
        target = {"topology": found.topology, "ipam": found.ipam, "policy": found.policy}[service]
        named = TlsFiles(files[0], files[1], files[2]) if len(files) == len(TLS_OPTIONS) else None
        tls = named or found.tls
        async with (
            asyncio.timeout(PATIENCE),
            open_channel(target, tls=tls, insecure=ctx.params.get("insecure", False)) as channel,
        ):
            return await asking(channel)

    try:
        return asyncio.run(bounded())
    except Exception:  # noqa: BLE001  # the top of a completion: no suggestions, no noise
        return []


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


def _paths(groups: Sequence[topology_pb2.PrefixGroup]) -> Iterator[str]:
    for group in groups:
        yield group.path
        yield from _paths(group.groups)
