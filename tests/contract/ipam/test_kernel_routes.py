"""What a kernel has of routes is asked of the node's agent, on whichever replica its stream is."""

from __future__ import annotations

import ipaddress

import grpc
import pytest
from romana.ipam.v1 import ipam_service_pb2 as api
from romana.ipam.v1 import sync_routes_pb2 as pb

from services.agent.routing.in_kernel import InKernel, RouteThere
from services.agent.routing.messages import kernel_parts
from services.agent.streams.answering import Difference, Kind, answering
from services.common.model.names import NetworkName, NodeName
from services.common.rpc.kernel_text import routes_beside_told
from services.common.rpc.status import error_of
from services.common.sync.stream_client import Answering
from tests.contract.ipam.asking import allocate
from tests.contract.ipam.conftest import Pair
from tests.support.sync_agent import SyncAgent

ANYWHERE = pytest.mark.parametrize("at", ["stub", "other"])


def answers(*found: RouteThere, differences: tuple[Difference, ...] = ()) -> Answering:
    async def look() -> InKernel:
        return InKernel(found, differences)

    return answering(
        look, kernel_parts, pb.KernelRoutes, lambda part: pb.SyncRoutesRequest(kernel=part)
    )


def there(*, there: bool = True, next_hop: str = "192.0.2.2") -> RouteThere:
    return RouteThere(
        NetworkName("net"),
        ipaddress.ip_network("10.0.0.0/24"),
        NodeName("h2"),
        kept=True,
        there=there,
        next_hop=ipaddress.ip_address(next_hop),
        interface="eth0",
    )


async def ask(pair: Pair, at: str, node: str = "h1") -> api.GetKernelRoutesResponse:
    request = api.GetKernelRoutesRequest(node=node)
    answer: api.GetKernelRoutesResponse = await getattr(pair, at).GetKernelRoutes(
        request, timeout=30
    )
    return answer


async def refusal(pair: Pair, at: str, node: str = "h1") -> tuple[grpc.StatusCode, str]:
    """Code and reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(pair, at, node)
    return caught.value.code(), error_of(caught.value).reason


@ANYWHERE
@pytest.mark.parametrize("by", ["active", "standby"])
async def test_any_replica_says_what_a_kernel_has(pair: Pair, at: str, by: str) -> None:
    await allocate(pair.stub, "a", "h2", "t", "s")
    address = getattr(pair, by).address
    async with SyncAgent("h1", [address], answering=answers(there())) as agent:
        await agent.until(lambda: "route/net/10.0.0.0/24" in agent.ids)
        answer = await ask(pair, at)
        told = await getattr(pair, at).GetNodeRoutes(api.GetNodeRoutesRequest(node="h1"))
    assert answer.holds_all
    found = routes_beside_told(told, answer)
    assert found.agrees, found
    assert [(one.route.prefix, one.kernel, one.interface) for one in found.items] == [
        ("10.0.0.0/24", "yes", "eth0")
    ]


async def test_what_a_kernel_lacks_is_told(pair: Pair) -> None:
    await allocate(pair.stub, "a", "h2", "t", "s")
    lack = Difference(Kind.MISSING, "route 10.0.0.0/24 of network net")
    kernel = answers(there(there=False), differences=(lack,))
    async with SyncAgent("h1", [pair.standby.address], answering=kernel) as agent:
        await agent.until(lambda: "route/net/10.0.0.0/24" in agent.ids)
        answer = await ask(pair, "stub")
        told = await pair.stub.GetNodeRoutes(api.GetNodeRoutesRequest(node="h1"))
    found = routes_beside_told(told, answer)
    assert not found.agrees
    assert [one.kernel for one in found.items] == ["no"]
    assert [(one.how, one.what) for one in found.differences] == [
        ("missing", "route 10.0.0.0/24 of network net")
    ]


@ANYWHERE
async def test_who_cannot_be_asked_is_told_apart(pair: Pair, at: str) -> None:
    state = grpc.StatusCode.FAILED_PRECONDITION
    assert await refusal(pair, at, "nobody") == (grpc.StatusCode.NOT_FOUND, "NODE_NOT_FOUND")
    assert await refusal(pair, at, "h3") == (state, "AGENT_AWAY")
    async with SyncAgent("h2", [pair.active.address]) as agent:
        await agent.until_in_sync()
        assert await refusal(pair, at, "h2") == (state, "AGENT_TOO_OLD")
