"""Tenants and endpoints: what orchestrators and agents say, and what comes of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from romana.policy.v1 import endpoint_pb2, explain_pb2, policy_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.rpc.status import error_of
from tests.contract.policy.conftest import Pair
from tests.support.ipam_process import drop_nodes, poll, seed
from tests.support.ipam_records import allocations, release, written
from tests.support.policy_process import claim, endpoint, of_tenant, policy, report
from tests.support.topologies import node

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub


async def get(stub: PolicyServiceAsyncStub, name: str) -> endpoint_pb2.PolicyEndpoint | None:
    try:
        return (await stub.GetEndpoint(api.GetEndpointRequest(name=name))).endpoint
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return None


async def put(pair: Pair, *endpoints: endpoint_pb2.PolicyEndpoint) -> list[int]:
    answer = await pair.stub.PutEndpoints(api.PutEndpointsRequest(endpoints=endpoints))
    return [one.code for one in answer.results]


async def names(pair: Pair, **wanted: object) -> list[str]:
    request = api.ListEndpointsRequest(filter=api.EndpointFilter(**wanted))
    return [one.name for one in (await pair.stub.ListEndpoints(request)).endpoints]


async def test_an_endpoint_may_be_known_before_it_is_attached(pair: Pair) -> None:
    assert await put(pair, endpoint("e", "10.0.0.9", labels={"app": "web"})) == [0]
    before = await get(pair.stub, "e")
    assert before is not None
    assert (before.node, list(before.addresses)) == ("", []), "these are for the agent to say"
    await report(pair, "h1", endpoint("e", "10.0.0.1"))
    after = await get(pair.stub, "e")
    assert after is not None
    assert (after.node, list(after.addresses)) == ("h1", ["10.0.0.1"])


async def test_what_an_orchestrator_said_goes_before_what_the_agent_says(pair: Pair) -> None:
    said_by_agent = endpoint("e", "10.0.0.1", tenant="old", labels={"app": "old", "left": "over"})
    said_by_agent.ports.add(name="http", protocol="TCP", port=80)
    await report(pair, "h1", said_by_agent)
    await put(pair, endpoint("e", tenant="new", labels={"app": "new"}))
    merged = await get(pair.stub, "e")
    assert merged is not None
    assert (merged.tenant, dict(merged.labels)) == ("new", {"app": "new"})
    assert not merged.ports
    assert merged.node == "h1"
    await pair.stub.DeleteEndpoint(api.DeleteEndpointRequest(name="e", etag=merged.etag))
    left = await get(pair.stub, "e")
    assert left is not None
    assert (left.tenant, left.etag) == ("old", "")
    await pair.stub.DeleteEndpoint(api.DeleteEndpointRequest(name="e"))


async def test_one_whose_labels_follow_is_not_known_before_they_are_said(pair: Pair) -> None:
    attached = endpoint("e", "10.0.0.1")
    attached.labels_follow = True
    await report(pair, "h1", attached)
    assert await get(pair.stub, "e") is None
    await put(pair, endpoint("e", labels={"app": "web"}))
    after = await get(pair.stub, "e")
    assert after is not None
    assert (after.node, dict(after.labels)) == ("h1", {"app": "web"})


async def test_a_complete_report_says_what_is_gone(pair: Pair) -> None:
    await report(pair, "h1", endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2"))
    await report(pair, "h2", endpoint("c", "10.0.0.3"))
    await report(pair, "h1", endpoint("d", "10.0.0.4"))
    assert await names(pair) == ["a", "b", "c", "d"]
    await report(pair, "h1", endpoint("b", "10.0.0.2"), complete=True)
    assert await names(pair) == ["b", "c"]
    await report(pair, "h1", detached=["b", "c", "never"])
    assert await names(pair) == ["c"], "one that is attached elsewhere is not this node's to detach"


async def disputed(pair: Pair) -> list[str]:
    return list((await pair.stub.GetStatus(api.GetStatusRequest())).disputed)


async def test_a_node_cannot_claim_an_endpoint_of_another(pair: Pair) -> None:
    """However often, with whatever address and labels, and whether it was there before or not."""
    await claim(pair.stub, "h1", endpoint("e", "10.0.0.1"))
    assert await names(pair) == []
    await report(pair, "h2", endpoint("e", "10.0.0.1"))
    for address in ("10.0.0.1", "10.0.0.9"):
        await claim(pair.stub, "h1", endpoint("e", address, labels={"app": "db"}))
        found = await get(pair.stub, "e")
        assert found is not None
        assert (found.node, list(found.addresses)) == ("h2", ["10.0.0.1"])
        assert not found.labels
    (why,) = await disputed(pair)
    assert why == "e on h1: 10.0.0.9 is not allocated to it"
    await claim(pair.stub, "h1", detached=["e"])
    assert await names(pair, node="h2") == ["e"]
    assert await disputed(pair) == []


async def test_a_node_puts_no_address_into_a_group_that_it_was_not_given(pair: Pair) -> None:
    await report(pair, "h2", endpoint("db", "10.0.0.5", tenant="u"))
    await report(pair, "h1", endpoint("e", "10.0.0.1"))
    for addresses in (["10.0.0.5"], ["10.0.0.7"]):
        await claim(pair.stub, "h1", endpoint("e", "10.0.0.1", *addresses))
        found = await get(pair.stub, "e")
        assert found is not None
        assert list(found.addresses) == ["10.0.0.1"]
    await claim(pair.stub, "h1", endpoint("f", "10.0.0.5"), endpoint("g"))
    assert await names(pair) == ["db", "e"]
    assert await disputed(pair) == [
        "e on h1: 10.0.0.7 is not allocated to it",
        "f on h1: 10.0.0.5 is not allocated to it",
        "g on h1: it has no address",
    ]


async def test_addresses_have_the_name_in_ipam_that_the_orchestrator_says(pair: Pair) -> None:
    wanted = endpoint("e", tenant="t")
    wanted.wanted.CopyFrom(endpoint_pb2.WantedAttachment(node="h1", allocation="name"))
    await put(pair, wanted)

    async def give(node: str) -> None:
        given = endpoint("name", "10.0.0.1", tenant="t")
        await written(pair.client, pair.keys, allocations(pair.keys, node, [given]))

    async def addresses() -> list[str]:
        found = await get(pair.stub, "e")
        return [] if found is None else list(found.addresses)

    async def has_it() -> bool:
        return await addresses() == ["10.0.0.1"]

    async def has_none() -> bool:
        return await addresses() == []

    await claim(pair.stub, "h1", endpoint("e", "10.0.0.1", tenant="t"))
    assert await has_none()
    await give("h1")
    await poll(has_it, 20)
    await give("h2")
    await poll(has_none, 20)


@pytest.mark.parametrize(("first", "then"), [("name", ""), ("", "name")])
async def test_what_is_attached_keeps_the_name_in_ipam_that_was_said_first(
    pair: Pair, first: str, then: str
) -> None:
    async def want(node: str, allocation: str) -> endpoint_pb2.PolicyEndpoint:
        wanted = endpoint("e", tenant="t")
        wanted.wanted.CopyFrom(endpoint_pb2.WantedAttachment(node=node, allocation=allocation))
        assert await put(pair, wanted) == [0]
        found = await get(pair.stub, "e")
        assert found is not None
        return found

    await want("h1", first)
    given = endpoint(first or "e", "10.0.0.1", tenant="t")
    await written(pair.client, pair.keys, allocations(pair.keys, "h1", [given]))
    await claim(pair.stub, "h1", endpoint("e", "10.0.0.1", tenant="t"))
    found = await want("h1", then)
    assert (found.wanted.allocation, list(found.addresses)) == (first, ["10.0.0.1"])
    assert (await want("h2", then)).wanted.allocation == then, "it is attached anew there"


async def test_a_node_does_not_give_its_endpoint_to_another_tenant(pair: Pair) -> None:
    await report(pair, "h1", endpoint("e", "10.0.0.1", tenant="t"))
    await claim(pair.stub, "h1", endpoint("e", "10.0.0.1", tenant="admin"))
    assert await names(pair) == []
    assert "is allocated to tenant 't'" in (await disputed(pair))[0]


async def test_what_ipam_takes_back_is_not_believed_any_more(pair: Pair) -> None:
    """Before its agent says so; and the next who has the address is believed at once."""
    await report(pair, "h1", endpoint("e", "10.0.0.1"))
    await written(pair.client, pair.keys, [release(pair.keys, "10.0.0.1")])

    async def gone() -> bool:
        return await names(pair) == []

    await poll(gone, 20)
    await report(pair, "h2", endpoint("next", "10.0.0.1"))
    assert await names(pair) == ["next"]
    await report(pair, "h1", endpoint("e", "10.0.0.2"))
    assert await names(pair) == ["e", "next"]


async def test_of_two_stacks_each_is_compared(pair: Pair) -> None:
    await report(pair, "h1", endpoint("e", "10.0.0.1", "2001:db8::5"))
    found = await get(pair.stub, "e")
    assert found is not None
    assert list(found.addresses) == ["10.0.0.1", "2001:db8::5"]
    await claim(pair.stub, "h1", endpoint("e", "2001:db8::6", "10.0.0.1"))
    left = await get(pair.stub, "e")
    assert left is not None
    assert list(left.addresses) == ["10.0.0.1"]


async def test_a_node_has_a_bounded_number_of_endpoints(pair: Pair) -> None:
    many = [endpoint(f"n{number}") for number in range(10_000)]
    await claim(pair.stub, "h1", *many)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await claim(pair.stub, "h1", endpoint("one-more"))
    assert error_of(raised.value).reason == "TOO_MANY_ENDPOINTS"
    await claim(pair.stub, "h1", complete=True)
    await claim(pair.stub, "h1", endpoint("one-more"))


async def test_endpoints_of_a_node_count_while_it_is_registered(pair: Pair) -> None:
    await report(pair, "h9", endpoint("e", "10.0.0.1"))
    assert await names(pair) == []
    await seed(pair.client, pair.keys, nodes=[node("h9", address="192.0.2.9")])

    async def listed(wanted: list[str]) -> bool:
        return await names(pair) == wanted

    await poll(lambda: listed(["e"]), 10)
    await drop_nodes(pair.client, pair.keys, ["h9"])
    await poll(lambda: listed([]), 10)


async def test_each_of_a_batch_has_its_own_result(pair: Pair) -> None:
    wrong = endpoint("wrong", tenant="")
    stale = endpoint("stale")
    stale.etag = "7"
    codes = await put(pair, endpoint("good"), wrong, stale, *map(endpoint, map(str, range(300))))
    assert codes[:4] == [0, 3, 10, 0]
    assert len(codes) == 303
    assert (await pair.stub.GetStatus(api.GetStatusRequest())).endpoints == 301


async def test_a_wrong_report_is_refused_as_a_whole(pair: Pair) -> None:
    wrong = endpoint("b", "10.0.0.300")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await claim(pair.stub, "h1", endpoint("a", "10.0.0.1"), wrong)
    error = error_of(caught.value)
    assert [one.path for one in getattr(error, "violations", ())] == ["attached[1].addresses[0]"]
    assert await names(pair) == []


async def test_tenants_are_put_listed_and_forgotten(pair: Pair) -> None:
    wanted = endpoint_pb2.Tenant(
        name="t", labels={"team": "red"}, isolation=endpoint_pb2.ISOLATION_SEGMENT
    )
    answer = await pair.stub.PutTenants(
        api.PutTenantsRequest(tenants=[wanted, endpoint_pb2.Tenant(name="no/name")])
    )
    assert [one.code for one in answer.results] == [0, 3]
    (read,) = (await pair.stub.ListTenants(api.ListTenantsRequest())).tenants
    assert (read.name, dict(read.labels), read.isolation) == ("t", {"team": "red"}, 3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pair.stub.DeleteTenant(api.DeleteTenantRequest(name="t", etag="1"))
    assert caught.value.code() is grpc.StatusCode.ABORTED
    await pair.stub.DeleteTenant(api.DeleteTenantRequest(name="t", etag=read.etag))
    await pair.stub.DeleteTenant(api.DeleteTenantRequest(name="t"))
    assert not (await pair.stub.ListTenants(api.ListTenantsRequest())).tenants


async def test_policies_of_an_endpoint_and_what_they_come_to(pair: Pair) -> None:
    await report(pair, "h1", endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2", tenant="u"))
    await report(pair, "h2", endpoint("c", "10.0.0.3", tenant="v"))
    await pair.stub.CreatePolicy(
        api.CreatePolicyRequest(policy=policy("from-u", peer=of_tenant("u")))
    )
    found = await pair.stub.GetEndpoint(api.GetEndpointRequest(name="a"))
    assert (list(found.ingress_policies), list(found.egress_policies)) == (["from-u"], [])
    listed = await pair.stub.ListPolicies(api.ListPoliciesRequest(endpoint="b"))
    assert not listed.policies

    connection = explain_pb2.Connection(
        source=explain_pb2.Party(address="10.0.0.3"),
        destination=explain_pb2.Party(endpoint="a"),
        protocol=policy_pb2.PROTOCOL_TCP,
        port=80,
    )
    (one,) = (await pair.stub.Explain(api.ExplainRequest(connection=connection))).explanations
    assert one.action == policy_pb2.RULE_ACTION_DENY
    assert list(one.unrealized_nodes) == ["h1", "h2"]

    answer = await pair.stub.GetMatrix(api.GetMatrixRequest(port=80))
    allow, deny = policy_pb2.RULE_ACTION_ALLOW, policy_pb2.RULE_ACTION_DENY
    assert list(answer.destinations) == ["a", "b", "c"]
    assert {row.source: list(row.actions) for row in answer.rows} == {
        "a": [allow, allow, allow],
        "b": [allow, allow, allow],
        "c": [deny, allow, allow],
    }
