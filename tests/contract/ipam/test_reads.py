"""Every method that looks, on both replicas."""

from __future__ import annotations

import grpc
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import FAMILY_IPV6, AddressSpec, Allocation
from romana.ipam.v1.block_pb2 import Block
from romana.ipam.v1.utilization_pb2 import AGENT_PRESENCE_ABSENT, AGENT_PRESENCE_CONNECTED

from tests.contract.ipam.asking import addresses_of, allocate, one, refused, spec
from tests.contract.ipam.conftest import Pair
from tests.support.ipam_process import poll
from tests.support.sync_agent import SyncAgent

BOTH = pytest.mark.parametrize("by", ["stub", "other"])


async def both_reached(pair: Pair) -> None:
    """Waits until the one that is not active has seen what the active one wrote."""
    status = await pair.active.status()
    assert status is not None
    await pair.standby.wait_until_reached(status.revision)


@BOTH
async def test_get_by_name_and_by_address(pair: Pair, by: str) -> None:
    await allocate(pair.stub, "a", "h1", "t", "s")
    await both_reached(pair)
    stub = getattr(pair, by)
    named = await stub.GetAddress(pb.GetAddressRequest(name="a"))
    found = await stub.GetAddress(pb.GetAddressRequest(address="10.0.0.0"))
    assert list(named.allocations) == list(found.allocations)
    assert (found.allocations[0].name, found.allocations[0].segment) == ("a", "s")


@BOTH
@pytest.mark.parametrize("key", [{"name": "nobody"}, {"address": "10.0.0.77"}])
async def test_get_of_what_is_not_there(pair: Pair, by: str, key: dict[str, str]) -> None:
    with refused() as said:
        await getattr(pair, by).GetAddress(pb.GetAddressRequest(**key))
    assert (said.code, said.reasons) == (grpc.StatusCode.NOT_FOUND, ["ALLOCATION_NOT_FOUND"])


@pytest.mark.parametrize(("key", "path"), [({}, "key"), ({"address": "10.0.0"}, "address")])
async def test_get_by_what_is_no_key(pair: Pair, key: dict[str, str], path: str) -> None:
    with refused() as said:
        await pair.stub.GetAddress(pb.GetAddressRequest(**key))
    assert (said.code, said.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [path])


@BOTH
async def test_addresses_in_pages_and_by_filter(pair: Pair, by: str) -> None:
    specs = [
        spec(f"n{number}", f"h{number % 2 + 1}", segment="sz"[number % 2]) for number in range(20)
    ]
    await pair.stub.AllocateAddresses(pb.AllocateAddressesRequest(specs=specs))
    await both_reached(pair)

    async def listed(**filters: object) -> list[Allocation]:
        found: list[Allocation] = []
        token = ""
        while True:
            page = await getattr(pair, by).ListAddresses(
                pb.ListAddressesRequest(page_size=3, page_token=token, **filters)  # type: ignore[arg-type]
            )
            assert len(page.allocations) <= 3
            found += page.allocations
            token = page.next_page_token
            if not token:
                return found

    everything = await listed()
    assert {item.name for item in everything} == {f"n{number}" for number in range(20)}
    assert len(everything) == 20
    assert len(await listed(node="h1")) == 10
    assert len(await listed(node="h1", segment="z")) == 0
    assert len(await listed(tenant="t", segment="z")) == 10
    assert len(await listed(network="six")) == 0
    assert {item.block for item in await listed(block="10.0.0.0/29")} == {"10.0.0.0/29"}


async def test_blocks_in_pages_and_by_filter(pair: Pair) -> None:
    for number in range(5):
        await one(pair.stub, f"n{number}", f"h{number % 2 + 1}", f"t{number}")
    found: list[Block] = []
    token = ""
    while True:
        page = await pair.stub.ListBlocks(
            pb.ListBlocksRequest(network="net", page_size=2, page_token=token)
        )
        found += page.blocks
        token = page.next_page_token
        if not token:
            break
    assert sorted(item.tenant for item in found) == ["t0", "t1", "t2", "t3", "t4"]
    assert {(item.size, item.used, item.group, item.stranded) for item in found} == {
        (8, 1, "dc/all", False)
    }
    assert all(item.revision for item in found)
    of_one = await pair.stub.ListBlocks(pb.ListBlocksRequest(node="h2", tenant="t1"))
    assert [item.tenant for item in of_one.blocks] == ["t1"]


