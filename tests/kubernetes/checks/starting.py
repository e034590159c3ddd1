"""How long a pod takes to start, beside one of the reference plug-ins ptp and host-local, and what
of that it waits for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

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
    took: dict[str, list[tuple[float, float]]] = {OURS: [], THEIRS: []}
    log = cluster.log(OURS, "agent")
    try:
        until("the other plug-in", lambda: address_on(pods, THEIRS).startswith("10.244."))
        before = log.stat().st_size
        with ApiCalls(cluster) as api:
            for number in range(TIMES):
                for node in (OURS, THEIRS):
                    took[node].append(start(pods, api, f"p{number}-{node}", node))
    finally:
        cluster.run(THEIRS, "rm", REFERENCE)
        files.write_scheduler(cluster.hosts, {"urlPrefix": EXTENDER})
        cluster.restart(CONTROL, "kube-scheduler")
    until("our plug-in", lambda: address_on(pods, THEIRS).startswith("10.60."))
    ours, theirs = (middle([runs for _, runs in took[node]]) for node in (OURS, THEIRS))
    bound, bound_theirs = (middle([bound for bound, _ in took[node]]) for node in (OURS, THEIRS))
    waited = said(log, before, "cni_added")
    steps = said(log, before, "endpoint_attached")
    figures.append(
        f"a pod from its creation to Running: {ours * 1000:.0f} ms, with ptp and host-local "
        f"{theirs * 1000:.0f} ms (medians of {TIMES}): {ours / theirs:.2f} times as long; "
        f"it is bound after {bound * 1000:.0f} and {bound_theirs * 1000:.0f} ms; ours, in the "
        f"agent (ms): {waited}, of that {steps}"
    )


def middle(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def said(log: Path, start: int, event: str) -> Mapping[str, float]:
    """Medians of the milliseconds that an agent logs with an event, by what they were for."""
    found: dict[str, list[float]] = {}
    with log.open("rb") as file:
        file.seek(start)
        for line in file:
            if event.encode() in line:
                for what, many in json.loads(line)["milliseconds"].items():
                    found.setdefault(what, []).append(many)
    return {what: middle(many) for what, many in found.items()}


def start(pods: Pods, api: ApiCalls, name: str, node: str) -> tuple[float, float]:
    """Seconds until a pod is bound, and until it runs; it ends thereafter."""
    item = pod(name, node=node, command=("sleep", "3600"))
    if node == OURS:
        item["spec"]["containers"][0]["resources"] = {"limits": {RESOURCE: "1"}}
    begun = api.call("POST", PODS, item)
    bound = 0.0
    while True:
        at, found = api.ask("GET", f"{PODS}/{name}")
        if not bound and found["spec"].get("nodeName"):
            bound = at
        if found["status"]["phase"] == "Running":
            break
        time.sleep(0.005)
    pods.delete(item)
    return bound - begun, at - begun


def address_on(pods: Pods, node: str) -> str:
    """What a pod gets on a node."""
    item = pod("any", node=node)
    pods.run(item)
    found = pods.address("any")
    pods.delete(item)
    return found
