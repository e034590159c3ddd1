"""Policies and sets of them: etags, dry runs, what is refused, all or nothing."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from romana.policy.v1 import policy_pb2, selector_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.etcd.types import Put
from services.common.rpc.status import error_of
from tests.contract.policy.conftest import Pair
from tests.support.ipam_process import poll
from tests.support.policy_process import of_tenant, policy


async def create(pair: Pair, message: policy_pb2.Policy) -> policy_pb2.Policy:
    return (await pair.stub.CreatePolicy(api.CreatePolicyRequest(policy=message))).policy


async def names(pair: Pair, **wanted: object) -> list[str]:
    answer = await pair.stub.ListPolicies(api.ListPoliciesRequest(**wanted))
    return [one.name for one in answer.policies]


async def refused(call: object) -> tuple[grpc.StatusCode, str, list[str]]:
    """Code, reason and field paths."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    error = error_of(caught.value)
    paths = [one.path for one in getattr(error, "violations", ())]
    return caught.value.code(), error.reason, paths


async def test_a_policy_comes_back_as_it_was_written(pair: Pair) -> None:
    written = policy_pb2.Policy(
        name="team/web",
        description="what web takes",
        tier=policy_pb2.POLICY_TIER_ADMIN,
        priority=7,
        mode=policy_pb2.POLICY_MODE_AUDIT,
        labels={"app": "web"},
        targets=[
            policy_pb2.Target(endpoints=of_tenant("t", app="web")),
            policy_pb2.Target(nodes=selector_pb2.NodeSelector(names=["h1"])),
        ],
        directions=[
            policy_pb2.POLICY_DIRECTION_INGRESS,
            policy_pb2.POLICY_DIRECTION_EGRESS,
        ],
        ingress=[
            policy_pb2.Rule(
                action=policy_pb2.RULE_ACTION_DENY,
                peers=[
                    policy_pb2.Peer(cidr=policy_pb2.CidrBlock(cidr="10.0.0.0/8")),
                    policy_pb2.Peer(network="net"),
                    policy_pb2.Peer(any=policy_pb2.Anything()),
                ],
                ports=[
                    policy_pb2.PortMatch(protocol=policy_pb2.PROTOCOL_TCP, port=80, end_port=90),
                    policy_pb2.PortMatch(protocol=policy_pb2.PROTOCOL_ICMP, icmp_type=8),
                ],
            )
        ],
        egress=[policy_pb2.Rule(action=policy_pb2.RULE_ACTION_PASS)],
    )
    getattr(written.ingress[0].peers[0].cidr, "except").append("10.1.0.0/16")
    await create(pair, written)
    for stub in (pair.stub, pair.other):
        await stub.GetRealization(api.GetRealizationRequest(nodes_only=True))
        read = (await stub.GetPolicy(api.GetPolicyRequest(name="team/web"))).policy
        assert read.etag
        assert read.create_time.seconds
        for name in ("etag", "create_time", "update_time"):
            read.ClearField(name)
        assert read == written


async def test_creating_the_same_again_is_fine_and_another_one_is_not(pair: Pair) -> None:
    before = await create(pair, policy("p"))
    assert await create(pair, policy("p")) == before
    other = policy("p", of_tenant("u"))
    assert (await refused(create(pair, other)))[:2] == (
        grpc.StatusCode.ALREADY_EXISTS,
        "POLICY_EXISTS",
    )


async def test_an_update_needs_the_etag_that_was_read(pair: Pair) -> None:
    old = await create(pair, policy("p"))
    new = policy("p", of_tenant("u"))
    new.etag = old.etag
    done = (await pair.stub.UpdatePolicy(api.UpdatePolicyRequest(policy=new))).policy
    assert done.etag != old.etag
    assert done.create_time == old.create_time
    again = pair.stub.UpdatePolicy(api.UpdatePolicyRequest(policy=new))
    assert (await refused(again))[:2] == (grpc.StatusCode.ABORTED, "STALE_ETAG")
    stale = pair.stub.DeletePolicy(api.DeletePolicyRequest(name="p", etag=old.etag))
    assert (await refused(stale))[:2] == (grpc.StatusCode.ABORTED, "STALE_ETAG")
    await pair.stub.DeletePolicy(api.DeletePolicyRequest(name="p", etag=done.etag))
    gone = pair.stub.GetPolicy(api.GetPolicyRequest(name="p"))
    assert (await refused(gone))[:2] == (grpc.StatusCode.NOT_FOUND, "POLICY_NOT_FOUND")