@pytest.mark.parametrize("token", ["x", "bm90IGpzb24=", "WzEsIDJd"])
async def test_a_page_token_that_was_never_given_out(pair: Pair, token: str) -> None:
    with refused() as said:
        await pair.stub.ListAddresses(pb.ListAddressesRequest(page_token=token))
    assert (said.code, said.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


@BOTH
async def test_evaluation_of_nodes(pair: Pair, by: str) -> None:
    await one(pair.stub, "a", "h2")
    await both_reached(pair)
    found = await getattr(pair, by).EvaluateNodes(
        pb.EvaluateNodesRequest(tenant="t", network="net", nodes=["h1", "h2"])
    )
    best, other = found.evaluations
    assert (best.node, best.fits, best.free_in_blocks, best.new_block_needed) == (
        *("h2", True, 7),
        False,
    )
    assert (best.free_addresses, best.group, best.network) == (255, "dc/all", "net")
    assert (other.node, other.fits, other.free_addresses, other.new_block_needed) == (
        *("h1", True, 248),
        True,
    )


async def test_evaluation_of_a_family_and_with_a_limit(pair: Pair) -> None:
    found = await pair.stub.EvaluateNodes(
        pb.EvaluateNodesRequest(tenant="t", family=FAMILY_IPV6, limit=2)
    )
    assert [(item.node, item.fits) for item in found.evaluations] == [("h1", True), ("h2", True)]
    assert found.evaluations[0].free_addresses == 2**64 - 1
    found = await pair.stub.EvaluateNodes(
        pb.EvaluateNodesRequest(tenant="t", family=FAMILY_IPV6, nodes=["h3"])
    )
    assert not found.evaluations[0].fits
    assert found.evaluations[0].refusals


async def test_evaluation_of_several_addresses_at_once(pair: Pair) -> None:
    both = [AddressSpec(network="net"), AddressSpec(family=FAMILY_IPV6)]
    asked = pb.EvaluateNodesRequest(tenant="t", addresses=both, nodes=["h1", "h3"])
    fits, not_there = (await pair.stub.EvaluateNodes(asked)).evaluations
    assert (fits.node, fits.network, fits.free_addresses) == ("h1", "net", 256)
    assert [each.new_block_needed for each in fits.addresses] == [True, True]
    assert [each.free_addresses for each in fits.addresses] == [256, 2**64 - 1]
    assert (not_there.node, not_there.fits, len(not_there.addresses)) == ("h3", False, 0)


@BOTH
async def test_evaluation_says_whose_agent_is_there(pair: Pair, by: str) -> None:
    asked = pb.EvaluateNodesRequest(tenant="t", network="net", nodes=["h1", "h2"])

    async def only_h2_is_there() -> bool:
        found = await getattr(pair, by).EvaluateNodes(asked)
        return [(item.node, item.agent) for item in found.evaluations] == [
            ("h2", AGENT_PRESENCE_CONNECTED),
            ("h1", AGENT_PRESENCE_ABSENT),
        ]

    async with SyncAgent("h2", [pair.active.address]) as agent:
        await agent.until_in_sync()
        await poll(only_h2_is_there, 30)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"tenant": "t", "network": "net", "addresses": [AddressSpec()]}, "INVALID_INPUT"),
        ({"tenant": "t", "addresses": [AddressSpec(address="10.0.0.9")]}, "INVALID_INPUT"),
        ({"tenant": "t", "addresses": [AddressSpec()] * 17}, "INVALID_INPUT"),
        ({"tenant": "t", "network": "nowhere"}, "NETWORK_NOT_FOUND"),
        ({"tenant": "t", "nodes": ["nowhere"]}, "NODE_NOT_FOUND"),
        ({"tenant": ""}, "INVALID_INPUT"),
        ({"tenant": "t", "nodes": ["h1"] * 10_001}, "INVALID_INPUT"),
    ],
)
async def test_evaluation_of_what_is_not_there(
    pair: Pair, asked: dict[str, object], reason: str
) -> None:
    with refused() as said:
        await pair.stub.EvaluateNodes(pb.EvaluateNodesRequest(**asked))  # type: ignore[arg-type]
    assert said.reasons == [reason]


