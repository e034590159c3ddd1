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
from romana.ipam.v1 import allocation_pb2, ipam_service_pb2
from romana.policy.v1 import policy_service_pb2
from romana.topology.v1 import node_pb2, topology_service_pb2

from services.common.errors import Forbidden
from services.common.rpc.context import Context
from services.common.rpc.identity import Role
from services.common.rpc.revoked import RevokedCertificates
from services.common.rpc.role_table import ROWS, as_markdown
from services.common.rpc.roles import bound, bound_to_tenants, guarded
from tests.support.callers import Certificate

TOPOLOGY = "romana.topology.v1.TopologyService/"
IPAM = "romana.ipam.v1.IpamService/"
POLICY = "romana.policy.v1.PolicyService/"
HEALTH = "grpc.health.v1.Health/"
DOCUMENT = Path(__file__).parents[3] / "docs" / "roles.md"
NODE = Certificate("romana:node:n1")
AGENTS_STREAMS = {
    IPAM + "SyncRoutes",
    IPAM + "ReportReady",
    IPAM + "HandOverConnections",
    IPAM + "TakeOverConnections",
    POLICY + "SyncRules",
    POLICY + "ReportEndpoints",
    POLICY + "ReportDevices",
}
FOR_TEAMS = {
    *(
        IPAM + method
        for method in (
            *("AllocateAddress", "AllocateAddresses", "ReleaseAddress", "ReleaseAddresses"),
            *("GetAddress", "ListAddresses", "ListBlocks", "WatchBlocks"),
            "WatchAllocations",
            *("CreateReservation", "DeleteReservation", "ListReservations"),
            *("EvaluateNodes", "EvaluateGroups"),
        )
    ),
    *(
        POLICY + method
        for method in (
            *("CreatePolicy", "UpdatePolicy", "DeletePolicy", "ApplyPolicies"),
            *("GetPolicy", "ListPolicies", "PutTenants", "ListTenants"),
            *("PutEndpoints", "DeleteEndpoint", "GetEndpoint", "ListEndpoints"),
            *("Explain", "GetMatrix", "GetRealization", "GetStatus"),
        )
    ),
}
FOR_NOBODY = {method for method, row in ROWS.items() if not row.roles}


def files() -> Iterator[FileDescriptor]:
    """Everything that we serve is in one of these."""
    yield grpc_health.v1.health_pb2.DESCRIPTOR
    yield grpc_reflection.v1alpha.reflection_pb2.DESCRIPTOR  # type: ignore[attr-defined]
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


def test_a_team_gets_what_is_limited_to_its_tenants_and_nothing_else() -> None:
    """A new method is refused until somebody says here and in the table what of it is a team's."""
    team = Certificate("romana:tenant:qa")
    for method in set(ROWS) - FOR_NOBODY:
        if method.startswith("grpc.health."):
            call(method, team)
        elif method not in FOR_TEAMS:
            assert refused(method, team) in {"NOT_OPERATOR", "OTHER_ROLE"}, method
    limited = {m for m, row in ROWS.items() if Role.TENANT in row.roles and row.tenant}
    assert limited == FOR_TEAMS


def test_a_team_names_its_own_tenants_where_it_names_any() -> None:
    team = Certificate("romana:tenant:qa", "romana:tenant:test")
    spec = allocation_pb2.AllocationSpec
    for tenants, is_own in ((["qa", "test"], True), (["qa", "shop"], False), ([""], False)):
        request = ipam_service_pb2.AllocateAddressesRequest(
            specs=[spec(tenant=tenant) for tenant in tenants]
        )
        if is_own:
            call(IPAM + "AllocateAddresses", team, request)
        else:
            assert refused(IPAM + "AllocateAddresses", team, request) == "NOT_THIS_TENANT"


def test_who_may_act_for_all_is_not_limited() -> None:
    both = Certificate("romana:tenant:qa", "romana:operator")
    call(POLICY + "DeleteTenant", both)
    assert bound_to_tenants(POLICY + "ListPolicies", both.context) is None
    reader = Certificate("romana:tenant:qa", "romana:reader")
    assert bound_to_tenants(POLICY + "ListPolicies", reader.context) is None
    assert bound_to_tenants(POLICY + "CreatePolicy", reader.context) == {"qa"}


def test_a_node_with_another_role_is_bound_where_only_the_nodes_counts() -> None:
    both = Certificate("romana:node:n1", "romana:reader")
    assert bound(IPAM + "GetAddress", both.context) is None
    assert bound(IPAM + "CreateReservation", both.context) == {"n1"}
    other = ipam_service_pb2.ReleaseAddressRequest(spec=ipam_service_pb2.ReleaseSpec(node="n2"))
    assert refused(IPAM + "ReleaseAddress", both, other) == "NOT_THIS_NODE"