async def test_a_dry_run_changes_nothing(pair: Pair) -> None:
    kept = await create(pair, policy("kept"))
    await pair.stub.CreatePolicy(api.CreatePolicyRequest(policy=policy("new"), validate_only=True))
    await pair.stub.UpdatePolicy(
        api.UpdatePolicyRequest(policy=policy("kept", of_tenant("u")), validate_only=True)
    )
    await pair.stub.DeletePolicy(api.DeletePolicyRequest(name="kept", validate_only=True))
    answer = await pair.stub.ApplyPolicies(
        api.ApplyPoliciesRequest(policies=[policy("set")], validate_only=True)
    )
    assert [one.resource for one in answer.changes] == ["policy/set"]
    assert (await pair.stub.ListPolicies(api.ListPoliciesRequest())).policies == [kept]


async def test_lists_are_filtered_and_paged(pair: Pair) -> None:
    for number in range(5):
        await create(pair, policy(f"p{number}", labels={"odd": str(number % 2)}))
    assert await names(pair, labels={"odd": "1"}) == ["p1", "p3"]
    assert await names(pair, tier=policy_pb2.POLICY_TIER_ADMIN) == []
    first = await pair.stub.ListPolicies(api.ListPoliciesRequest(page_size=3))
    rest = await names(pair, page_size=3, page_token=first.next_page_token)
    assert [one.name for one in first.policies] + rest == [f"p{n}" for n in range(5)]


async def test_what_is_wrong_is_told_with_all_its_field_paths(pair: Pair) -> None:
    wrong = policy("p", peer=of_tenant("u"))
    wrong.ingress[0].peers.add().cidr.cidr = "10.0.0.1/8"
    wrong.ingress[0].peers.add().network = "missing"
    wrong.ingress[0].ports.add(protocol=policy_pb2.PROTOCOL_TCP, end_port=7)
    wrong.ingress[0].ports.add(protocol=99)
    code, _, paths = await refused(create(pair, wrong))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert {
        "policy.ingress[0].peers[1].cidr.cidr",
        "policy.ingress[0].ports[0].end_port",
        "policy.ingress[0].ports[1].protocol",
    } <= set(paths)
    missing = policy("p", peer=of_tenant("u"))
    missing.ingress[0].peers.add().network = "missing"
    code, _, paths = await refused(create(pair, missing))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert paths == ["policy.ingress[0].peers[1].network"]
    assert await names(pair) == []


async def test_a_policy_of_ten_megabytes_is_refused(pair: Pair) -> None:
    large = policy("large", peer=of_tenant("u"))
    for _ in range(40):
        rule = large.ingress.add()
        for number in range(10_000):
            rule.peers.add().network = f"network-number-{number}"
    assert large.ByteSize() > 8 << 20
    code, _, paths = await refused(create(pair, large))
    assert (code, paths) == (grpc.StatusCode.INVALID_ARGUMENT, ["policy"])
    await create(pair, policy("small"))


