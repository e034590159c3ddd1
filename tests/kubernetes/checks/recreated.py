"""What has the name of something that was: another pod, another node, half an attachment."""

from __future__ import annotations

from tests.kubernetes.objects import Pods, namespace, pod
from tests.kubernetes.romana import Romana
from tests.kubernetes.shell import until

ROUNDS = 8
AT_ONCE = ("--force", "--grace-period=0", "--wait=false")


def test_pods_of_one_name_within_a_second(pods: Pods, romana: Romana) -> None:
    web = pod("web", node="node-1")
    for _ in range(ROUNDS):
        pods.cluster.apply(web)
        pods.cluster.kubectl("delete", "pod", "web", *AT_ONCE)
    pods.run(web, pod("client", node="node-2"))
    address = pods.address("web")
    pods.until_asked("client", address, f"web {pods.address('client')}")
    ours = {pods.endpoint("web"), pods.endpoint("client")}
    until("the others to be given back", lambda: romana.names() == ours, seconds=180)
    until("the others to be detached", lambda: len(romana.links()) == 2, seconds=180)
    assert pods.ask("client", address).startswith("web ")


def test_a_pod_that_is_deleted_before_it_is_attached(pods: Pods, romana: Romana) -> None:
    """Its node knows of it, and its agent is away when kubelet calls."""
    romana.cluster.stop("node-1", "agent", signal="KILL")
    for number in range(3):
        pods.cluster.apply(pod(f"web-{number}", node="node-1"))
    until("addresses", lambda: len(romana.addresses()) == 3)
    pods.cluster.kubectl("delete", "pod", "web-0", *AT_ONCE)
    romana.cluster.start("node-1", "agent")
    pods.cluster.kubectl("delete", "pod", "web-1", *AT_ONCE)
    pods.wait(("default", "web-2"))
    until(
        "the others to be given back",
        lambda: romana.names() == {pods.endpoint("web-2")},
        seconds=180,
    )
    until("the others to be detached", lambda: len(romana.links()) == 1, seconds=180)


def test_a_namespace_that_ends_with_pods_in_it(pods: Pods, romana: Romana) -> None:
    shop = namespace("shop")
    pods.run(shop, *(pod(f"web-{number}", space="shop") for number in range(3)))
    pods.cluster.kubectl("delete", "namespace", "shop", "--wait=false")
    until("addresses to be given back", lambda: not romana.addresses(), seconds=120)
    there = ("get", "namespace", "shop")
    until(
        "the namespace to be gone",
        lambda: pods.cluster.kubectl(*there, check=False).returncode,
        seconds=120,
    )
    pods.run(shop, pod("web-0", space="shop"))
    assert romana.names() == {pods.endpoint("web-0", "shop")}


def test_a_node_that_comes_back_with_another_address(pods: Pods, romana: Romana) -> None:
    cluster, node = romana.cluster, "node-3"
    pods.run(pod("web", node=node), pod("client", node="node-1"))
    first = cluster.hosts.address(node)
    try:
        for number in (33, None):  # there, and back again
            for program in ("kubelet", "agent"):
                cluster.stop(node, program, signal="KILL")
            pods.cluster.kubectl("delete", "node", node)
            pods.cluster.kubectl("delete", "pod", "web", "--ignore-not-found", *AT_ONCE)
            cluster.hosts.move(node, number)
            romana.write_routes()
            cluster.start(node, "kubelet")
            romana.annotate(node)
            cluster.start(node, "agent")
            until_known(romana, node, str(cluster.hosts.address(node)))
            pods.run(pod("web", node=node))
            pods.until_asked("client", pods.address("web"), "")
    finally:
        if cluster.hosts.address(node) != first:
            cluster.hosts.move(node, None)


def until_known(romana: Romana, node: str, address: str) -> None:
    """Waits until topology has a node with an address."""

    def is_known() -> bool:
        nodes = romana.call("topology", "ListNodes", page_size=100).get("nodes", ())
        return any(one["name"] == node and one.get("address") == address for one in nodes)

    until(f"{node} with {address}", is_known)
