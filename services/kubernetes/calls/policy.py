"""What the controller tells the policy service. Protobuf messages stop here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.rpc import status_pb2
from romana.ipam.v1 import allocation_pb2
from romana.policy.v1 import endpoint_pb2
from romana.policy.v1 import policy_service_pb2 as pb

from services.common.errors import NotFound, RomanaError, Violation
from services.common.model.names import EndpointName, NodeName, Tenant
from services.common.model.network import Isolation
from services.common.model.pods import is_pod
from services.common.rpc.enums import FAMILIES
from services.common.rpc.fitting import chunks
from services.common.rpc.replicas import Replicas
from services.common.rpc.status import error_of_status
from services.kubernetes.objects.metadata import PREFIX
from services.kubernetes.objects.namespaces import NAME_LABEL
from services.kubernetes.objects.policies import NetworkPolicy
from services.kubernetes.wanted.nodes import FOLLOWED, KUBERNETES
from services.kubernetes.wanted.values import WantedEndpoint, WantedTenant

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

PAGE: Final = 1000
BATCH: Final = 500
"""Items in one request, if they are not too large: the API server limits no pod's labels."""
_ISOLATIONS: Final = {
    None: endpoint_pb2.ISOLATION_UNSPECIFIED,
    Isolation.NONE: endpoint_pb2.ISOLATION_NONE,
    Isolation.TENANT: endpoint_pb2.ISOLATION_TENANT,
    Isolation.SEGMENT: endpoint_pb2.ISOLATION_SEGMENT,
}


@dataclass(frozen=True, slots=True)
class InForce:
    """Where a policy is held to."""

    needed: int
    """Nodes."""
    applied: int
    missing: tuple[str, ...]
    """Names, some of them."""


class PolicyCalls:
    """Raises RomanaErrors."""

    def __init__(self, replicas: Replicas[PolicyServiceAsyncStub]) -> None:
        self._replicas = replicas

    # Tenants.

    async def put_tenants(self, tenants: Sequence[WantedTenant]) -> list[RomanaError | None]:
        """One answer per tenant; None: it is so."""
        answers: list[RomanaError | None] = []
        for part in chunks(map(_tenant, tenants), BATCH):
            request = pb.PutTenantsRequest(tenants=part)
            answer = await self._replicas.call(lambda stub: stub.PutTenants, request)
            answers += _errors(answer.results)
        return answers

    async def delete_tenant(self, name: Tenant) -> None:
        """Succeeds if there is none."""
        request = pb.DeleteTenantRequest(name=name)
        await self._replicas.call(lambda stub: stub.DeleteTenant, request)

    async def tenants(self) -> set[Tenant]:
        """Those that are namespaces."""
        found: set[Tenant] = set()
        request = pb.ListTenantsRequest(page_size=PAGE)
        while True:
            answer = await self._replicas.call(lambda stub: stub.ListTenants, request)
            found |= {
                Tenant(one.name) for one in answer.tenants if one.labels.get(NAME_LABEL) == one.name
            }
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    # Endpoints.

    async def put_endpoints(self, endpoints: Sequence[WantedEndpoint]) -> list[RomanaError | None]:
        """One answer per endpoint; None: it is so."""
        answers: list[RomanaError | None] = []
        for part in chunks(map(_endpoint, endpoints), BATCH):
            request = pb.PutEndpointsRequest(endpoints=part)
            answer = await self._replicas.call(lambda stub: stub.PutEndpoints, request)
            answers += _errors(answer.results)
        return answers

    async def end_endpoint(self, name: EndpointName, *, gone: bool) -> bool:
        """Takes back what was said, unless it is attached: then it is said that it ends, or with
        `gone` that it is no more. Whether it is attached."""
        endpoint = await self._endpoint(name)
        if endpoint is None or not endpoint.etag:
            return False  # nothing was said
        if not endpoint.addresses or not endpoint.HasField("wanted"):
            request = pb.DeleteEndpointRequest(name=name, etag=endpoint.etag)
            await self._replicas.call(lambda stub: stub.DeleteEndpoint, request)
            return False
        wanted = endpoint.wanted
        if (wanted.ending, wanted.gone) != (True, gone):
            wanted.ending, wanted.gone = True, gone
            told = pb.PutEndpointsRequest(endpoints=[endpoint])
            results = await self._replicas.call(lambda stub: stub.PutEndpoints, told)
            for error in _errors(results.results):
                if error is not None:
                    raise error
        return True

    async def attached(self, name: EndpointName) -> bool:
        """Whether a node has it."""
        endpoint = await self._endpoint(name)
        return endpoint is not None and bool(endpoint.addresses)

    async def addresses_on(self, node: NodeName) -> set[str]:
        """Those of all endpoints that a node says it has."""
        found: set[str] = set()
        request = pb.ListEndpointsRequest(
            filter=pb.EndpointFilter(node=node), as_reported=True, page_size=PAGE
        )
        while True:
            answer = await self._replicas.call(lambda stub: stub.ListEndpoints, request)
            found |= {address for one in answer.endpoints for address in one.addresses}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    async def connected(self, nodes: Iterable[NodeName]) -> set[NodeName]:
        """Those of these nodes whose agents have a stream now, so that what they have is known."""
        request = pb.GetRealizationRequest(nodes=nodes, nodes_only=True)
        answer = await self._replicas.call(lambda stub: stub.GetRealization, request)
        return {NodeName(one.node) for one in answer.nodes if one.connected}

    async def ready(self, nodes: Iterable[NodeName]) -> set[NodeName]:
        """Those of these nodes whose agents have a stream, and have applied what came on it."""
        request = pb.GetRealizationRequest(nodes=nodes, nodes_only=True)
        answer = await self._replicas.call(lambda stub: stub.GetRealization, request)
        return {NodeName(one.node) for one in answer.nodes if one.connected and one.current}

    async def _endpoint(self, name: EndpointName) -> endpoint_pb2.PolicyEndpoint | None:
        request = pb.GetEndpointRequest(name=name)
        try:
            answer = await self._replicas.call(lambda stub: stub.GetEndpoint, request)
        except NotFound:
            return None
        return answer.endpoint

    async def endpoints(self) -> set[EndpointName]:
        """Pods of which something was said."""
        found: set[EndpointName] = set()
        request = pb.ListEndpointsRequest(page_size=PAGE)
        while True:
            answer = await self._replicas.call(lambda stub: stub.ListEndpoints, request)
            found |= {
                EndpointName(one.name) for one in answer.endpoints if one.etag and is_pod(one.name)
            }
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    # Policies.

    async def apply(self, policies: Sequence[NetworkPolicy]) -> list[tuple[str, Violation]]:
        """Makes them be as they are said, all or nothing.

        Raises InvalidInput, and Exhausted if they are too large for one request.

        Returns what is not understood of their rules, with the names of the policies.
        """
        request = pb.ApplyPoliciesRequest(
            documents=[
                pb.PolicyDocument(
                    content=_document(one), format=pb.POLICY_FORMAT_KUBERNETES, source=one.key
                )
                for one in policies
            ]
        )
        answer = await self._replicas.call(lambda stub: stub.ApplyPolicies, request)
        return [(one.policy, Violation(one.field, one.message)) for one in answer.warnings]

    async def delete_policy(self, name: str) -> None:
        """Succeeds if there is none."""
        with contextlib.suppress(NotFound):
            await self._replicas.call(
                lambda stub: stub.DeletePolicy, pb.DeletePolicyRequest(name=name)
            )

    async def in_force(self, names: Sequence[str]) -> dict[str, InForce]:
        """On how many nodes policies are held to as they are; of one that is not there, nothing."""
        request = pb.GetRealizationRequest(policies=names, page_size=PAGE)
        try:
            answer = await self._replicas.call(lambda stub: stub.GetRealization, request)
        except NotFound:
            if len(names) == 1:
                return {}
            half = len(names) // 2
            return await self.in_force(names[:half]) | await self.in_force(names[half:])
        return {
            one.policy: InForce(one.needed, one.applied, tuple(one.missing))
            for one in answer.policies
        }

    async def policies(self) -> set[str]:
        """Names of those that are here because the API server had them."""
        found: set[str] = set()
        request = pb.ListPoliciesRequest(labels={FOLLOWED: KUBERNETES}, page_size=PAGE)
        while True:
            answer = await self._replicas.call(lambda stub: stub.ListPolicies, request)
            found |= {one.name for one in answer.policies}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token


