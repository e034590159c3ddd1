"""Agents' streams of rules, on both replicas, and who has applied what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from romana.ipam.v1 import allocation_pb2
from romana.policy.v1 import endpoint_pb2, policy_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1 import sync_rules_pb2 as pb

from services.common.model.network import Isolation
from services.common.sync.model import Failure
from tests.contract.policy.conftest import Pair
from tests.support.ipam_process import poll, seed
from tests.support.ipam_records import allocation, release, written
from tests.support.policy_process import endpoint, of_tenant, policy, report, rules_agent
from tests.support.sync_agent import SyncAgent
from tests.support.topologies import layout, network


@pytest.fixture
async def first(pair: Pair) -> AsyncIterator[SyncAgent]:
    """h1's agent at the first replica."""
    async with rules_agent("h1", [pair.first.address]) as agent:
        await agent.until_in_sync()
        yield agent


async def create(pair: Pair, message: policy_pb2.Policy) -> policy_pb2.Policy:
    return (await pair.stub.CreatePolicy(api.CreatePolicyRequest(policy=message))).policy


def rule_sets(agent: SyncAgent) -> dict[str, pb.RuleSet]:
    """By the policy they came of."""
    return {
        item.rules.policy: item.rules
        for item in agent.kernel.values()
        if item.WhichOneof("resource") == "rules"
    }


def members(agent: SyncAgent) -> set[str]:
    """Addresses of all groups, as text of IPv4."""
    found = set()
    for item in agent.kernel.values():
        if item.WhichOneof("resource") == "page":
            base = int.from_bytes(item.page.base, "big")
            found |= {
                ".".join(map(str, (base + bit).to_bytes(4, "big")))
                for bit in range(64)
                if item.page.members >> bit & 1
            }
    return found


async def realized(pair: Pair, name: str, *, stub: str = "stub") -> tuple[int, int]:
    """Nodes that need a policy, and those of them that have applied it."""
    answer = await getattr(pair, stub).GetRealization(api.GetRealizationRequest(policies=[name]))
    return answer.policies[0].needed, answer.policies[0].applied


async def test_a_node_gets_what_its_endpoints_need_and_no_more(
    pair: Pair, first: SyncAgent
) -> None:
    assert first.ids == {"network/net", "network/six"}
    await create(pair, policy("p", peer=of_tenant("u")))
    await create(pair, policy("q", of_tenant("elsewhere")))
    await report(pair, "h2", endpoint("far", "10.0.0.9", tenant="u"))
    await report(pair, "h1", endpoint("near", "10.0.0.1"))
    await first.until(lambda: "endpoint/near" in first.ids)
    rules = rule_sets(first)
    assert set(rules) == {"p"}
    assert list(first.kernel["endpoint/near"].endpoint.ingress.rule_sets) == [rules["p"].id]
    assert members(first) == {"10.0.0.9"}
    assert "endpoint/far" not in first.ids


async def test_changes_come_as_differences_and_members_as_pages(
    pair: Pair, first: SyncAgent
) -> None:
    await create(pair, policy("p", peer=of_tenant("u", app="web")))
    await report(pair, "h1", endpoint("near", "10.0.0.1"))
    web, other = {"app": "web"}, {"app": "db"}
    await report(pair, "h2", endpoint("far", "10.0.0.9", tenant="u", labels=other))
    await first.until(lambda: "endpoint/near" in first.ids)
    await report(pair, "h2", endpoint("far", "10.0.0.9", tenant="u", labels=web))
    await first.until(lambda: members(first) == {"10.0.0.9"})
    assert len(first.batches[-1].updated) == 1, "a changed label is one page"
    before = len(first.batches)
    await report(pair, "h1", detached=["near"])
    await first.until(lambda: not rule_sets(first))
    assert first.ids == {"network/net", "network/six"}
    assert not any(batch.snapshot for batch in first.batches[1:])
    assert len(first.batches) == before + 1, "what is gone with its topic goes at once"


