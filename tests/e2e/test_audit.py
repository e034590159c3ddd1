"""Who changed what, and the way back, on a running cluster."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.audit.documents import document
from tests.e2e.local_cluster import Up, up

pytestmark = pytest.mark.timeout(300)

TOPOLOGY = """
networks: [{name: prod, cidr: 10.1.0.0/16}]
topologies: [{networks: [prod], groups: [{name: a, assignment: {rack: "1"}}, {name: b}]}]
"""
POLICY = """
name: web
targets: [{endpoints: {tenants: [shop]}}]
ingress: [{ports: [{protocol: TCP, port: 443}]}]
"""


numbers = itertools.count(1)
"""Of request ids."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def until(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """What is answered as soon as that holds."""
    end = time.monotonic() + 60
    while not holds(found := ask()):
        assert time.monotonic() < end, found
    return found


def change(cluster: Up, *arguments: str, stdin: str | None = None) -> dict[str, Any]:
    """Runs a verb that has to succeed; returns the record of its change, the newest one."""
    request_id = f"test-{next(numbers)}"
    ended = cluster.romana(*arguments, "--request-id", request_id, stdin=stdin)
    assert ended.returncode == 0, ended.stderr
    (found,) = cluster.json("audit", "--limit", "1")
    assert found["request_id"] == request_id
    assert found["client"] == "romana-command"
    assert found["identity"] == "unauthenticated (127.0.0.1)"
    assert isinstance(found, dict)
    return found


def state(cluster: Up) -> dict[str, Any]:
    """All that operators say, without what changes by itself."""
    with (
        grpc.insecure_channel(cluster.cluster["topology"]) as topology_channel,
        grpc.insecure_channel(cluster.cluster["ipam"]) as ipam_channel,
        grpc.insecure_channel(cluster.cluster["policy"]) as policy_channel,
    ):
        topology = TopologyServiceStub(topology_channel)
        policy = PolicyServiceStub(policy_channel)
        nodes = topology.ListNodes(topology_api.ListNodesRequest()).nodes
        reservations = IpamServiceStub(ipam_channel).ListReservations(
            ipam_api.ListReservationsRequest()
        )
        policies = policy.ListPolicies(policy_api.ListPoliciesRequest()).policies
        tenants = policy.ListTenants(policy_api.ListTenantsRequest()).tenants
        exported = topology.ExportTopology(topology_api.ExportTopologyRequest())
        lists = (nodes, reservations.reservations, policies, tenants)
        return {
            "topology": exported.document.text,
            "placements": {node.name: str(node.placements) for node in nodes},
            **{
                listed[0].DESCRIPTOR.name if listed else "none": [document(one) for one in listed]
                for listed in lists
            },
        }


@pytest.fixture(scope="module")
def filled(cluster: Up) -> Up:
    change(cluster, "topology", "apply", "-", stdin=TOPOLOGY)
    change(cluster, "node", "register", "n1", "--address", "192.0.2.1", "--label", "rack=1")
    change(cluster, "reservation", "create", "r1", "--network", "prod", "10.1.0.4")
    change(cluster, "policy", "apply", "-", stdin=POLICY)
    change(cluster, "tenant", "set", "shop", "--label", "team=web")
    return cluster


CHANGES = [
    pytest.param(
        ("topology", "apply", "-", "--yes"),
        TOPOLOGY.replace("{name: b}", "{name: b}, {name: c}"),
        id="topology",
    ),
    pytest.param(
        ("node", "register", "n2", "--address", "192.0.2.2", "--label", "rack=1"), None, id="node"
    ),
    pytest.param(("node", "update", "n1", "--label", "rank=2"), None, id="node labels"),
    pytest.param(("node", "cordon", "n1"), None, id="cordon"),
    pytest.param(("node", "delete", "n1", "--yes"), None, id="node gone"),
    pytest.param(
        ("reservation", "create", "r2", "--network", "prod", "10.1.0.9"), None, id="reservation"
    ),
    pytest.param(("reservation", "delete", "r1", "--yes"), None, id="reservation gone"),
    pytest.param(("policy", "apply", "-"), POLICY.replace("443", "444"), id="policy"),
    pytest.param(("policy", "delete", "web", "--yes"), None, id="policy gone"),
    pytest.param(("tenant", "set", "shop", "--label", "team=db"), None, id="tenant"),
    pytest.param(("tenant", "delete", "shop", "--yes"), None, id="tenant gone"),
]


@pytest.mark.parametrize(("arguments", "stdin"), CHANGES)
def test_a_change_is_recorded_and_undone(
    filled: Up, arguments: tuple[str, ...], stdin: str | None
) -> None:
    before = state(filled)
    made = change(filled, *arguments, stdin=stdin)
    assert state(filled) != before
    undone = change(filled, "undo", made["revision"], "--yes")
    assert state(filled) == before
    assert int(undone["revision"]) > int(made["revision"])
    again = filled.romana("undo", made["revision"], "--yes")
    assert again.returncode == 0
    assert "as it was before" in again.stderr


def test_the_way_back_is_shown_and_asked_for(filled: Up) -> None:
    made = change(filled, "node", "update", "n1", "--label", "shelf=7")
    changed = state(filled)
    planned = filled.romana("undo", made["revision"], "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "~ node n1" in planned.stdout
    assert "labels.shelf" in planned.stdout
    refused = filled.romana("undo", made["revision"])
    assert refused.returncode != 0
    assert "--yes" in refused.stderr
    assert state(filled) == changed, "a plan or a refusal changed something"
    change(filled, "undo", made["revision"], "--yes")


def test_what_changed_since_is_not_undone_unless_forced(filled: Up) -> None:
    first = change(filled, "node", "update", "n1", "--label", "rank=1")
    second = change(filled, "node", "update", "n1", "--label", "rank=2")
    before = state(filled)
    refused = filled.romana("undo", first["revision"], "--yes")
    assert refused.returncode != 0
    assert f"after {first['revision']}, by {second['revision']}" in refused.stderr
    assert state(filled) == before
    change(filled, "undo", first["revision"], "--yes", "--force")
    (node,) = [one for one in filled.json("node", "list") if one["name"] == "n1"]
    assert node["labels"] == {"rack": "1"}


def test_filters(filled: Up) -> None:
    def kinds(*options: str) -> set[str]:
        found = filled.json("audit", "--limit", "0", *options)
        return {item["kind"] for one in found for item in one["objects"]}

    assert kinds("--kind", "node") == {"OBJECT_KIND_NODE"}
    assert kinds("--object", "r1") == {"OBJECT_KIND_RESERVATION"}
    assert kinds("--who", "nobody") == set()
    assert "OBJECT_KIND_TOPOLOGY" in kinds("--since", "1h")
    assert kinds("--since", "2999-01-01") == set()
    assert filled.romana("audit", "--since", "soon").returncode == 2
    assert filled.romana("audit", "show", "1").returncode != 0


def test_a_change_without_agents_is_in_force_at_once(filled: Up) -> None:
    made = change(filled, "tenant", "set", "shop", "--label", "tier=1")

    found = until(
        lambda: filled.json("audit", "show", made["revision"]), lambda one: one["in_force_time"]
    )
    assert found["in_force_nodes"] == 0


def test_nodes_of_a_topology_file_are_recorded_and_undone(filled: Up) -> None:
    before = state(filled)
    nodes = "{name: b, nodes: [{name: m1, address: 192.0.2.9}]}, {name: d}"
    made = change(
        filled, "topology", "apply", "-", "--yes", stdin=TOPOLOGY.replace("{name: b}", nodes)
    )
    kinds = {(one["kind"], one["name"]) for one in made["objects"]}
    assert kinds == {("OBJECT_KIND_TOPOLOGY", ""), ("OBJECT_KIND_NODE", "m1")}
    assert filled.romana("undo", made["revision"], "--yes").returncode == 0
    assert state(filled) == before
