"""Names of what people know by an address: nodes and endpoints of this node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from romana.agent.v1 import agent_service_pb2 as agent_api
from romana.agent.v1 import endpoint_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api

from services.common.model.addresses import looks_like_address
from services.common.rpc.node_addresses import all_addresses
from services.ctl.calls.remote import Remote
from services.ctl.calls.session import Session
from services.ctl.failures.failure import THOSE_HERE, Failure

if TYPE_CHECKING:
    from romana.agent.v1.agent_service_pb2_grpc import AgentServiceAsyncStub


async def node_name(session: Session, text: str) -> str:
    """The node that has an address, its main one or on a network; any other text is a name."""
    if not looks_like_address(text):
        return text
    topology = session.topology
    listed = await topology.every(
        topology.stub.ListNodes, topology_api.ListNodesRequest(), lambda page: page.nodes
    )
    names = [node.name for node in listed.items if _has(all_addresses(node), text)]
    return _one(names, text, "node", "NODE_NOT_FOUND")


async def endpoints(agent: Remote[AgentServiceAsyncStub]) -> Sequence[endpoint_pb2.Endpoint]:
    """All of this node."""
    listed = await agent.every(
        agent.stub.ListEndpoints, agent_api.ListEndpointsRequest(), lambda page: page.endpoints
    )
    return listed.items


async def endpoint_name(agent: Remote[AgentServiceAsyncStub], text: str) -> str:
    """The endpoint of this node that has an address; any other text is a name, and so is an address
    that an endpoint is named by."""
    if not looks_like_address(text):
        return text
    known = await endpoints(agent)
    if any(item.name == text for item in known):
        return text
    names = [item.name for item in known if _has((each.address for each in item.addresses), text)]
    return _one(names, text, "endpoint", "ENDPOINT_NOT_FOUND", hint=THOSE_HERE)


async def endpoint(agent: Remote[AgentServiceAsyncStub], text: str) -> endpoint_pb2.Endpoint:
    """The endpoint of this node with a name or an address."""
    name = await endpoint_name(agent, text)
    found = next((item for item in await endpoints(agent) if item.name == name), None)
    if found is None:
        raise Failure(
            f"there is no endpoint {name!r} on this node",
            status="NOT_FOUND",
            reason="ENDPOINT_NOT_FOUND",
            hint=THOSE_HERE,
        )
    return found


def _has(addresses: Iterable[str], text: str) -> bool:
    try:
        wanted = ip_address(text)
    except ValueError:
        return False
    return any(address and ip_address(address) == wanted for address in addresses)


def _one(names: Sequence[str], text: str, what: str, reason: str, *, hint: str = "") -> str:
    if not names:
        why = f"no {what} has the address {text}"
        raise Failure(why, status="NOT_FOUND", reason=reason, hint=hint)
    if len(names) > 1:
        raise Failure(
            f"several {what}s have the address {text}: {', '.join(names)}",
            status="FAILED_PRECONDITION",
            reason="NAME_NEEDED",
        )
    return names[0]