async def test_rules_and_who_needs_them_come_in_one_batch(pair: Pair, first: SyncAgent) -> None:
    await report(pair, "h1", endpoint("near", "10.0.0.1"))
    await first.until(lambda: "endpoint/near" in first.ids)
    await create(pair, policy("p"))
    await first.until(lambda: bool(rule_sets(first)))
    rules = rule_sets(first)["p"].id
    assert set(first.batches[-1].updated) == {f"rules/{rules}", "endpoint/near"}
    await pair.stub.UpdatePolicy(api.UpdatePolicyRequest(policy=policy("p", peer=of_tenant("u"))))
    await first.until(lambda: rule_sets(first)["p"].id != rules)
    assert set(first.batches[-1].removed) == {f"rules/{rules}"}


async def test_isolation_of_a_network_is_one_setting(pair: Pair, first: SyncAgent) -> None:
    await report(pair, "h1", endpoint("near", "10.0.0.1"))
    apart = network("net", "10.0.0.0/24", 29, isolation=Isolation.TENANT, masquerade=True)
    await seed(pair.client, pair.keys, layout([apart]))
    await first.until(lambda: bool(rule_sets(first)))
    (rules,) = rule_sets(first).values()
    assert rules.tier == policy_pb2.POLICY_TIER_BASELINE
    assert rules.policy.startswith("isolation/")
    await first.until(lambda: first.kernel["network/net"].network.masquerade)


def blocks(agent: SyncAgent, group: str) -> set[str]:
    """Of a group that is made of blocks."""
    return {
        item.block.cidr
        for item in agent.kernel.values()
        if item.WhichOneof("resource") == "block" and item.block.group == group
    }


async def test_a_node_knows_whose_a_block_is_before_an_endpoint_is_in_it(
    pair: Pair, first: SyncAgent
) -> None:
    await report(pair, "h1", endpoint("near", "10.0.0.1"))
    await pair.stub.PutTenants(
        api.PutTenantsRequest(
            tenants=[endpoint_pb2.Tenant(name="t", isolation=endpoint_pb2.ISOLATION_TENANT)]
        )
    )
    await first.until(lambda: bool(rule_sets(first)))
    (rules,) = rule_sets(first).values()
    own, others = rules.rules
    assert (own.action, others.action) == (
        policy_pb2.RULE_ACTION_ALLOW,
        policy_pb2.RULE_ACTION_DENY,
    )
    assert own.owned[0].known
    assert not others.owned[0].known
    used = allocation(pair.keys, "10.0.0.77", "not-reported", "h2", "u")
    await written(pair.client, pair.keys, [used])
    await first.until(lambda: "10.0.0.77/32" in blocks(first, others.owned[0].blocks))
    assert blocks(first, own.owned[0].blocks) == {"10.0.0.1/32"}
    assert "10.0.0.77" not in members(first)
    await written(pair.client, pair.keys, [release(pair.keys, "10.0.0.77")])
    await first.until(lambda: "10.0.0.77/32" not in blocks(first, others.owned[0].blocks))


async def test_rules_say_for_which_attach_they_are(pair: Pair, first: SyncAgent) -> None:
    for instance, labels in (("one", {}), ("two", {}), ("three", {"app": "web"})):
        again = endpoint("near", "10.0.0.1", labels=labels)
        again.instance = instance
        await report(pair, "h1", again)
        await first.until(
            lambda instance=instance: (
                "endpoint/near" in first.ids  # type: ignore[misc]
                and first.kernel["endpoint/near"].endpoint.instance == instance
            )
        )