def _errors(results: Sequence[status_pb2.Status]) -> list[RomanaError | None]:
    return [error_of_status(one) for one in results]


def _tenant(value: WantedTenant) -> endpoint_pb2.Tenant:
    return endpoint_pb2.Tenant(
        name=value.name, labels=dict(value.labels), isolation=_ISOLATIONS[value.isolation]
    )


def _endpoint(value: WantedEndpoint) -> endpoint_pb2.PolicyEndpoint:
    message = endpoint_pb2.PolicyEndpoint(
        name=value.name,
        tenant=value.tenant,
        segment=value.segment,
        labels=dict(value.labels),
        ports=[
            endpoint_pb2.NamedPort(name=one.name, protocol=one.protocol, port=one.port)
            for one in value.ports
        ],
    )
    if value.node is not None:
        wanted = endpoint_pb2.WantedAttachment(
            node=value.node,
            addresses=[
                allocation_pb2.AddressSpec(
                    network=one.network, family=FAMILIES[one.family], address=one.address
                )
                for one in value.addresses
            ],
            allocation=value.allocation,
            ending=value.is_ending,
            refusal=value.refusal,
        )
        message.wanted.CopyFrom(wanted)
    return message


def _document(policy: NetworkPolicy) -> bytes:
    metadata: Mapping[str, object] = {
        "name": policy.name,
        "labels": {**dict(policy.labels), FOLLOWED: KUBERNETES},
    }
    if policy.devices:
        annotations = {f"{PREFIX}{key}": text for key, text in policy.devices}
        metadata = {"annotations": annotations, **metadata}
    if policy.namespace:
        metadata = {"namespace": policy.namespace, **metadata}
    head = json.dumps(
        {"apiVersion": policy.api_version, "kind": policy.kind, "metadata": metadata}
    ).encode()
    return head[:-1] + b', "spec": ' + policy.spec + b"}"
