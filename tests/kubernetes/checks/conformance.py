"""Kubernetes' cases of NetworkPolicy once more, by objects of the API server and with real pods."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kernel.conformance import pods as model
from tests.kernel.conformance.cases import CASES, Case, Step
from tests.kernel.conformance.pods import NAMES, NAMESPACES, PODS, Pod, Prober
from tests.kubernetes.objects import Pods, namespace, pod
from tests.kubernetes.romana import PODS as CIDR
from tests.kubernetes.romana import Romana

PROTOCOLS = {"tcp": "tcp", "udp": "echo"}
"""That these pods serve, and how: SCTP is for tests with raw sockets."""
LATER = {"a range of ports"}
"""What this version of the API has not."""
SECONDS = 180.0
NO_SUCH_ADDRESS = "fd77::1"
"""Of pods that have none of IPv6."""
PORTS = [
    {
        "name": f"serve-{port}" + ("" if protocol == "tcp" else f"-{protocol}"),
        "containerPort": port,
        "protocol": protocol.upper(),
    }
    for port in model.PORTS
    for protocol in PROTOCOLS
]


@dataclass
class RealPods(Prober):
    """Nine pods of a cluster."""

    where: dict[Pod, Path] = field(default_factory=dict)

    def path(self, pod: Pod) -> Path:
        """Its namespace."""
        return self.where[pod]


@pytest.fixture(scope="module")
def nine(romana: Romana) -> Iterator[RealPods]:
    """A pod of each namespace on each node."""
    pods = Pods(romana.cluster)
    spaces = [namespace(name, {"ns": name}) for name in NAMESPACES]
    made = []
    for one in PODS:
        node = romana.cluster.hosts.nodes[NAMES.index(one.name)]
        serve = [f"{way}/{port}" for way in PROTOCOLS.values() for port in model.PORTS]
        item = pod(
            one.name,
            space=one.namespace,
            node=node,
            labels={"pod": one.name},
            command=("probe", "serve", *serve),
        )
        item["spec"]["containers"][0]["ports"] = PORTS
        made.append(item)
    pods.run(*spaces, *made)
    found = RealPods()
    for one in PODS:
        address = ip_address(pods.address(one.name, one.namespace))
        found.addresses[one] = {socket.AF_INET: address}
        node = romana.cluster.hosts.nodes[NAMES.index(one.name)]
        endpoint = pods.endpoint(one.name, one.namespace)
        found.where[one] = romana.namespace_of(node, endpoint)
    yield found
    pods.delete(*spaces)


@pytest.fixture(autouse=True)
def clean() -> None:
    """The nine stay from case to case."""


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name not in LATER], ids=lambda case: case.name
)
def test_who_reaches_whom(romana: Romana, nine: RealPods, case: Case) -> None:
    """A change is in force soon, and what was not changed stays: so it is tried until it is right,
    and then once more."""
    for number, step in enumerate(case.steps):
        take(romana, nine, step)
        protocols = [one for one in step.protocols if one in PROTOCOLS]
        end = time.monotonic() + SECONDS
        while wrong := asyncio.run(nine.check(step.expected, protocols)):
            assert time.monotonic() < end, f"step {number}: {len(wrong)} are wrong: {wrong[:8]}"
        again = asyncio.run(nine.check(step.expected, protocols))
        assert not again, f"step {number}: right first, then not: {again[:8]}"


def take(romana: Romana, nine: RealPods, step: Step) -> None:
    """Makes the labels and policies those of a step."""
    cluster = romana.cluster
    for name in NAMESPACES:
        label(romana, "", "namespace", name, step.namespace_labels.get(name, {"ns": name}))
    for one in PODS:
        wanted = step.pod_labels.get(one, {"pod": one.name})
        label(romana, one.namespace, "pod", one.name, wanted)
    objects = [one for one in yaml.safe_load_all(filled(nine, step.documents)) if one]
    wanted_names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in objects}
    for found in cluster.get("networkpolicies", "--all-namespaces")["items"]:
        space, name = found["metadata"]["namespace"], found["metadata"]["name"]
        if (space, name) not in wanted_names:
            cluster.kubectl("-n", space, "delete", "networkpolicy", name)
    if objects:
        cluster.apply(*objects)


_labels: dict[tuple[str, str, str], Mapping[str, str]] = {}


def label(romana: Romana, space: str, kind: str, name: str, wanted: Mapping[str, str]) -> None:
    """Gives an object labels, where they are not those that it was given last."""
    key = (space, kind, name)
    if _labels.get(key, wanted_at_first(kind, name)) != wanted:
        where = ("-n", space) if space else ()
        pairs = [f"{one}={text}" for one, text in wanted.items()]
        romana.cluster.kubectl(*where, "label", "--overwrite", kind, name, *pairs)
    _labels[key] = wanted


def wanted_at_first(kind: str, name: str) -> Mapping[str, str]:
    """What they are made with."""
    return {"ns" if kind == "namespace" else "pod": name}


def filled(nine: RealPods, text: str) -> str:
    """Documents of a case, with the addresses of these pods."""

    def address(match: re.Match[str]) -> str:
        if match[3]:
            return NO_SUCH_ADDRESS
        found: Any = nine.addresses[Pod(match[1], match[2])][socket.AF_INET]
        return str(found)

    text = text.replace("10.77.0.0/16", str(CIDR))
    return re.sub(r"\{(\w)/(\w)( v6)?\}", address, text)
