"""A team's certificate at policy: what is its tenants' and nothing of others, method by method."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc.aio
import pytest
from romana.policy.v1 import device_pb2, endpoint_pb2, explain_pb2, policy_pb2, selector_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.common.errors import RomanaError
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.rpc.channel import open_channel
from services.common.rpc.identity import Role
from services.common.rpc.role_table import SERVICES
from services.common.rpc.status import error_of
from tests.contract.policy.conftest import NODES
from tests.support.certificates import Authority
from tests.support.ipam_process import poll, seed
from tests.support.ipam_records import allocations, written
from tests.support.policy_process import PolicyProcess, claim, endpoint, of_tenant, policy
from tests.support.topologies import layout, network

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub as Stub

TENANT = "NOT_THIS_TENANT"


class Cluster(NamedTuple):
    client: EtcdClient
    keys: Keys
    operator: Stub
    team: Stub
    """Runs the tenants `qa` and `test`."""
    agent: Stub
    """Of h1."""

    async def attach(self, name: str, address: str, tenant: str) -> None:
        """As ipam gives the address, and h1 says."""
        one = endpoint(name, address, tenant=tenant)
        await written(self.client, self.keys, allocations(self.keys, "h1", [one]))
        await claim(self.agent, "h1", one)
        await poll(lambda: self.is_of(name, tenant), 20, what=f"{name} to be known")

    async def is_of(self, name: str, tenant: str) -> bool:
        try:
            found = await self.operator.GetEndpoint(api.GetEndpointRequest(name=name))
        except grpc.aio.AioRpcError:
            return False
        return found.endpoint.tenant == tenant and bool(found.endpoint.addresses)


@pytest.fixture
async def cluster(shared_etcd: LocalEtcd, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A policy of `shop`, an endpoint of `shop` and one of `qa`."""
    authority = Authority(tmp_path / "authority")
    root = f"/test-{uuid.uuid4().hex[:12]}"
    service = authority.issue("policy", uri="romana:service")
    roles = {
        "operator": "romana:operator",
        "team": "romana:tenant:qa romana:tenant:test",
        "agent": "romana:node:h1",
    }
    files = {name: authority.issue(name, uri=uri) for name, uri in roles.items()}
    replica = PolicyProcess(shared_etcd.endpoint, root, tmp_path, tls=service)
    replica.start()
    try:
        async with (
            EtcdClient([shared_etcd.endpoint]) as client,
            open_channel(replica.address, tls=files["operator"]) as operator,
            open_channel(replica.address, tls=files["team"]) as team,
            open_channel(replica.address, tls=files["agent"]) as agent,
        ):
            keys = Keys(root)
            await seed(client, keys, layout([network("net", "10.0.0.0/24", 29)]), NODES)
            made = Cluster(client, keys, *(PolicyServiceStub(c) for c in (operator, team, agent)))
            await poll(lambda: _serves(made.operator), 20, what="the replica to serve")
            await made.operator.CreatePolicy(
                api.CreatePolicyRequest(policy=policy("shop-web", of_tenant("shop")))
            )
            await made.attach("shop-1", "10.0.0.1", "shop")
            await made.attach("qa-1", "10.0.0.2", "qa")
            yield made
    finally:
        replica.kill()


async def _serves(stub: Stub) -> bool:
    try:
        await stub.ListPolicies(api.ListPoliciesRequest(), timeout=2)
    except grpc.aio.AioRpcError:
        return False
    return True


async def refusal(call: Any) -> RomanaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_of(caught.value)


async def reason(call: Any) -> str:
    return (await refusal(call)).reason


async def names(answer: Awaitable[Any], field: str) -> list[str]:
    return [one.name for one in getattr(await answer, field)]


async def put_endpoint(stub: Stub, message: endpoint_pb2.PolicyEndpoint) -> int:
    answer = await stub.PutEndpoints(api.PutEndpointsRequest(endpoints=[message]))
    return answer.results[0].code


def connection(source: str, destination: str) -> api.ExplainRequest:
    return api.ExplainRequest(
        connection=explain_pb2.Connection(
            source=explain_pb2.Party(endpoint=source),
            destination=explain_pb2.Party(endpoint=destination),
        )
    )


async def disputed(team: Stub) -> list[str]:
    return list((await team.GetStatus(api.GetStatusRequest())).disputed)


SHOP = policy("shop-web", of_tenant("shop"))
STOLEN = policy("shop-web", of_tenant("qa"))