async def test_realization_counts_agents_of_all_replicas(pair: Pair, first: SyncAgent) -> None:
    await create(pair, policy("counted"))
    for number in (1, 2, 3):
        await report(pair, f"h{number}", endpoint(f"e{number}", f"10.0.0.{number}"))
    await first.until(lambda: bool(rule_sets(first)))
    async with rules_agent("h2", [pair.second.address]) as second:
        await second.until(lambda: bool(rule_sets(second)))
        for stub in ("stub", "other"):
            await poll(lambda stub=stub: _is(realized(pair, "counted", stub=stub), (3, 2)), 10)
        answer = await pair.other.GetRealization(api.GetRealizationRequest())
        assert [one.node for one in answer.nodes] == ["h1", "h2"]
        assert list(answer.policies[0].missing) == ["h3"]
        assert all(one.current and one.connected for one in answer.nodes)


async def _is(asked: object, wanted: object) -> bool:
    return bool(await asked == wanted)  # type: ignore[misc]


async def test_a_node_that_has_not_applied_a_change_is_missing(
    pair: Pair, first: SyncAgent
) -> None:
    await report(pair, "h1", endpoint("e", "10.0.0.1"))
    await create(pair, policy("p"))
    await poll(lambda: _is(realized(pair, "p"), (1, 1)), 10)
    held = first.hold = _Gate()
    await pair.stub.UpdatePolicy(api.UpdatePolicyRequest(policy=policy("p", peer=of_tenant("u"))))
    assert await realized(pair, "p") == (1, 0)
    held.open()
    await poll(lambda: _is(realized(pair, "p"), (1, 1)), 10)


