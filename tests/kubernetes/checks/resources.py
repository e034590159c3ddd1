"""Topology and networks as objects of the API server, and what it asks before it takes them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.kubernetes.objects import Pods, pod
from tests.kubernetes.romana import Romana
from tests.kubernetes.shell import Failed, until

pytestmark = pytest.mark.usefixtures("definitions")


def topology(spec: Any, name: str = "romana", **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "romana.io/v1alpha1",
        "kind": "RomanaTopology",
        "metadata": {
            "name": name,
            "annotations": {f"romana.io/{key}": text for key, text in annotations.items()},
        },
        "spec": spec,
    }


def condition(romana: Romana, kind: str, name: str = "romana") -> tuple[str, str]:
    """Status and message of a condition."""
    status = romana.cluster.get("romanatopology", name).get("status", {})
    found = {one["type"]: one for one in status.get("conditions", ())}
    return found.get(kind, {}).get("status", ""), found.get(kind, {}).get("message", "")


def test_a_topology_is_applied_and_shown(romana: Romana) -> None:
    spec = copy.deepcopy(dict(romana.topology()))
    romana.cluster.apply(topology(spec))
    until("it to be applied", lambda: condition(romana, "Applied")[0] == "True")
    spec["networks"].append({"name": "more", "cidr": "10.70.0.0/24", "vlan_id": 70})
    spec["topologies"].append({"networks": ["more"]})
    romana.cluster.apply(topology(spec))
    until("the network", lambda: "more" in shown(romana))
    assert shown(romana)["more"]["spec"]["cidr"] == "10.70.0.0/24"
    status = romana.cluster.get("rtopo", "romana")["status"]
    assert "network more: added" in status["plan"]
    romana.cluster.apply(topology(romana.topology()))
    until("the network to be gone", lambda: "more" not in shown(romana))


def shown(romana: Romana) -> dict[str, Any]:
    items = romana.cluster.get("romananetworks")["items"]
    return {one["metadata"]["name"]: one for one in items}


def test_networks_say_how_full_they_are(pods: Pods, romana: Romana) -> None:
    pods.run(pod("web", network="tiny"))

    def used() -> int:
        return int(shown(romana)["tiny"].get("status", {}).get("used", 0))

    until("the address to be counted", lambda: used() == 1)
    status = shown(romana)["tiny"]["status"]
    assert status["free"] + status["reserved"] + status["resting"] == 16 - 1
    assert [one["group"] for one in status["groups"]] == ["tiny/all"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cidr": "10.60.0.1/16"}, "spec.networks[0].cidr"),
        ({"cidr": "10.20.0.0/16"}, "spec.networks"),
        ({"nonsense": 1}, "spec.networks[0].nonsense"),
    ],
)
def test_what_is_wrong_is_refused_there_and_then(
    romana: Romana, change: dict[str, Any], field: str
) -> None:
    spec = copy.deepcopy(dict(romana.topology()))
    spec["networks"][0] |= change
    with pytest.raises(Failed, match="romana") as caught:
        romana.cluster.apply(topology(spec))
    assert field in str(caught.value)


def test_what_would_strand_addresses_is_refused(pods: Pods, romana: Romana) -> None:
    romana.cluster.apply(topology(romana.topology()))
    pods.run(pod("web", network="tiny"))
    spec = copy.deepcopy(dict(romana.topology()))
    spec["networks"] = [one for one in spec["networks"] if one["name"] != "tiny"]
    spec["topologies"] = [one for one in spec["topologies"] if one["networks"] != ["tiny"]]
    with pytest.raises(Failed, match=r"strand|in use"):
        romana.cluster.apply(topology(spec))


def test_there_is_one_topology(romana: Romana) -> None:
    with pytest.raises(Failed, match="there is one topology"):
        romana.cluster.apply(topology(romana.topology(), name="second"))


def test_without_the_webhook_conditions_say_what_is_wrong(romana: Romana) -> None:
    cluster = romana.cluster
    hook = cluster.get("validatingwebhookconfiguration", "romana")
    cluster.kubectl("delete", "validatingwebhookconfiguration", "romana")
    spec = copy.deepcopy(dict(romana.topology()))
    spec["networks"][0]["cidr"] = "10.60.0.1/16"
    cluster.apply(topology(spec), topology({"networks": []}, name="second"))
    until("a condition", lambda: condition(romana, "Accepted")[0] == "False")
    assert "spec.networks[0].cidr" in condition(romana, "Accepted")[1]
    until("a condition", lambda: condition(romana, "Accepted", "second")[0] == "False")
    cluster.apply(topology(romana.topology()))
    until("it to be applied", lambda: condition(romana, "Applied")[0] == "True")
    cluster.kubectl("delete", "rtopo", "second")
    for key in ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"):
        hook["metadata"].pop(key, None)
    cluster.apply(hook)
