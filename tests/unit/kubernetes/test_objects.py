from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import msgspec

from services.common.model.pods import is_pod, pod_endpoint
from services.kubernetes.cluster.kinds import NAMESPACES, NETWORK_POLICIES, NODES, PODS
from services.kubernetes.objects.nodes import NOT_READY_TAINT
from services.kubernetes.objects.pods import NamedPort, Pod
from services.kubernetes.wanted.endpoints import is_endpoint


def raw(**parts: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps({"apiVersion": "v1", "more": [1, {}], **parts}).encode())


def pod(spec: dict[str, Any] | None = None, phase: str = "Running", **metadata: Any) -> Pod:
    head = {"name": "web-0", "namespace": "shop", "uid": "u1", "resourceVersion": "7", **metadata}
    item = raw(metadata=head, spec=spec or {"containers": []}, status={"phase": phase})
    found, version = PODS.read(item)
    assert version == "7"
    return found


def test_a_pod_is_what_matters_of_it() -> None:
    found = pod(
        {
            "nodeName": "n1",
            "containers": [
                {"ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]},
                {"ports": [{"containerPort": 82, "name": "http"}]},
            ],
            "initContainers": [
                {"ports": [{"containerPort": 90, "name": "first"}]},
                {"restartPolicy": "Always", "ports": [{"containerPort": 91, "name": "beside"}]},
            ],
        },
        labels={"app": "web"},
        annotations={"romana.io/network": "blue", "other": "thing"},
        ownerReferences=[{"kind": "StatefulSet", "name": "web", "controller": True}],
    )
    assert found.key == "shop/web-0"
    assert found.endpoint == "pod/shop/web-0/u1"
    assert (found.node, found.labels) == ("n1", {"app": "web"})
    assert found.annotations == {"network": "blue"}
    assert found.ports == (NamedPort("http", "TCP", 80), NamedPort("beside", "TCP", 91))
    assert found.controller == ("StatefulSet", "web")
    assert is_endpoint(found)


def test_a_pod_of_a_file_has_the_uid_that_its_node_gave_it() -> None:
    found = pod(annotations={"kubernetes.io/config.mirror": "of-the-node"})
    assert (found.uid, found.object_uid) == ("of-the-node", "u1")


def test_pods_of_their_nodes_own_network_and_those_that_have_ended_are_no_endpoints() -> None:
    assert not is_endpoint(pod({"hostNetwork": True, "containers": []}))
    assert not is_endpoint(pod(phase="Succeeded"))
    assert not is_endpoint(pod(phase="Failed"))
    ending = pod(deletionTimestamp="2026-11-27T08:00:00Z")
    assert is_endpoint(ending)
    assert ending.is_ending


def test_a_heartbeat_changes_nothing() -> None:
    def node(version: str, **status: Any) -> Any:
        addresses = [
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "InternalIP", "address": "fd00::1"},
        ]
        head = {"name": "n1", "resourceVersion": version, "labels": {"zone": "a"}}
        return NODES.read(raw(metadata=head, status={"addresses": addresses, **status}))[0]

    found = node("1")
    assert found.addresses == (ip_address("192.0.2.1"), ip_address("fd00::1"))
    assert node("2", conditions=[{"lastHeartbeatTime": "now"}]) == found


def test_a_namespace_is_labelled_with_its_name() -> None:
    found, _ = NAMESPACES.read(raw(metadata={"name": "shop", "labels": {"team": "a"}}))
    assert found.labels == {"team": "a", "kubernetes.io/metadata.name": "shop"}


def test_a_policy_is_kept_as_it_is_written() -> None:
    spec = {"podSelector": {}, "ingress": [{"unknown": 1}]}
    head = {"name": "p", "namespace": "shop", "managedFields": [{}]}
    found, _ = NETWORK_POLICIES.read(raw(metadata=head, spec=spec))
    assert found.key == "shop/p"
    assert json.loads(found.spec) == spec


def test_endpoints_of_pods_are_told_from_others_and_are_not_too_long() -> None:
    assert is_pod(pod_endpoint("shop", "web-0", "u1"))
    assert not is_pod("pod/container/eth0")
    long = pod_endpoint("n" * 63, "p" * 253, "6f1d5b1e-0000-4000-8000-000000000000")
    assert len(long) == 253
    assert long.endswith("6f1d5b1e-0000-4000-8000-000000000000")
    assert is_pod(long)


def test_a_node_knows_which_of_its_taints_is_ours() -> None:
    def taint(*keys: str) -> int | None:
        spec = {"taints": [{"key": key, "effect": "NoSchedule"} for key in keys]}
        return NODES.read(raw(metadata={"name": "n1"}, spec=spec))[0].agent_taint

    assert taint() is None
    assert taint("other") is None
    assert taint("other", NOT_READY_TAINT) == 1
