"""How long a pod takes to start, beside one of the reference plug-ins ptp and host-local."""

from __future__ import annotations

import time

from tests.kubernetes import files
from tests.kubernetes.checks.conftest import figures
from tests.kubernetes.cluster import REFERENCE
from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.objects import Pods, pod
from tests.kubernetes.prompt import ApiCalls
from tests.kubernetes.romana import EXTENDER, Romana
from tests.kubernetes.shell import until

TIMES = 15
OURS, THEIRS = "node-2", "node-3"
RESOURCE = "romana.io/address"
PODS = "/api/v1/namespaces/default/pods"


def test_a_pod_starts_as_soon_as_with_the_reference_plugins(pods: Pods, romana: Romana) -> None:
    """One after the other in turn, on two nodes of one cluster; the extender has a part in ours."""
    cluster = romana.cluster
    only = {"managedResources": [{"name": RESOURCE, "ignoredByScheduler": True}]}
    files.write_scheduler(cluster.hosts, {"urlPrefix": EXTENDER, **only})
    cluster.restart(CONTROL, "kube-scheduler")
    cluster.write_reference(THEIRS)
    took: dict[str, list[float]] = {OURS: [], THEIRS: []}
    try:
        until("the other plug-in", lambda: address_on(pods, THEIRS).startswith("10.244."))
        with ApiCalls(cluster) as api:
            for number in range(TIMES):
                for node in (OURS, THEIRS):
                    took[node].append(start(pods, api, f"p{number}-{node}", node))
    finally:
        cluster.run(THEIRS, "rm", REFERENCE)
        files.write_scheduler(cluster.hosts, {"urlPrefix": EXTENDER})
        cluster.restart(CONTROL, "kube-scheduler")
    until("our plug-in", lambda: address_on(pods, THEIRS).startswith("10.60."))
    ours, theirs = (sorted(took[node])[TIMES // 2] for node in (OURS, THEIRS))
    figures.append(
        f"a pod from its creation to Running: {ours * 1000:.0f} ms, with ptp and host-local "
        f"{theirs * 1000:.0f} ms (medians of {TIMES}): {ours / theirs:.2f} times as long"
    )


def start(pods: Pods, api: ApiCalls, name: str, node: str) -> float:
    """Seconds until a pod runs, that ends thereafter."""
    item = pod(name, node=node, command=("sleep", "3600"))
    if node == OURS:
        item["spec"]["containers"][0]["resources"] = {"limits": {RESOURCE: "1"}}
    begun = api.call("POST", PODS, item)
    while True:
        at, found = api.ask("GET", f"{PODS}/{name}")
        if found["status"]["phase"] == "Running":
            break
        time.sleep(0.005)
    pods.delete(item)
    return at - begun


def address_on(pods: Pods, node: str) -> str:
    """What a pod gets on a node."""
    item = pod("any", node=node)
    pods.run(item)
    found = pods.address("any")
    pods.delete(item)
    return found