class _Gate:
    """Holds up what an agent applies."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def open(self) -> None:
        self._event.set()

    async def __call__(self) -> None:
        await self._event.wait()


async def test_failures_name_the_policy(pair: Pair, first: SyncAgent) -> None:
    await report(pair, "h1", endpoint("e", "10.0.0.1"))
    await create(pair, policy("p"))
    await first.until(lambda: bool(rule_sets(first)))
    first.client.report([Failure(f"rules/{rule_sets(first)['p'].id}", "NFT_FAILED", "no")])

    async def failed() -> bool:
        answer = await pair.other.GetRealization(api.GetRealizationRequest(policies=["p"]))
        return [one.reason for one in answer.policies[0].failures] == ["NFT_FAILED"]

    await poll(failed, 10)


@pytest.mark.parametrize("at", ["first", "second"])
async def test_agents_resume_where_they_were_at_any_replica(pair: Pair, at: str) -> None:
    await create(pair, policy("p"))
    await report(pair, "h1", endpoint("e", "10.0.0.1"))
    async with rules_agent("h1", [pair.first.address]) as agent:
        await agent.until(lambda: bool(rule_sets(agent)))
    await create(pair, policy("q", of_tenant("u")))
    async with rules_agent("h1", [getattr(pair, at).address], agent.receiver) as again:
        await again.until_in_sync()
        assert not any(batch.snapshot for batch in again.batches)


async def test_agents_resume_at_a_replica_that_was_killed(pair: Pair, first: SyncAgent) -> None:
    await create(pair, policy("p"))
    await report(pair, "h1", endpoint("e", "10.0.0.1"))
    await first.until(lambda: bool(rule_sets(first)))
    pair.first.kill()
    await pair.other.GetRealization(api.GetRealizationRequest())
    pair.first.start()
    await pair.first.wait_until_serving()
    await first.until(lambda: bool(first.errors))
    await first.until_in_sync()
    assert sum(batch.snapshot for batch in first.batches) == 1


async def test_the_first_message_has_to_be_a_hello(pair: Pair) -> None:
    call = pair.stub.SyncRules()
    await call.write(pb.SyncRulesRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def put(pair: Pair, name: str, node: str = "", **attachment: object) -> None:
    message = endpoint(name, labels={"app": "web"})
    if node:
        wanted = endpoint_pb2.WantedAttachment(node=node, **attachment)  # type: ignore[arg-type]
        message.wanted.CopyFrom(wanted)
    answer = await pair.stub.PutEndpoints(api.PutEndpointsRequest(endpoints=[message]))
    assert not answer.results[0].code, answer


async def test_a_node_is_told_what_is_wanted_there_until_it_is_no_longer(
    pair: Pair, first: SyncAgent
) -> None:
    addresses = [allocation_pb2.AddressSpec(network="net", address="10.0.0.7")]
    await put(pair, "pod/t/a/1", "h1", addresses=addresses, allocation="pod/t/a")
    await put(pair, "pod/t/b/2", "h2")
    await first.until(lambda: "wanted/pod/t/a/1" in first.ids)
    said = first.kernel["wanted/pod/t/a/1"].wanted
    assert (said.name, said.tenant, dict(said.labels)) == ("pod/t/a/1", "t", {"app": "web"})
    assert list(said.attachment.addresses) == addresses
    assert said.attachment.allocation == "pod/t/a"
    assert "wanted/pod/t/b/2" not in first.ids
    known = await pair.other.GetEndpoint(api.GetEndpointRequest(name="pod/t/a/1"))
    assert known.endpoint.wanted == said.attachment

    await put(pair, "pod/t/b/2", "h1", ending=True, refusal="no")
    await first.until(lambda: "wanted/pod/t/b/2" in first.ids)
    await put(pair, "pod/t/a/1")
    await pair.stub.DeleteEndpoint(api.DeleteEndpointRequest(name="pod/t/b/2"))
    await first.until(lambda: not any(one.startswith("wanted/") for one in first.ids))


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ({"node": ""}, "endpoints[0].wanted.node"),
        (
            {"node": "h1", "addresses": [allocation_pb2.AddressSpec(address="10.0.0")]},
            "endpoints[0].wanted.addresses[0].address",
        ),
        (
            {
                "node": "h1",
                "addresses": [
                    allocation_pb2.AddressSpec(
                        address="10.0.0.1", family=allocation_pb2.FAMILY_IPV6
                    )
                ],
            },
            "endpoints[0].wanted.addresses[0].family",
        ),
        ({"node": "h1", "refusal": "x" * 1025}, "endpoints[0].wanted.refusal"),
    ],
)
async def test_what_is_wanted_wrongly_is_refused_with_its_field(
    pair: Pair, wanted: dict[str, object], path: str
) -> None:
    message = endpoint("pod/t/a/1")
    message.wanted.CopyFrom(endpoint_pb2.WantedAttachment(**wanted))  # type: ignore[arg-type]
    answer = await pair.stub.PutEndpoints(api.PutEndpointsRequest(endpoints=[message]))
    assert path in answer.results[0].message


async def late(pair: Pair, since: int, *, stub: str = "stub") -> tuple[int, list[str]]:
    """How many nodes changes after a revision concern, and which of them have not applied them."""
    request = api.GetRealizationRequest(since=since, nodes_only=True)
    answer = await getattr(pair, stub).GetRealization(request)
    assert answer.revision > since
    return answer.concerned, list(answer.late)


async def revision(pair: Pair) -> int:
    return (await pair.stub.GetStatus(api.GetStatusRequest())).revision


async def _stopped(pair: Pair) -> tuple[int, SyncAgent]:
    """A revision at which h1's agent had applied all there was; then it was stopped."""
    await create(pair, policy("p", peer=of_tenant("u", app="web")))
    await report(pair, "h1", endpoint("near", "10.0.0.1"))
    await report(pair, "h2", endpoint("far", "10.0.0.9", tenant="u", labels={"app": "web"}))
    async with rules_agent("h1", [pair.first.address]) as agent:
        await agent.until(lambda: members(agent) == {"10.0.0.9"})
        for stub in ("stub", "other"):  # both have seen all of it apart from what follows
            await poll(lambda stub=stub: _is(realized(pair, "p", stub=stub), (1, 1)), 10)
        before = await revision(pair)
    return before, agent


