"""While the API server is away, or has forgotten what was, nothing is lost or given back."""

from __future__ import annotations

import time

from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.objects import Pods, network_policy, pod
from tests.kubernetes.romana import CONTROLLERS, Romana
from tests.kubernetes.shell import until

MINUTE = 60.0
FRIEND = {"role": "friend"}


def test_an_api_server_that_is_away_for_a_minute(pods: Pods, romana: Romana) -> None:
    cluster = romana.cluster
    pods.run(
        network_policy("closed", app="web", peers=[{"podSelector": {"matchLabels": FRIEND}}]),
        pod("web", node="node-1"),
        pod("friend", node="node-2", labels=FRIEND),
        pod("other", node="node-2"),
    )
    address = pods.address("web")
    friend, other = pods.endpoint("friend"), pods.endpoint("other")
    before = romana.allocations()
    cluster.stop(CONTROL, "kube-apiserver", signal="KILL")
    end = time.monotonic() + MINUTE
    while time.monotonic() < end:
        assert romana.ask_from("node-2", friend, address).startswith("web ")
        assert romana.ask_from("node-2", other, address) == "timeout"
        assert romana.allocations() == before
    cluster.start(CONTROL, "kube-apiserver")
    pods.cluster.apply(network_policy("closed", app="web"))
    pods.until_asked("friend", address, "timeout")
    assert romana.allocations() == before


def test_versions_that_are_no_longer_there(pods: Pods, romana: Romana) -> None:
    """The controllers sleep, what they follow changes, and etcd forgets how (410)."""
    cluster = romana.cluster
    pods.run(
        network_policy("closed", app="web"),
        network_policy("gone", app="client"),
        pod("web", node="node-1"),
        pod("old", node="node-1"),
        pod("client", node="node-2"),
    )
    until("policies", lambda: {"default/closed", "default/gone"} <= set(romana.policies()))
    old = pods.endpoint("old")
    for controller in CONTROLLERS:
        cluster.signal(CONTROL, controller, "STOP")
    try:
        pods.delete(network_policy("gone"), network_policy("closed"), pod("old"))
        cluster.restart(CONTROL, "kube-apiserver")
        cluster.compact()
        cluster.restart(CONTROL, "kube-apiserver")
    finally:
        for controller in CONTROLLERS:
            cluster.signal(CONTROL, controller, "CONT")
    pods.until_asked("client", pods.address("web"), f"web {pods.address('client')}")
    until(
        "policies to be gone",
        lambda: not {"default/closed", "default/gone"} & set(romana.policies()),
    )
    until("the endpoint to be forgotten", lambda: old not in romana.endpoints())
    stay = {pods.endpoint("web"), pods.endpoint("client")}
    until("its address to be given back", lambda: romana.names() == stay, seconds=180)
    pods.run(pod("new"))
