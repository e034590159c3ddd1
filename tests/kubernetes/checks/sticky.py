"""Addresses that stay with a pod's name: as far as its prefix group reaches."""

from __future__ import annotations

from tests.kubernetes.objects import Pods, pod, stateful_set
from tests.kubernetes.romana import TINY, TINY_NODES, Romana
from tests.kubernetes.shell import until


def other(node: str) -> str:
    """The other one of the two that are on the tiny network, whose blocks have one address."""
    return next(one for one in TINY_NODES if one != node)


def replace(pods: Pods, name: str, away_from: str) -> None:
    """Has the next pod of a name go to another node."""
    uid = pods.get(name)["metadata"]["uid"]
    pods.cluster.kubectl("cordon", away_from)
    try:
        pods.cluster.kubectl("delete", "pod", name)
        until("the next", lambda: uid_of(pods, name) not in {"", uid})
        pods.wait(("default", name))
    finally:
        pods.cluster.kubectl("uncordon", away_from)


def uid_of(pods: Pods, name: str) -> str:
    return pods.cluster.kubectl(
        "get", "pod", name, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}"
    ).stdout


def test_a_pod_of_a_stateful_set_keeps_its_address_on_another_node(
    pods: Pods, romana: Romana
) -> None:
    pods.cluster.apply(stateful_set("db", 2, network="tiny"))
    until("pods", lambda: uid_of(pods, "db-0") and uid_of(pods, "db-1"))
    pods.wait(("default", "db-0"), ("default", "db-1"))
    pods.run(pod("client", network="blue"))
    address, node = pods.address("db-0"), pods.get("db-0")["spec"]["nodeName"]
    replace(pods, "db-0", away_from=node)
    assert pods.get("db-0")["spec"]["nodeName"] == other(node)
    assert pods.address("db-0") == address
    assert romana.allocations()[address]["node"] == other(node)
    pods.until_asked("client", address, f"db-0 {pods.address('client')}")
    assert not pods.events("db-0")


def test_it_does_so_where_its_network_is_full(pods: Pods) -> None:
    pods.cluster.apply(stateful_set("db", TINY, network="tiny"))
    names = [f"db-{number}" for number in range(TINY)]
    until("pods", lambda: all(uid_of(pods, name) for name in names))
    pods.wait(*(("default", name) for name in names))
    before = {name: pods.address(name) for name in names}
    replace(pods, "db-3", away_from=pods.get("db-3")["spec"]["nodeName"])
    assert {name: pods.address(name) for name in names} == before


def test_where_it_cannot_an_event_says_why(pods: Pods) -> None:
    """Of the network `pods` every node has a prefix of its own."""
    web = pod("web", sticky="true")
    pods.run(web)
    address, node = pods.address("web"), pods.get("web")["spec"]["nodeName"]
    pods.delete(web)
    pods.run(web)
    assert (pods.address("web"), pods.get("web")["spec"]["nodeName"]) == (address, node)
    pods.delete(web)
    pods.cluster.kubectl("cordon", node)
    try:
        pods.run(web)
    finally:
        pods.cluster.kubectl("uncordon", node)
    assert pods.address("web") != address
    until("an event", lambda: any("is in group" in text for _, text in pods.events("web")))


def test_a_pod_that_loses_its_stateful_set_stays_what_it_is(pods: Pods, romana: Romana) -> None:
    pods.cluster.apply(stateful_set("db", 1, network="tiny"))
    until("a pod", lambda: uid_of(pods, "db-0"))
    pods.wait(("default", "db-0"))
    pods.run(pod("client", network="blue"))
    address, before = pods.address("db-0"), romana.names()
    pods.cluster.kubectl("delete", "statefulset", "db", "--cascade=orphan")
    pods.cluster.kubectl("label", "pod", "db-0", "round=two")
    endpoint = pods.endpoint("db-0")

    def is_told() -> bool:
        return romana.endpoint(endpoint).get("labels", {}).get("round") == "two"

    until("policy to hear of it", is_told)
    assert romana.endpoint(endpoint)["addresses"] == [address]
    assert romana.names() == before
    pods.until_asked("client", address, f"db-0 {pods.address('client')}")
    pods.cluster.kubectl("delete", "pod", "db-0")


def test_what_is_not_to_stay_does_not(pods: Pods, romana: Romana) -> None:
    made = stateful_set("db", 1, network="tiny", sticky="false")
    pods.cluster.apply(made)
    until("a pod", lambda: uid_of(pods, "db-0"))
    pods.wait(("default", "db-0"))
    assert romana.names() == {pods.endpoint("db-0")}
