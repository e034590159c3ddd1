"""`romana node check`: ipam has forgotten what endpoints use, as after a restore of etcd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest
from romana.policy.v1 import endpoint_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from tests.e2e.local_cluster import FREE_PORTS, Up, up


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    options = (*FREE_PORTS, "--initial-topology", "flat")
    with up(tmp_path_factory.mktemp("check") / "data", options) as made:
        for number in (1, 2):
            made.json("node", "register", f"n{number}", "--address", f"192.168.7.{number}")
        yield made


def report(cluster: Up, node: str, **addresses: str) -> None:
    """What the node's agent says of its endpoints: all there are."""
    with grpc.insecure_channel(cluster.cluster["policy"]) as channel:
        stub = cast("Any", PolicyServiceStub(cast("Any", channel)))
        attached = [
            endpoint_pb2.PolicyEndpoint(name=name, tenant="t", node=node, addresses=[address])
            for name, address in addresses.items()
        ]
        stub.ReportEndpoints(
            api.ReportEndpointsRequest(node=node, attached=attached, complete=True), timeout=60
        )


def allocate(cluster: Up, name: str, node: str) -> str:
    made = cluster.json("address", "allocate", name, "--node", node, "--tenant", "t")
    return str(made["allocations"][0]["address"])


def test_what_ipam_has_forgotten_is_found_and_taken_over(cluster: Up) -> None:
    mine, other = allocate(cluster, "a", "n1"), allocate(cluster, "b", "n1")
    report(cluster, "n1", a=mine, b=other)
    same = cluster.romana("node", "check")
    assert same.returncode == 0, same.stdout + same.stderr
    assert same.stderr.splitlines()[0] == "what agents hold and what ipam has is the same"
    assert cluster.romana("address", "release", "a").returncode == 0
    found = cluster.romana("node", "check")
    assert found.returncode == 1
    assert f"ipam has not {mine}" in found.stdout
    assert "--take-over" in found.stderr
    unheard = cluster.romana("node", "check", "n2")
    assert unheard.returncode == 0
    assert unheard.stderr.splitlines() == ["nothing was compared", "no agent is there of n2"]
    taken = cluster.romana("node", "check", "--take-over")
    assert taken.returncode == 0, taken.stdout + taken.stderr
    assert cluster.json("address", "show", "a")[0]["address"] == mine
    assert cluster.romana("node", "check").returncode == 0


def test_what_ipam_has_for_another_is_named_and_stays(cluster: Up) -> None:
    theirs = allocate(cluster, "c", "n2")
    report(cluster, "n2", d=theirs)
    found = cluster.romana("node", "check", "n2", "--take-over")
    assert found.returncode == 1
    assert f"ipam has {theirs} for 'c' on n2" in found.stdout
    report(cluster, "n2", c=theirs)
    assert cluster.romana("node", "check", "n2").returncode == 0


def test_a_node_that_nobody_knows_is_not_found(cluster: Up) -> None:
    assert cluster.romana("node", "check", "nowhere").returncode == 3
