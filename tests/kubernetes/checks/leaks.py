"""What nobody gives back is collected; what is only out of sight is not."""

from __future__ import annotations

from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.objects import Pods, pod
from tests.kubernetes.romana import CONTROLLERS, Romana
from tests.kubernetes.shell import until


def force_delete(pods: Pods, name: str) -> None:
    """Takes the object away at once, whatever runs."""
    pods.cluster.kubectl("delete", "pod", name, "--force", "--grace-period=0", "--wait=false")


def test_an_address_that_was_allocated_for_nobody_is_given_back(pods: Pods, romana: Romana) -> None:
    pods.run(pod("web", node="node-1"))
    name = "pod/default/web-1/6f1d5b1e-0000-4000-8000-000000000000"
    for one in (name, "somebody-elses"):
        romana.run("address", "allocate", one, "--node", "node-1", "--tenant", "default")
    until("the leak to be collected", lambda: name not in romana.names(), seconds=180)
    assert {"somebody-elses", pods.endpoint("web")} <= romana.names()
    romana.run("address", "release", "somebody-elses")


def test_what_kubelet_forgets_is_detached_by_its_node(pods: Pods, romana: Romana) -> None:
    """As when kubelet does not come back: the link would stay, and its address."""
    pods.run(pod("web", node="node-1"))
    endpoint = pods.endpoint("web")
    romana.cluster.stop("node-1", "kubelet", signal="KILL")
    force_delete(pods, "web")
    until("the link to be gone", lambda: not romana.links(), seconds=180)
    until("the address to be given back", lambda: not romana.addresses())
    until("policy to forget it", lambda: endpoint not in romana.endpoints())
    romana.cluster.start("node-1", "kubelet")


def test_nothing_is_collected_while_an_agent_is_away(pods: Pods, romana: Romana) -> None:
    pods.run(pod("web", node="node-1"), pod("other", node="node-2"))
    name = "pod/default/web-1/6f1d5b1e-0000-4000-8000-000000000001"
    leaks = {"node-1": name, "node-2": name[:-1] + "2"}
    romana.cluster.stop("node-1", "agent", signal="KILL")
    for node, one in leaks.items():
        romana.run("address", "allocate", one, "--node", node, "--tenant", "default")
    until("one to be collected", lambda: leaks["node-2"] not in romana.names(), seconds=180)
    assert leaks["node-1"] in romana.names()
    romana.cluster.start("node-1", "agent")
    until("the other to be collected", lambda: leaks["node-1"] not in romana.names(), seconds=180)
    assert {pods.endpoint("web"), pods.endpoint("other")} <= romana.names()


def test_nothing_is_released_because_the_api_server_was_away(pods: Pods, romana: Romana) -> None:
    pods.run(pod("web", node="node-1"), pod("client", node="node-2"))
    address = pods.address("web")
    client = pods.endpoint("client")
    before = romana.allocations()
    romana.cluster.stop(CONTROL, "kube-apiserver", signal="KILL")
    for controller in CONTROLLERS:
        romana.cluster.restart(CONTROL, controller)
    romana.restart_agent("node-1")
    assert romana.ask_from("node-2", client, address).startswith("web ")
    assert romana.allocations() == before
    romana.cluster.start(CONTROL, "kube-apiserver")
    romana.leader()
    pods.run(pod("new"))
    assert romana.allocations().keys() >= before.keys()
    assert pods.reaches("client", address)
