"""A connection of the kind that a rule decides, to be explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from romana.policy.v1 import endpoint_pb2, policy_pb2, selector_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.topology.v1 import network_pb2

from services.console.calls.questions import Questions

CANDIDATES: Final = 50
"""Endpoints among which one is looked for that has its address by now."""


@dataclass(frozen=True, slots=True)
class Example:
    """What is known of it; empty: the rule does not say, or nothing of the kind is there."""

    source: str
    destination: str
    protocol: str
    port: int


async def example(
    questions: Questions,
    policy: policy_pb2.Policy,
    direction: str,
    rule: policy_pb2.Rule | None,
    networks: Mapping[str, network_pb2.Network],
) -> Example:
    """Of a rule; without one, of a policy none of whose rules matched."""
    target = ""
    for each in policy.targets:
        target = target or (
            await _endpoint(questions, each.endpoints, ())
            if each.HasField("endpoints")
            else _node(each.nodes)
        )
    other = ""
    for peer in rule.peers if rule is not None else ():
        other = other or await _peer(questions, peer, networks, target)
    ports = rule.ports if rule is not None else ()
    protocol, port = "", 0
    if ports:
        name = policy_pb2.Protocol.Name(ports[0].protocol)
        protocol, port = name.removeprefix("PROTOCOL_").lower(), ports[0].port
    if protocol == "unspecified":
        protocol = ""
    source, destination = (other, target) if direction == "ingress" else (target, other)
    return Example(source, destination, protocol, port)


async def _peer(
    questions: Questions,
    peer: policy_pb2.Peer,
    networks: Mapping[str, network_pb2.Network],
    other: str,
) -> str:
    match peer.WhichOneof("peer"):
        case "endpoints":
            return await _endpoint(questions, peer.endpoints, (other,))
        case "nodes":
            return _node(peer.nodes)
        case "cidr":
            return _address(peer.cidr.cidr, getattr(peer.cidr, "except"))
        case "network":
            network = networks.get(peer.network)
            return _address(network.cidr, ()) if network is not None else ""
        case _:
            return ""


async def _endpoint(
    questions: Questions, selector: selector_pb2.EndpointSelector, without: Sequence[str]
) -> str:
    """The first that is attached and selected; none where a filter cannot ask for that."""
    if selector.networks or selector.HasField("tenant_labels") or selector.labels.match_expressions:
        return ""
    for tenant in selector.tenants or [""]:
        for segment in selector.segments or [""]:
            found, _ = await questions.endpoints(
                api.EndpointFilter(
                    tenant=tenant, segment=segment, labels=selector.labels.match_labels
                ),
                CANDIDATES,
            )
            if names := [one.name for one in found if _is_there(one) and one.name not in without]:
                return names[0]
    return ""


def _is_there(endpoint: endpoint_pb2.PolicyEndpoint) -> bool:
    return bool(endpoint.addresses)


def _node(selector: selector_pb2.NodeSelector) -> str:
    return f"node:{selector.names[0]}" if selector.names else ""


def _address(cidr: str, without: Sequence[str]) -> str:
    """The first address of a host that is meant; none if these begin with what is not."""
    inside = ip_network(cidr)
    address = inside.network_address + (1 if inside.num_addresses > 2 else 0)
    if any(ip_address(address) in ip_network(each) for each in without):
        return ""
    return str(address)
