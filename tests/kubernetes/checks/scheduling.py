"""kube-scheduler knows where addresses are left: no pod is bound to a node without one."""

from __future__ import annotations

import time

from services.kubernetes.objects.nodes import GROUP_LABEL, NOT_READY_TAINT
from tests.kubernetes.checks.conftest import figures
from tests.kubernetes.objects import Pods, deployment, network_policy, pod
from tests.kubernetes.romana import TINY, TINY_NODES, Romana
from tests.kubernetes.shell import until


def reasons(pods: Pods, name: str) -> str:
    """What kube-scheduler says of a pod."""
    events = pods.cluster.get("events", f"--field-selector=involvedObject.name={name}")["items"]
    return "; ".join(one["message"] for one in events if one["reason"] == "FailedScheduling")


def phases(pods: Pods, app: str) -> dict[str, int]:
    """How many pods of an app run, wait for kube-scheduler, or are bound and do not run."""
    found = {"running": 0, "waiting": 0, "stuck": 0}
    for one in pods.cluster.get("pods", "-l", f"app={app}")["items"]:
        if one["status"]["phase"] == "Running":
            found["running"] += 1
        else:
            found["stuck" if one["spec"].get("nodeName") else "waiting"] += 1
    return found


def test_a_pod_goes_only_where_its_network_is(pods: Pods) -> None:
    pods.run(*(pod(f"p{number}", network="tiny") for number in range(4)))
    nodes = {pods.get(f"p{number}")["spec"]["nodeName"] for number in range(4)}
    assert nodes <= set(TINY_NODES)


def test_a_pod_that_can_go_nowhere_says_why(pods: Pods) -> None:
    pods.cluster.apply(pod("off", node="node-3", network="tiny"))
    until("a reason", lambda: "tiny: the node is not on it" in reasons(pods, "off"))
    pods.cluster.apply(pod("unknown", network="nowhere"))
    until("a reason", lambda: "there is no network 'nowhere'" in reasons(pods, "unknown"))


def test_a_fixed_address_that_is_taken(pods: Pods) -> None:
    pods.run(pod("first", addresses="10.20.0.99"))
    pods.cluster.apply(pod("second", addresses="10.20.0.99"))
    until("a reason", lambda: "the address is in use" in reasons(pods, "second"))
    pods.run(pod("other", network="blue"))
    pods.delete(pod("first"))
    pods.cluster.kubectl("wait", "--for=condition=Ready", "pod/second", "--timeout=240s")
    assert pods.address("second") == "10.20.0.99"


def test_pods_of_their_nodes_own_network_are_bound_too(pods: Pods) -> None:
    host = pod("host", command=("sleep", "3600"))
    host["spec"]["hostNetwork"] = True
    pods.run(host)


def test_no_pod_is_bound_without_an_address(pods: Pods, romana: Romana) -> None:
    pods.cluster.apply(deployment("crowd", 30, network="tiny"))
    until(
        "all addresses to be in use",
        lambda: phases(pods, "crowd") == {"running": TINY, "waiting": 30 - TINY, "stuck": 0},
        seconds=120,
    )
    some = pods.cluster.get("pods", "-l", "app=crowd", "--field-selector=status.phase=Pending")
    name = some["items"][0]["metadata"]["name"]
    until("a reason", lambda: "tiny: no address is left" in reasons(pods, name))
    used = {one["address"] for one in romana.allocations().values() if one["network"] == "tiny"}
    assert len(used) == TINY

    pods.cluster.kubectl("scale", "deployment/crowd", f"--replicas={TINY}")
    until("those that wait to be gone", lambda: phases(pods, "crowd")["waiting"] == 0, seconds=120)
    pods.cluster.apply(pod("next", network="tiny"))
    until("a reason", lambda: "tiny: no address is left" in reasons(pods, "next"))
    pods.cluster.kubectl("scale", "deployment/crowd", f"--replicas={TINY - 1}")
    begun = time.monotonic()
    until("the next to be bound", lambda: pods.get("next")["spec"].get("nodeName"))
    figures.append(
        "a pod that waited for an address was bound "
        f"{time.monotonic() - begun:.1f} s after its predecessor was told to end"
    )
    pods.wait(("default", "next"))


def test_pods_are_kept_from_a_node_until_its_agent_is_ready(pods: Pods, romana: Romana) -> None:
    cluster = romana.cluster
    cluster.stop("node-3", "agent", signal="KILL")
    until("its stream to be gone", lambda: not romana.is_connected("node-3"))
    cluster.kubectl("taint", "node", "node-3", f"{NOT_READY_TAINT}=:NoSchedule")
    cluster.apply(pod("web", node="node-3"))
    until("a reason", lambda: NOT_READY_TAINT in reasons(pods, "web"))
    cluster.start("node-3", "agent")
    pods.wait(("default", "web"))
    assert not cluster.get("node", "node-3")["spec"].get("taints")


def test_nodes_have_their_groups_as_a_label(romana: Romana) -> None:
    def label(node: str) -> str | None:
        found: str | None = romana.cluster.get("node", node)["metadata"]["labels"].get(GROUP_LABEL)
        return found

    for node in romana.cluster.hosts.nodes:
        until("the label", lambda node=node: label(node) == f"pods.{node}")


def test_policies_hold_for_pods_that_the_extender_bound(pods: Pods) -> None:
    pods.cluster.apply(network_policy("closed", app="web"))
    pods.run(pod("web", network="tiny"), pod("client"))
    assert pods.ask("client", pods.address("web")) == "timeout"
