from __future__ import annotations

import asyncio
from typing import cast

import pytest
from romana.ipam.v1 import ipam_service_pb2
from romana.policy.v1 import policy_service_pb2
from romana.topology.v1 import node_pb2, topology_service_pb2

from services.common.errors import Forbidden
from services.common.rpc import roles
from services.common.rpc.identity import Context

TOPOLOGY = "romana.topology.v1.TopologyService/"
IPAM = "romana.ipam.v1.IpamService/"
READS = ("Get", "List", "Watch", "Export", "Evaluate", "Explain", "Check")
STREAMS = ("SyncRoutes", "SyncRules", "ReportEndpoints")
"""Checked where the node is read."""
ANYBODY = ("CreateReservation",)
"""An agent sets an address aside that somebody else has."""


class Caller:
    def __init__(self, *names: str, tls: bool = True) -> None:
        self._auth = {"transport_security_type": [b"ssl" if tls else b"insecure"]}
        self._auth["x509_subject_alternative_name"] = [name.encode() for name in names]

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth


async def done(request: object, context: Context) -> object:
    return request


def call(method: str, caller: Caller, request: object = None) -> None:
    asyncio.run(roles.guarded(method, done)(request, cast("Context", caller)))


def refused(method: str, caller: Caller, request: object = None) -> str:
    with pytest.raises(Forbidden) as raised:
        call(method, caller, request)
    return raised.value.reason


def test_every_method_that_changes_something_has_its_callers() -> None:
    changing = set()
    for module in (ipam_service_pb2, policy_service_pb2, topology_service_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if not method.name.startswith(READS) and method.name not in STREAMS + ANYBODY:
                    changing.add(f"{service.full_name}/{method.name}")
    assert changing == roles.OPERATORS_ONLY | roles.NOT_FOR_NODES | set(roles.OWN_NODE)


@pytest.mark.parametrize("names", [(), ("n1.dc",), ("romana:node:n1",), ("romana:operators",)])
def test_what_is_for_operators_needs_their_uri(names: tuple[str, ...]) -> None:
    assert refused(TOPOLOGY + "ApplyTopology", Caller(*names)) == "NOT_OPERATOR"


@pytest.mark.parametrize("caller", [Caller("romana:operator"), Caller("a", "romana:service")])
def test_operators_and_services_may_call_everything(caller: Caller) -> None:
    for method in roles.OPERATORS_ONLY | roles.NOT_FOR_NODES | set(roles.OWN_NODE):
        call(method, caller)


def test_without_tls_everybody_may_call_everything() -> None:
    for method in roles.OPERATORS_ONLY | roles.NOT_FOR_NODES | set(roles.OWN_NODE):
        call(method, Caller("romana:node:n1", tls=False))


def test_a_node_changes_only_what_is_its_own() -> None:
    node = Caller("romana:node:n1")
    own = topology_service_pb2.RegisterNodeRequest(node=node_pb2.Node(name="n1"))
    call(TOPOLOGY + "RegisterNode", node, own)
    other = topology_service_pb2.RegisterNodeRequest(node=node_pb2.Node(name="n2"))
    assert refused(TOPOLOGY + "RegisterNode", node, other) == "NOT_THIS_NODE"
    call(TOPOLOGY + "RegisterNode", Caller("scheduler"), other)


def test_each_of_a_batch_has_to_be_the_nodes_own() -> None:
    node = Caller("romana:node:n1")
    spec = ipam_service_pb2.ReleaseSpec
    mixed = ipam_service_pb2.ReleaseAddressesRequest(specs=[spec(node="n1"), spec(name="any")])
    assert refused(IPAM + "ReleaseAddresses", node, mixed) == "NOT_THIS_NODE"
    del mixed.specs[1]
    call(IPAM + "ReleaseAddresses", node, mixed)


def test_streams_about_any_node_are_not_for_nodes() -> None:
    assert refused(IPAM + "AllocateStream", Caller("romana:node:n1")) == "NOT_OPERATOR"
    call(IPAM + "AllocateStream", Caller("scheduler"))


def test_a_common_name_gives_no_role() -> None:
    caller = Caller()
    caller._auth["x509_common_name"] = [b"romana:operator"]
    assert refused(TOPOLOGY + "ApplyTopology", caller) == "NOT_OPERATOR"