async def test_a_set_is_applied_and_pruned_by_labels(pair: Pair) -> None:
    await create(pair, policy("stranger"))
    apply = pair.stub.ApplyPolicies
    mine = {"set": "mine"}
    await apply(api.ApplyPoliciesRequest(policies=[policy("a"), policy("b")], prune_labels=mine))
    done = await apply(
        api.ApplyPoliciesRequest(
            policies=[policy("a"), policy("c")],
            documents=[
                api.PolicyDocument(
                    content=b"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: red}}
"""
                )
            ],
            prune_labels=mine,
        )
    )
    assert {one.resource: one.kind for one in done.changes} == {
        "policy/a": api.CHANGE_KIND_UNCHANGED,
        "policy/b": api.CHANGE_KIND_REMOVED,
        "policy/c": api.CHANGE_KIND_CREATED,
        "policy/shop/deny": api.CHANGE_KIND_CREATED,
        "tenant/shop": api.CHANGE_KIND_CREATED,
    }
    assert await names(pair) == ["a", "c", "shop/deny", "stranger"]
    read = await pair.stub.GetPolicy(api.GetPolicyRequest(name="shop/deny"))
    assert read.policy.origin.kind == "kubernetes"
    assert dict(read.policy.labels) == mine


async def test_one_wrong_policy_of_a_set_changes_nothing(pair: Pair) -> None:
    wrong = policy("wrong")
    wrong.targets.add()
    call = pair.stub.ApplyPolicies(api.ApplyPoliciesRequest(policies=[policy("good"), wrong]))
    code, _, paths = await refused(call)
    assert (code, paths) == (grpc.StatusCode.INVALID_ARGUMENT, ["policies[1].targets[1]"])
    assert await names(pair) == []


async def test_what_is_twice_in_a_set_is_said_with_both_places(pair: Pair) -> None:
    text = b"""
policies:
  - {name: good, targets: [{endpoints: {}}]}
  - {name: other, targets: [{endpoints: {}}]}
tenants: [{name: t, labels: {a: b}}]
"""
    one = api.PolicyDocument(content=text, source="one.yaml")
    two = api.PolicyDocument(content=text, source="two.yaml")
    again = [policy("good"), policy("good")]
    call = pair.stub.ApplyPolicies(
        api.ApplyPoliciesRequest(policies=again, documents=[one, two], validate_only=True)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    found = getattr(error_of(caught.value), "violations", ())
    assert [(each.path, each.message) for each in found] == [
        ("policies[1].name", "there is another policy 'good' in policies[0]"),
        ("policies[0].name", "there is another policy 'good' in policies[0] (line 3 of one.yaml)"),
        ("policies[0].name", "there is another policy 'good' in one.yaml (line 3 of two.yaml)"),
        ("policies[1].name", "there is another policy 'other' in one.yaml (line 4 of two.yaml)"),
        ("tenants[0].name", "there is another tenant 't' in one.yaml (line 5 of two.yaml)"),
    ]
    assert await names(pair) == []


async def test_a_set_larger_than_a_transaction_counts_at_once_on_every_replica(
    pair: Pair,
) -> None:
    count = 1000
    seen: set[int] = set()

    async def watch(stub: object) -> None:
        while True:
            status = await stub.GetStatus(api.GetStatusRequest())  # type: ignore[attr-defined]
            seen.add(status.policies)

    watching = [asyncio.create_task(watch(stub)) for stub in (pair.stub, pair.other)]
    mine = {"set": "large"}
    done = await pair.stub.ApplyPolicies(
        api.ApplyPoliciesRequest(
            policies=[policy(f"p{number}") for number in range(count)], prune_labels=mine
        )
    )
    assert len(done.changes) == len(done.policies) == count
    assert len(await names(pair, page_size=count)) == count
    await pair.stub.ApplyPolicies(api.ApplyPoliciesRequest(prune_labels=mine))
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    assert seen <= {0, count}
    left = await pair.client.range(pair.keys.policy)
    assert {item.key for item in left.items} == {
        pair.keys.policy_generation,
        pair.keys.policy_edition,
    }


async def test_sets_that_are_applied_at_once_at_two_replicas_both_count(pair: Pair) -> None:
    async def apply(stub: object, name: str) -> None:
        await stub.ApplyPolicies(  # type: ignore[attr-defined]
            api.ApplyPoliciesRequest(
                policies=[policy(f"{name}{number}") for number in range(300)],
                prune_labels={"set": name},
            )
        )

    await asyncio.gather(apply(pair.stub, "a"), apply(pair.other, "b"), create(pair, policy("c")))
    await pair.stub.GetRealization(api.GetRealizationRequest(nodes_only=True))
    assert (await pair.stub.GetStatus(api.GetStatusRequest())).policies == 601


async def test_a_set_that_was_left_alone_is_put_into_place_by_others(pair: Pair) -> None:
    """As if its writer had been killed between making it count and putting it into place."""
    await create(pair, policy("old"))
    stored = await pair.client.get(f"{pair.keys.policies}old")
    assert stored is not None
    name = uuid.uuid4().hex
    await pair.client.transact(
        (),
        [
            Put(f"{pair.keys.staged}{name}/policies/new", stored.value),
            Put(f"{pair.keys.staged}{name}/policies/old", b""),
            Put(pair.keys.staging, name.encode()),
        ],
    )
    assert await names(pair) == ["old"], "it does not count yet"
    await pair.client.put(pair.keys.applying, name.encode())

    async def counts() -> bool:
        return await names(pair) == ["new"]

    await poll(counts, 10, what="the set to count")
    await create(pair, policy("next"))
    assert await names(pair) == ["new", "next"]
    assert await pair.client.get(pair.keys.applying) is None
    assert await pair.client.get(f"{pair.keys.policies}old") is None


async def test_a_record_that_cannot_be_read_affects_no_other(pair: Pair) -> None:
    key = f"{pair.keys.policies}broken"
    await pair.client.put(key, b"{")
    await create(pair, policy("sound"))
    assert await names(pair) == ["sound"]
    status = await pair.stub.GetStatus(api.GetStatusRequest())
    assert list(status.unreadable) == [key]
    assert (await pair.stub.GetPolicy(api.GetPolicyRequest(name="sound"))).policy.etag