@BOTH
async def test_evaluation_of_groups_tells_what_is_different_since(pair: Pair, by: str) -> None:
    stub = getattr(pair, by)
    for name, node in (("a", "h1"), ("b", "h2")):
        await one(pair.stub, name, node)
    await both_reached(pair)
    asked = pb.EvaluateGroupsRequest(tenant="t", address=AddressSpec(network="net"))
    first = await stub.EvaluateGroups(asked)
    assert [(one.group, one.free_addresses) for one in first.groups] == [("dc/all", 240)]
    assert {(one.node, one.free_addresses) for one in first.holders} == {("h1", 7), ("h2", 7)}
    assert not first.is_partial
    await one(pair.stub, "c", "h2")
    await both_reached(pair)
    asked.known_state = first.state
    second = await stub.EvaluateGroups(asked)
    assert second.is_partial
    assert [(one.node, one.free_addresses) for one in second.holders] == [("h2", 6)]
    asked.known_state = "of another replica"
    assert len((await stub.EvaluateGroups(asked)).holders) == 2


@BOTH
async def test_utilization(pair: Pair, by: str) -> None:
    await one(pair.stub, "a")
    await one(pair.stub, "b", "h2", "u")
    await both_reached(pair)
    found = await getattr(pair, by).GetUtilization(
        pb.GetUtilizationRequest(network="net", include_nodes=True, include_owners=True)
    )
    (net,) = found.networks
    assert (net.network, net.cidr) == ("net", "10.0.0.0/24")
    assert (net.usage.size, net.usage.used, net.usage.blocks, net.usage.held) == (256, 2, 2, 16)
    assert [(item.group, item.usage.used, item.nodes) for item in net.groups] == [("dc/all", 2, 3)]
    assert [(item.node, item.usage.used, item.routes) for item in net.nodes] == [
        ("h1", 1, 1),
        ("h2", 1, 1),
    ]
    assert [(item.tenant, item.usage.used) for item in net.owners] == [("t", 1), ("u", 1)]


async def test_utilization_of_all_networks_in_file_order(pair: Pair) -> None:
    found = await pair.stub.GetUtilization(pb.GetUtilizationRequest())
    assert [item.network for item in found.networks] == ["net", "small", "slow", "six"]
    assert not any(item.nodes or item.owners for item in found.networks)
    with refused() as said:
        await pair.stub.GetUtilization(pb.GetUtilizationRequest(network="nowhere"))
    assert said.reasons == ["NETWORK_NOT_FOUND"]


@BOTH
async def test_routes_of_a_node(pair: Pair, by: str) -> None:
    await one(pair.stub, "a", "h1")
    await one(pair.stub, "b", "h2")
    await both_reached(pair)
    found = await getattr(pair, by).GetNodeRoutes(pb.GetNodeRoutesRequest(node="h1"))
    assert [item.node for item in found.own] == ["h1"]
    assert [(item.node, item.next_hop) for item in found.remote] == [("h2", "192.0.2.2")]
    with refused() as said:
        await pair.stub.GetNodeRoutes(pb.GetNodeRoutesRequest(node="nowhere"))
    assert (said.code, said.reasons) == (grpc.StatusCode.NOT_FOUND, ["NODE_NOT_FOUND"])


@BOTH
async def test_a_next_hop_is_of_its_networks_family(pair: Pair, by: str) -> None:
    """h2 has no address of IPv6: nothing leads to it there."""
    for node in ("h1", "h2"):
        await allocate(pair.stub, f"{node}/six", node, addresses=[AddressSpec(network="six")])
    await both_reached(pair)
    stub = getattr(pair, by)
    hops = {}
    for node in ("h1", "h2"):
        found = await stub.GetNodeRoutes(pb.GetNodeRoutesRequest(node=node))
        hops |= {item.node: item.next_hop for item in found.remote if item.network == "six"}
    assert hops == {"h1": "2001:db8:ffff::1", "h2": ""}


async def test_status_of_both(pair: Pair) -> None:
    await one(pair.stub, "a")
    await both_reached(pair)
    active = await pair.stub.GetStatus(pb.GetStatusRequest())
    other = await pair.other.GetStatus(pb.GetStatusRequest())
    assert (active.active, other.active) == (True, False)
    assert active.active_address == other.active_address == pair.active.address
    assert active.epoch == other.epoch != ""
    assert active.replica != other.replica
    assert (active.addresses, active.blocks) == (other.addresses, other.blocks)
    assert active.addresses == 1
    assert other.revision >= active.revision


async def test_what_is_read_after_an_answer_is_there(pair: Pair) -> None:
    for number in range(20):
        given = await one(pair.stub, f"n{number}")
        assert await addresses_of(pair.stub, f"n{number}") == [given]