# What a team gets where it asks for others': the reason of a refusal, or what it sees.
OF_OTHERS: dict[str, tuple[Callable[[Stub], Awaitable[Any]], Any]] = {
    "CreatePolicy": (
        lambda team: reason(team.CreatePolicy(api.CreatePolicyRequest(policy=STOLEN))),
        TENANT,
    ),
    "UpdatePolicy": (
        lambda team: reason(team.UpdatePolicy(api.UpdatePolicyRequest(policy=STOLEN))),
        TENANT,
    ),
    "DeletePolicy": (
        lambda team: reason(team.DeletePolicy(api.DeletePolicyRequest(name="shop-web"))),
        TENANT,
    ),
    "ApplyPolicies": (
        lambda team: reason(team.ApplyPolicies(api.ApplyPoliciesRequest(policies=[STOLEN]))),
        TENANT,
    ),
    "GetPolicy": (
        lambda team: reason(team.GetPolicy(api.GetPolicyRequest(name="shop-web"))),
        "POLICY_NOT_FOUND",
    ),
    "ListPolicies": (
        lambda team: names(team.ListPolicies(api.ListPoliciesRequest()), "policies"),
        [],
    ),
    "PutTenants": (
        lambda team: reason(
            team.PutTenants(api.PutTenantsRequest(tenants=[endpoint_pb2.Tenant(name="shop")]))
        ),
        TENANT,
    ),
    "ListTenants": (
        lambda team: names(team.ListTenants(api.ListTenantsRequest()), "tenants"),
        [],
    ),
    "PutEndpoints": (lambda team: put_endpoint(team, endpoint("shop-1", tenant="qa")), 7),
    "DeleteEndpoint": (
        lambda team: reason(team.DeleteEndpoint(api.DeleteEndpointRequest(name="shop-2"))),
        TENANT,
    ),
    "GetEndpoint": (
        lambda team: reason(team.GetEndpoint(api.GetEndpointRequest(name="shop-1"))),
        "ENDPOINT_NOT_FOUND",
    ),
    "ListEndpoints": (
        lambda team: names(team.ListEndpoints(api.ListEndpointsRequest()), "endpoints"),
        ["qa-1"],
    ),
    "Explain": (
        lambda team: reason(team.Explain(connection("qa-1", "shop-1"))),
        "ENDPOINT_NOT_FOUND",
    ),
    "GetMatrix": (
        lambda team: reason(
            team.GetMatrix(api.GetMatrixRequest(sources=api.EndpointFilter(tenant="shop")))
        ),
        TENANT,
    ),
    "GetRealization": (
        lambda team: reason(team.GetRealization(api.GetRealizationRequest(policies=["shop-web"]))),
        "POLICY_NOT_FOUND",
    ),
    "GetStatus": (disputed, []),
}


def test_every_method_that_a_team_may_call_is_tried() -> None:
    rows = SERVICES["romana.policy.v1.PolicyService"]
    assert {name for name, row in rows.items() if Role.TENANT in row.roles} == set(OF_OTHERS)


async def test_a_team_neither_changes_nor_sees_what_is_anothers(cluster: Cluster) -> None:
    operator = cluster.operator
    await put_endpoint(operator, endpoint("shop-2", tenant="shop"))
    await operator.PutTenants(api.PutTenantsRequest(tenants=[endpoint_pb2.Tenant(name="shop")]))
    await claim(cluster.agent, "h1", endpoint("lie", "10.0.0.1", tenant="shop"))
    for method, (ask, expected) in OF_OTHERS.items():
        assert await ask(cluster.team) == expected, method
    kept = await operator.GetPolicy(api.GetPolicyRequest(name="shop-web"))
    assert kept.policy.targets == SHOP.targets


@pytest.mark.parametrize(
    "wrong",
    [
        policy("p", of_tenant("shop")),
        policy("p", selector_pb2.EndpointSelector()),
        policy_pb2.Policy(
            name="p",
            targets=[policy_pb2.Target(nodes=selector_pb2.NodeSelector())],
            directions=[policy_pb2.POLICY_DIRECTION_INGRESS],
            tier=policy_pb2.POLICY_TIER_ADMIN,
        ),
        policy_pb2.Policy(
            name="p",
            targets=[policy_pb2.Target(endpoints=of_tenant("qa"))],
            directions=[policy_pb2.POLICY_DIRECTION_INGRESS],
            tier=policy_pb2.POLICY_TIER_ADMIN,
        ),
        policy_pb2.Policy(
            name="p",
            targets=[
                policy_pb2.Target(endpoints=of_tenant("qa")),
                policy_pb2.Target(endpoints=of_tenant("shop")),
            ],
            directions=[policy_pb2.POLICY_DIRECTION_INGRESS],
        ),
    ],
    ids=["anothers", "everybodys", "nodes", "admin", "also-anothers"],
)
async def test_a_team_writes_policies_for_its_own_endpoints_alone(
    cluster: Cluster, wrong: policy_pb2.Policy
) -> None:
    own = policy("own", of_tenant("qa"), of_tenant("shop"))
    await cluster.team.CreatePolicy(api.CreatePolicyRequest(policy=own))
    applied = api.ApplyPoliciesRequest(policies=[policy("second", of_tenant("test")), wrong])
    for call in (
        cluster.team.CreatePolicy(api.CreatePolicyRequest(policy=wrong)),
        cluster.team.ApplyPolicies(applied),
    ):
        assert await reason(call) == TENANT
    assert await names(cluster.team.ListPolicies(api.ListPoliciesRequest()), "policies") == ["own"]


