"""What is wrong with an object is an event on it with the field, and touches nothing else."""

from __future__ import annotations

import pytest

from tests.kubernetes.objects import Pods, namespace, pod
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
