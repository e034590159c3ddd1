"""Policies of the cluster are followed once they are defined, and say where they are in force."""

from __future__ import annotations

from tests.kubernetes.cluster_policy import cluster_policy, from_team
from tests.kubernetes.objects import Pods, namespace, network_policy, pod
from tests.kubernetes.romana import Romana
from tests.kubernetes.shell import until


def in_force(pods: Pods, name: str) -> tuple[str, str]:
    """Status and message of the condition."""
    found = pods.cluster.get("clusternetworkpolicy", name).get("status", {})
    for one in found.get("conditions", ()):
        if one["type"] == "InForce":
            return one["status"], one["message"]
    return "", ""


def test_tiers_and_passing(defined: Pods) -> None:
    pods = defined
    pods.run(
        namespace("shop", {"team": "shop"}),
        pod("web", node="node-1"),
        pod("client", space="shop", node="node-2"),
    )
    address = pods.address("web")
    assert pods.reaches("client", address, space="shop")
    pods.cluster.apply(cluster_policy("base", [from_team("Deny", "shop")], tier="Baseline"))
    pods.until_asked("client", address, "timeout", space="shop")
    peer = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}
    pods.cluster.apply(network_policy("open", app="web", peers=[peer]))
    pods.until_asked("client", address, "", space="shop")
    pods.cluster.apply(cluster_policy("closed", [from_team("Deny", "shop")]))
    pods.until_asked("client", address, "timeout", space="shop")
    pods.cluster.apply(cluster_policy("first", [from_team("Pass", "shop")], priority=1))
    pods.until_asked("client", address, "", space="shop")
    until("the condition", lambda: in_force(pods, "closed") == ("True", "on 1 of 1 nodes"))
    pods.cluster.kubectl("delete", "clusternetworkpolicy", "first")
    pods.until_asked("client", address, "timeout", space="shop")


def test_a_rule_that_is_not_understood_is_an_event_and_lets_nobody_in(
    defined: Pods, romana: Romana
) -> None:
    pods = defined
    pods.run(namespace("shop", {"team": "shop"}), pod("web"), pod("client", space="shop"))
    address = pods.address("web")
    unknown = {"action": "Pass", "from": [{"serviceAccounts": {}}]}
    pods.cluster.apply(cluster_policy("odd", [unknown, from_team("Accept", "shop")]))
    pods.until_asked("client", address, "timeout", space="shop")
    field = "spec.ingress[0].from[0].serviceAccounts"
    until("an event", lambda: any(field in text for _, text in pods.events("odd")))
    bad = {**cluster_policy("bad", []), "metadata": {"name": "bad"}}
    bad["spec"] = {**bad["spec"], "subject": {"everybody": {}}}
    pods.cluster.apply(bad)
    until("the refusal", lambda: in_force(pods, "bad")[0] == "False")
    assert "ClusterNetworkPolicy/odd" in romana.policies()
    assert "ClusterNetworkPolicy/bad" not in romana.policies()
