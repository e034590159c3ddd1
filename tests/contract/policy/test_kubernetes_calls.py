"""What the controller of Kubernetes tells policy of objects that are large: others are told of all
the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.common.errors import Exhausted, InvalidInput
from services.common.model.names import Segment, Tenant
from services.common.model.pods import pod_endpoint
from services.common.rpc.replicas import Replicas
from services.kubernetes.calls.policy import PolicyCalls
from services.kubernetes.objects.policies import NetworkPolicy
from services.kubernetes.wanted.values import WantedEndpoint, WantedTenant
from tests.contract.policy.conftest import Pair

LARGE = 1_400_000
"""Bytes; the API server takes somewhat more."""
MANY = 12
"""Of them do not fit into one request."""


@pytest.fixture
async def calls(pair: Pair) -> AsyncIterator[PolicyCalls]:
    replicas = Replicas(PolicyServiceStub, pair.addresses, None, insecure=True, program="test")
    yield PolicyCalls(replicas)
    await replicas.close()


def labels(size: int) -> dict[str, str]:
    return {f"key-{number:06}": "x" * 63 for number in range(size // 80)}


async def test_endpoints_with_many_labels_are_refused_alone(calls: PolicyCalls, pair: Pair) -> None:
    answers = await calls.put_endpoints(
        [
            WantedEndpoint(
                pod_endpoint("t", f"p{number}", "u"), Tenant("t"), Segment(""), labels(size), ()
            )
            for number, size in enumerate([LARGE] * MANY + [160])
        ]
    )
    assert [type(one) for one in answers] == [InvalidInput] * MANY + [type(None)]
    found = await pair.stub.ListEndpoints(api.ListEndpointsRequest())
    assert [one.name for one in found.endpoints] == [f"pod/t/p{MANY}/u"]


async def test_tenants_with_many_labels_are_refused_alone(calls: PolicyCalls) -> None:
    answers = await calls.put_tenants(
        [
            WantedTenant(Tenant(f"t{number}"), labels(size), None)
            for number, size in enumerate([LARGE] * MANY + [160])
        ]
    )
    assert [type(one) for one in answers] == [InvalidInput] * MANY + [type(None)]


async def test_policies_too_large_for_a_request_are_refused_alone(calls: PolicyCalls) -> None:
    spec = b'{"podSelector": {}, "ingress": [], "x": "%s"}' % (b"x" * LARGE)
    large = [NetworkPolicy("t", f"p{number}", "u", (), spec) for number in range(MANY)]
    with pytest.raises(Exhausted):
        await calls.apply(large)
    with pytest.raises(InvalidInput):
        await calls.apply(large[:1])
