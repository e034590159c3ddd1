"""What is wrong with an object is an event on it with the field, and touches nothing else."""

from __future__ import annotations

import pytest

from tests.kubernetes.checks.scheduling import reasons
from tests.kubernetes.objects import Pods, namespace, network_policy, pod
from tests.kubernetes.romana import Romana
from tests.kubernetes.shell import until


@pytest.mark.parametrize(
    ("annotations", "field"),
    [
        ({"network": "No such name"}, "metadata.annotations[romana.io/network]"),
        ({"network": "blue", "networks": "blue"}, "metadata.annotations[romana.io/networks]"),
        ({"family": "5"}, "metadata.annotations[romana.io/family]"),
        ({"addresses": "10.20.0.300"}, "metadata.annotations[romana.io/addresses]"),
    ],
)
def test_a_malformed_annotation(pods: Pods, annotations: dict[str, str], field: str) -> None:
    bad = pod("bad", **annotations)
    pods.cluster.apply(bad)
    until("an event", lambda: any(field in text for _, text in pods.events("bad")))
    pods.run(pod("good"))
    assert pods.get("bad")["status"]["phase"] == "Pending"


def test_an_annotation_of_a_namespace(pods: Pods) -> None:
    pods.run(namespace("shop", isolation="total"), pod("web", space="shop"))
    field = "metadata.annotations[romana.io/isolation]"
    until("an event", lambda: any(field in text for _, text in pods.events("shop")))


def test_an_address_of_no_network(pods: Pods) -> None:
    pods.cluster.apply(pod("bad", addresses="192.0.2.7"))
    reason = "metadata.annotations[romana.io/addresses]: blue: the address is not of it"
    until("a reason", lambda: reason in reasons(pods, "bad"))
    pods.run(pod("good"))
    assert not pods.get("bad")["spec"].get("nodeName")


def test_a_policy_with_a_selector_that_is_refused(pods: Pods, romana: Romana) -> None:
    """The API server takes any number of labels."""
    bad = network_policy("bad")
    bad["spec"]["podSelector"] = {"matchLabels": {f"key-{number}": "a" for number in range(100)}}
    pods.cluster.apply(bad, network_policy("good", app="web"))
    until("an event", lambda: any("spec.podSelector" in text for _, text in pods.events("bad")))
    assert "default/bad" not in romana.policies()
    pods.run(pod("web"), pod("client"))
    assert pods.ask("client", pods.address("web")) == "timeout"
