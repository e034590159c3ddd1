"""Who may call what: the table of roles, against the descriptors and against the documentation."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import grpc_health.v1.health_pb2
import grpc_reflection.v1alpha.reflection_pb2
import pytest
import romana
from google.protobuf.descriptor import FileDescriptor
from romana.ipam.v1 import ipam_service_pb2
from romana.policy.v1 import policy_service_pb2
from romana.topology.v1 import node_pb2, topology_service_pb2

from services.common.errors import Forbidden
from services.common.rpc.identity import Context, Role
from services.common.rpc.revoked import RevokedCertificates
from services.common.rpc.role_table import ROWS, as_markdown
from services.common.rpc.roles import bound, guarded
from tests.support.callers import Certificate

TOPOLOGY = "romana.topology.v1.TopologyService/"
IPAM = "romana.ipam.v1.IpamService/"
POLICY = "romana.policy.v1.PolicyService/"
HEALTH = "grpc.health.v1.Health/"
DOCUMENT = Path(__file__).parents[3] / "docs" / "roles.md"
NODE = Certificate("romana:node:n1")
AGENTS_STREAMS = {
    IPAM + "SyncRoutes",
    POLICY + "SyncRules",
    POLICY + "ReportEndpoints",
    POLICY + "ReportDevices",
}
FOR_NOBODY = {method for method, row in ROWS.items() if not row.roles}


def files() -> Iterator[FileDescriptor]:
    """Everything that we serve is in one of these."""
    yield grpc_health.v1.health_pb2.DESCRIPTOR
    yield grpc_reflection.v1alpha.reflection_pb2.DESCRIPTOR
    for module in pkgutil.walk_packages(romana.__path__, "romana."):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(module.name).DESCRIPTOR


async def done(request: object, context: Context) -> object:
    return request


def call(method: str, caller: Certificate, request: object = None) -> None:
    asyncio.run(guarded(method, done, RevokedCertificates())(request, caller.context))


def refused(method: str, caller: Certificate, request: object = None) -> str:
    with pytest.raises(Forbidden) as raised:
        call(method, caller, request)
    return raised.value.reason


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    methods = {
        f"{service.full_name}/{method.name}"
        for file in files()
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert methods == set(ROWS)


def test_the_documentation_has_the_same_table() -> None:
    assert as_markdown() in DOCUMENT.read_text(), as_markdown()


def test_what_a_node_may_name_is_said() -> None:
    for method, row in ROWS.items():
        if row.named is not None:
            assert row.limit, method
            assert Role.NODE in row.roles, method


@pytest.mark.parametrize("names", [(), ("n1.dc",), ("romana:operators",), ("romana:node:",)])
def test_without_a_role_nothing_may_be_called(names: tuple[str, ...]) -> None:
    for method in set(ROWS) - FOR_NOBODY:
        assert refused(method, Certificate(*names)) == "NO_ROLE"


def test_what_has_no_row_is_for_nobody() -> None:
    assert refused("romana.new.v1.NewService/Do", Certificate("romana:operator")) == (
        "NOT_SERVED_HERE"
    )


def test_an_agents_own_api_is_for_nobody_by_certificate() -> None:
    assert {method for method in ROWS if method.startswith("romana.agent.")} == FOR_NOBODY
    for method in FOR_NOBODY:
        assert refused(method, Certificate("romana:operator")) == "NOT_SERVED_HERE"
        call(method, Certificate(tls=False))


@pytest.mark.parametrize("uri", ["romana:operator", "romana:service"])
def test_operators_and_services_may_call_everything_but_agents_streams(uri: str) -> None:
    for method in set(ROWS) - FOR_NOBODY - AGENTS_STREAMS:
        call(method, Certificate("a.dc", uri))
    for method in AGENTS_STREAMS:
        assert refused(method, Certificate(uri)) == "OTHER_ROLE"


def test_readers_change_nothing() -> None:
    reader = Certificate("romana:reader")
    reads = ("Get", "List", "Watch", "Export", "Evaluate", "Explain", "ServerReflection")
    allowed = {method for method, row in ROWS.items() if Role.READER in row.roles}
    for method in allowed - {HEALTH + "Check"}:
        assert method.partition("/")[2].startswith(reads)
        call(method, reader)
    assert refused(TOPOLOGY + "ApplyTopology", reader) == "NOT_OPERATOR"
    assert refused(IPAM + "AllocateAddress", reader) == "OTHER_ROLE"


def test_without_tls_everybody_may_call_everything() -> None:
    for method in ROWS:
        call(method, Certificate("romana:node:n1", tls=False))
        assert bound(method, Certificate("romana:node:n1", tls=False).context) is None


def test_a_node_changes_only_what_is_its_own() -> None:
    own = topology_service_pb2.RegisterNodeRequest(node=node_pb2.Node(name="n1"))
    call(TOPOLOGY + "RegisterNode", NODE, own)
    other = topology_service_pb2.RegisterNodeRequest(node=node_pb2.Node(name="n2"))
    assert refused(TOPOLOGY + "RegisterNode", NODE, other) == "NOT_THIS_NODE"
    assert refused(TOPOLOGY + "RegisterNode", Certificate("romana:orchestrator"), other) == (
        "OTHER_ROLE"
    )


def test_each_of_a_batch_has_to_be_the_nodes_own() -> None:
    spec = ipam_service_pb2.ReleaseSpec
    mixed = ipam_service_pb2.ReleaseAddressesRequest(specs=[spec(node="n1"), spec(name="any")])
    assert refused(IPAM + "ReleaseAddresses", NODE, mixed) == "NOT_THIS_NODE"
    del mixed.specs[1]
    call(IPAM + "ReleaseAddresses", NODE, mixed)


def test_a_node_reads_only_what_is_its_own() -> None:
    addresses, endpoints = (
        ipam_service_pb2.ListAddressesRequest,
        policy_service_pb2.ListEndpointsRequest,
    )
    call(IPAM + "ListAddresses", NODE, addresses(node="n1"))
    assert refused(IPAM + "ListAddresses", NODE, addresses()) == "NOT_THIS_NODE"
    assert refused(IPAM + "ListAddresses", NODE, addresses(node="n2")) == "NOT_THIS_NODE"
    assert refused(POLICY + "ListEndpoints", NODE, endpoints()) == "NOT_THIS_NODE"
    for method in ("ListPolicies", "GetPolicy", "Explain", "GetMatrix", "GetEndpoint"):
        assert refused(POLICY + method, NODE) == "OTHER_ROLE"
    for method in ("ListNodes", "ExportTopology", "WatchTopology"):
        assert refused(TOPOLOGY + method, NODE) == "OTHER_ROLE"


def test_a_node_with_another_role_is_bound_where_only_the_nodes_counts() -> None:
    both = Certificate("romana:node:n1", "romana:reader")
    assert bound(IPAM + "GetAddress", both.context) is None
    assert bound(IPAM + "CreateReservation", both.context) == {"n1"}
    other = ipam_service_pb2.ReleaseAddressRequest(spec=ipam_service_pb2.ReleaseSpec(node="n2"))
    assert refused(IPAM + "ReleaseAddress", both, other) == "NOT_THIS_NODE"
