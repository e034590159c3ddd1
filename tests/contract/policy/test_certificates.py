"""With mutual TLS a node's certificate speaks for its node only."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1 import sync_rules_pb2 as pb
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.sync.v1 import sync_pb2

from services.common.errors import RomanaError
from services.common.etcd.process import LocalEtcd
from services.common.rpc.channel import open_channel
from services.common.rpc.status import error_of
from tests.support.certificates import Authority
from tests.support.ipam_process import poll
from tests.support.policy_process import PolicyProcess, claim, endpoint, policy

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub


@pytest.fixture
async def stub(shared_etcd: LocalEtcd, tmp_path: Path) -> AsyncIterator[PolicyServiceAsyncStub]:
    """The service as the agent of h1 reaches it."""
    authority = Authority(tmp_path / "authority")
    service = authority.issue("policy", uri="romana:service")
    root = f"/test-{uuid.uuid4().hex[:12]}"
    replica = PolicyProcess(shared_etcd.endpoint, root, tmp_path, tls=service)
    replica.start()
    try:
        node = authority.issue("h1", uri="romana:node:h1")
        async with open_channel(replica.address, tls=node) as channel:
            made: PolicyServiceAsyncStub = PolicyServiceStub(channel)
            health = HealthStub(channel)
            await poll(lambda: _serves(health), 20, what="the replica to serve")
            yield made
    finally:
        replica.kill()


async def _serves(stub: HealthStub) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def refusal(call: object) -> RomanaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    return error_of(caught.value)


async def test_a_node_reports_and_streams_for_itself_only(stub: PolicyServiceAsyncStub) -> None:
    await claim(stub, "h1", endpoint("e", "10.0.0.1"))
    error = await refusal(claim(stub, "h2", endpoint("e", "10.0.0.1")))
    assert error.reason == "NOT_THIS_NODE"

    call = stub.SyncRules()
    await call.write(pb.SyncRulesRequest(hello=sync_pb2.Hello(node="h2")))
    assert (await refusal(call.read())).reason == "NOT_THIS_NODE"


async def test_a_node_changes_no_policies_and_nobodys_labels(
    stub: PolicyServiceAsyncStub,
) -> None:
    for call in (
        stub.CreatePolicy(api.CreatePolicyRequest(policy=policy("p"))),
        stub.ApplyPolicies(api.ApplyPoliciesRequest(policies=[policy("p")])),
        stub.PutTenants(api.PutTenantsRequest()),
    ):
        assert (await refusal(call)).reason == "NOT_OPERATOR"
    labels = stub.PutEndpoints(api.PutEndpointsRequest(endpoints=[endpoint("e")]))
    assert (await refusal(labels)).reason == "OTHER_ROLE"


async def test_a_node_reads_no_policies_and_nobody_elses_endpoints(
    stub: PolicyServiceAsyncStub,
) -> None:
    for call in (
        stub.ListPolicies(api.ListPoliciesRequest()),
        stub.Explain(api.ExplainRequest()),
        stub.GetMatrix(api.GetMatrixRequest()),
        stub.ListTenants(api.ListTenantsRequest()),
    ):
        assert (await refusal(call)).reason == "OTHER_ROLE"
    others = api.ListEndpointsRequest(filter=api.EndpointFilter(node="h2"))
    assert (await refusal(stub.ListEndpoints(others))).reason == "NOT_THIS_NODE"
    own = api.ListEndpointsRequest(filter=api.EndpointFilter(node="h1"))
    await stub.ListEndpoints(own)
