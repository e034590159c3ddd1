"""Two replicas of the controller: one writes, and when it ends or is deposed the other does."""

from __future__ import annotations

from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.objects import Pods, network_policy, pod
from tests.kubernetes.romana import CONTROLLERS, Romana
from tests.kubernetes.shell import until


def test_the_other_goes_on_when_the_active_one_is_killed(pods: Pods, romana: Romana) -> None:
    pods.run(pod("web"), pod("client"))
    address = pods.address("web")
    leader = romana.leader()
    romana.cluster.stop(CONTROL, leader, signal="KILL")
    pods.cluster.apply(network_policy("closed", app="web"))
    pods.until_asked("client", address, "timeout")
    assert romana.leader() != leader
    romana.cluster.start(CONTROL, leader)


def test_a_lease_that_is_stolen_ends_the_term(pods: Pods, romana: Romana) -> None:
    pods.run(pod("web"), pod("client"))
    patch = '{"spec": {"holderIdentity": "thief"}}'
    lease = (
        "-n",
        "kube-system",
        "patch",
        "lease",
        "romana-kubernetes",
        "--type=merge",
        "-p",
        patch,
    )
    pods.cluster.kubectl(*lease)
    until("nobody to lead", lambda: not any(romana.leads(name) for name in CONTROLLERS))
    pods.cluster.apply(network_policy("closed", app="web"))
    until("somebody to lead", lambda: any(romana.leads(name) for name in CONTROLLERS))
    pods.until_asked("client", pods.address("web"), "timeout")


def test_pods_start_while_no_controller_runs_if_their_node_knows_them(
    pods: Pods, romana: Romana
) -> None:
    """Only what it says of a pod once is needed: a sandbox comes back without it."""
    pods.run(pod("web", node="node-1"))
    address, sandbox = pods.address("web"), romana.sandbox("node-1", pods.endpoint("web"))
    for controller in CONTROLLERS:
        romana.cluster.stop(CONTROL, controller)
    romana.kill_sandbox("node-1", sandbox)
    until("another sandbox", lambda: romana.sandbox("node-1", pods.endpoint("web")) != sandbox)
    pods.wait(("default", "web"))
    assert pods.address("web") == address
    new = pod("new")
    new["spec"]["nodeName"] = "node-1"  # nobody there to say where it may go
    pods.cluster.apply(new)
    until("kubelet to say why", lambda: "waited 5 s" in str(pods.cluster.get("events")))
    for controller in CONTROLLERS:
        romana.cluster.start(CONTROL, controller)
    pods.wait(("default", "new"))