async def _delete(pair: Pair) -> None:
    await pair.stub.DeletePolicy(api.DeletePolicyRequest(name="p"))


async def _take_away(pair: Pair) -> None:
    await pair.stub.UpdatePolicy(api.UpdatePolicyRequest(policy=policy("p")))


async def _move(pair: Pair) -> None:
    changed = policy("p", of_tenant("elsewhere"), peer=of_tenant("u", app="web"))
    await pair.stub.UpdatePolicy(api.UpdatePolicyRequest(policy=changed))


async def _label(pair: Pair) -> None:
    await report(pair, "h2", endpoint("far", "10.0.0.9", tenant="u", labels={"app": "db"}))


@pytest.mark.parametrize("change", [_delete, _take_away, _move, _label])
@pytest.mark.parametrize("stub", ["stub", "other"])
async def test_a_change_is_not_applied_while_a_node_may_enforce_what_was_before(
    pair: Pair, change: Callable[[Pair], Awaitable[None]], stub: str
) -> None:
    before, agent = await _stopped(pair)
    await change(pair)
    assert await late(pair, before, stub=stub) == (1, ["h1"])
    async with rules_agent("h1", [pair.second.address], agent.receiver):
        await poll(lambda: _is(late(pair, before, stub=stub), (1, [])), 10)


async def test_a_policy_that_moves_away_is_still_that_of_the_node_that_had_it(pair: Pair) -> None:
    _, agent = await _stopped(pair)
    await _move(pair)
    assert await realized(pair, "p") == (1, 0)
    assert await realized(pair, "p", stub="other") == (1, 0)
    async with rules_agent("h1", [pair.first.address], agent.receiver):
        await poll(lambda: _is(realized(pair, "p"), (0, 0)), 10)


async def test_a_node_that_a_change_does_not_concern_is_not_waited_for(pair: Pair) -> None:
    before, _ = await _stopped(pair)
    await create(pair, policy("q", of_tenant("elsewhere")))
    assert await late(pair, before) == (0, [])


async def test_a_node_that_holds_what_there_is_now_anyway_is_not_late(pair: Pair) -> None:
    before, _ = await _stopped(pair)
    await _label(pair)
    await report(pair, "h2", endpoint("far", "10.0.0.9", tenant="u", labels={"app": "web"}))
    assert await late(pair, before) == (1, [])


async def test_a_node_of_which_nothing_is_known_is_late(pair: Pair) -> None:
    await create(pair, policy("p"))
    await report(pair, "h3", endpoint("e", "10.0.0.3"))
    before = await revision(pair)
    await _take_away(pair)
    await _delete(pair)
    assert (await late(pair, before))[1] == ["h3"]


async def test_the_rules_of_a_node_are_what_its_agent_is_told(pair: Pair, first: SyncAgent) -> None:
    await create(pair, policy("p", peer=of_tenant("u")))
    await report(pair, "h1", endpoint("near", "10.0.0.1"), endpoint("next", "10.0.0.2"))
    await first.until(lambda: {"endpoint/near", "endpoint/next"} <= first.ids)
    for stub in (pair.stub, pair.other):
        found: list[pb.RuleResource] = []
        request = api.GetNodeRulesRequest(node="h1", page_size=1)
        while True:
            answer = await stub.GetNodeRules(request)
            found += answer.resources
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        assert [each.id for each in found] == sorted(
            each for each in first.ids if each.startswith(("endpoint/", "node/", "rules/"))
        )
        assert all(first.kernel[each.id] == each for each in found)
    elsewhere = await pair.stub.GetNodeRules(api.GetNodeRulesRequest(node="h2"))
    assert not elsewhere.resources


async def test_there_are_no_rules_of_an_unknown_node(pair: Pair) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await pair.stub.GetNodeRules(api.GetNodeRulesRequest(node="nowhere"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "'nowhere'" in str(refused.value.details())
