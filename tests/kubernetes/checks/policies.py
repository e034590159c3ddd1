"""NetworkPolicies are followed as they change, and so are the labels that they select by."""

from __future__ import annotations

import json

from tests.kubernetes.objects import Pods, namespace, network_policy, pod
from tests.kubernetes.romana import Romana
from tests.kubernetes.shell import until


def test_a_policy_is_in_force_from_its_creation_to_its_deletion(pods: Pods) -> None:
    pods.run(pod("web", node="node-1"), pod("near", node="node-1"), pod("far", node="node-2"))
    address = pods.address("web")
    for name in ("near", "far"):
        assert pods.reaches(name, address)
    closed = network_policy("closed", app="web")
    pods.cluster.apply(closed)
    for name in ("near", "far"):
        pods.until_asked(name, address, "timeout")
    far = {"podSelector": {"matchLabels": {"app": "far"}}}
    pods.cluster.apply(network_policy("closed", app="web", peers=[far]))
    pods.until_asked("far", address, "")
    assert not pods.reaches("near", address)
    pods.delete(closed)
    pods.until_asked("near", address, "")


def test_labels_of_pods_and_namespaces_count_as_they_change(pods: Pods) -> None:
    pods.run(
        namespace("shop", {"team": "shop"}),
        pod("web", node="node-1"),
        pod("client", space="shop", node="node-2"),
    )
    peer = {
        "podSelector": {"matchLabels": {"role": "front"}},
        "namespaceSelector": {"matchLabels": {"team": "shop"}},
    }
    pods.cluster.apply(network_policy("some", app="web", peers=[peer]))
    address = pods.address("web")
    pods.until_asked("client", address, "timeout", space="shop")
    label = ("label", "--overwrite")
    pods.cluster.kubectl("-n", "shop", *label, "pod", "client", "role=front")
    pods.until_asked("client", address, "", space="shop")
    pods.cluster.kubectl(*label, "namespace", "shop", "team=other")
    pods.until_asked("client", address, "timeout", space="shop")


def test_a_namespace_is_selected_by_its_name(pods: Pods) -> None:
    """A server of this version does not label namespaces so by itself."""
    pods.run(namespace("shop"), pod("web"), pod("client", space="shop"), pod("other"))
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}
    pods.cluster.apply(network_policy("shop", app="web", peers=[peer]))
    address = pods.address("web")
    pods.until_asked("other", address, "timeout")
    assert pods.reaches("client", address, space="shop")


def test_tenants_are_kept_apart_where_their_namespace_says_so(pods: Pods) -> None:
    pods.run(
        namespace("shop", isolation="tenant"),
        pod("web", space="shop"),
        pod("same", space="shop"),
        pod("other"),
    )
    address = pods.address("web", "shop")
    assert pods.reaches("same", address, space="shop")
    assert pods.ask("other", address) == "timeout"
    pods.cluster.kubectl("annotate", "--overwrite", "namespace", "shop", "romana.io/isolation=none")
    pods.until_asked("other", address, "")


def test_a_policy_from_elsewhere_stays(pods: Pods, romana: Romana) -> None:
    """What operators wrote is not the controller's to remove, and is not removed by it."""
    own = json.dumps(network_policy("own", space="elsewhere"))
    romana.run("policy", "apply", "-", text=own)
    pods.cluster.apply(network_policy("some"))
    until("the policy", lambda: "default/some" in romana.policies())
    romana.restart_controllers()
    pods.delete(network_policy("some"))
    until("the policy to be gone", lambda: "default/some" not in romana.policies())
    assert "elsewhere/own" in romana.policies()
    romana.run("policy", "delete", "elsewhere/own", "--yes")