async def test_pruning_removes_only_a_teams_own(cluster: Cluster) -> None:
    everyone = policy("everyone", selector_pb2.EndpointSelector(), labels={"app": "web"})
    own = policy("own", of_tenant("qa"), labels={"app": "web"})
    await cluster.operator.CreatePolicy(api.CreatePolicyRequest(policy=everyone))
    await cluster.team.CreatePolicy(api.CreatePolicyRequest(policy=own))
    await cluster.team.ApplyPolicies(api.ApplyPoliciesRequest(prune_labels={"app": "web"}))
    assert await names(cluster.operator.ListPolicies(api.ListPoliciesRequest()), "policies") == [
        "everyone",
        "shop-web",
    ]


@pytest.mark.parametrize("field", ["via", "mirror"])
async def test_devices_are_not_a_teams_to_use(cluster: Cluster, field: str) -> None:
    group = device_pb2.DeviceGroup(name="fw")
    concerned = policy("own", of_tenant("qa"), of_tenant("test"))
    setattr(concerned.ingress[0], field, group.name)
    assert (
        await reason(cluster.team.CreatePolicy(api.CreatePolicyRequest(policy=concerned))) == TENANT
    )
    put = api.PutDeviceGroupRequest(group=group)
    assert await reason(cluster.team.PutDeviceGroup(put)) == "NOT_OPERATOR"


async def test_a_team_labels_its_endpoints(cluster: Cluster) -> None:
    labelled = endpoint("qa-1", tenant="qa", labels={"app": "web"})
    assert await put_endpoint(cluster.team, labelled) == 0
    found = (await cluster.team.GetEndpoint(api.GetEndpointRequest(name="qa-1"))).endpoint
    assert dict(found.labels) == {"app": "web"}
    assert found.addresses == ["10.0.0.2"]
    other = endpoint("qa-1", tenant="test", labels={"app": "web"})
    assert await put_endpoint(cluster.team, other) == 7
    await cluster.team.DeleteEndpoint(api.DeleteEndpointRequest(name="qa-1"))
    found = (await cluster.team.GetEndpoint(api.GetEndpointRequest(name="qa-1"))).endpoint
    assert not found.labels


async def test_a_name_that_a_team_said_is_not_its_own_when_anothers_endpoint_gets_it(
    cluster: Cluster,
) -> None:
    assert await put_endpoint(cluster.team, endpoint("later", tenant="qa")) == 7
    await cluster.attach("later", "10.0.0.5", "qa")
    assert await put_endpoint(cluster.team, endpoint("later", tenant="qa", labels={"a": "b"})) == 0
    await claim(cluster.agent, "h1", detached=["later"])
    await cluster.attach("later", "10.0.0.6", "shop")
    found = (await cluster.operator.GetEndpoint(api.GetEndpointRequest(name="later"))).endpoint
    assert (found.tenant, dict(found.labels)) == ("shop", {})


async def test_a_team_is_told_who_reaches_whom_among_its_own(cluster: Cluster) -> None:
    await cluster.attach("test-1", "10.0.0.3", "test")
    explained = await cluster.team.Explain(connection("qa-1", "test-1"))
    assert explained.explanations[0].action == policy_pb2.RULE_ACTION_ALLOW
    rows = (await cluster.team.GetMatrix(api.GetMatrixRequest())).rows
    assert [row.source for row in rows] == ["qa-1", "test-1"]
    by_address = connection("qa-1", "")
    by_address.connection.destination.address = "10.0.0.1"
    assert await reason(cluster.team.Explain(by_address)) == TENANT
    by_address.connection.destination.address = "192.0.2.99"
    assert (await cluster.team.Explain(by_address)).explanations


async def test_a_team_waits_until_its_change_is_in_force(cluster: Cluster) -> None:
    own = policy("own", of_tenant("qa"))
    await cluster.team.CreatePolicy(api.CreatePolicyRequest(policy=own))
    answer = await cluster.team.GetRealization(api.GetRealizationRequest())
    assert [one.policy for one in answer.policies] == ["own"]
