"""Groups of devices as objects of the API server, and policies that lead through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.cluster_policy import cluster_policy, from_team
from tests.kubernetes.hosts import WIRE
from tests.kubernetes.objects import Pods, namespace, pod
from tests.kubernetes.romana import Romana
from tests.kubernetes.shell import Failed, sh, until

pytestmark = pytest.mark.usefixtures("definitions")

ADDRESS = "10.20.0.200"
RESOURCE = "romanadevicegroup"


class Firewall:
    """A machine on wire `blue` that forwards what is sent to it, and counts that."""

    def __init__(self, cluster: Cluster) -> None:
        self._namespace = f"{cluster.hosts.state.name}.firewall"
        self._bridge = cluster.hosts.namespace(WIRE)

    def up(self) -> None:
        here = ("ip", "-n", self._namespace)
        sh("ip", "netns", "add", self._namespace)
        sh(
            "ip", "-n", self._bridge, "link", "add", "firewall", "type", "veth",
            "peer", "name", "blue", "netns", self._namespace,
        )  # fmt: skip
        sh("ip", "-n", self._bridge, "link", "set", "firewall", "master", "blue", "up")
        for knob in ("ip_forward=1", "conf.all.send_redirects=0", "conf.blue.send_redirects=0"):
            sh("ip", "netns", "exec", self._namespace, "sysctl", "-qw", f"net.ipv4.{knob}")
        sh(*here, "addr", "add", f"{ADDRESS}/24", "dev", "blue")
        sh(*here, "link", "set", "blue", "up")

    def down(self) -> None:
        sh("ip", "netns", "del", self._namespace)

    def forwarded(self) -> int:
        """Packets."""
        said = sh("ip", "netns", "exec", self._namespace, "cat", "/proc/net/snmp").stdout
        names, values = (line.split() for line in said.splitlines() if line.startswith("Ip: "))
        return int(dict(zip(names, values, strict=True))["ForwDatagrams"])


@pytest.fixture
def firewall(romana: Romana) -> Iterator[Firewall]:
    made = Firewall(romana.cluster)
    made.up()
    romana.run("reservation", "create", "firewall", "--network", "blue", ADDRESS)
    yield made
    try:
        romana.cluster.kubectl("delete", RESOURCE, "--all", "--timeout=60s")
    finally:
        romana.run("reservation", "delete", "firewall", "--yes", check=False)
        made.down()


def group(**more: Any) -> dict[str, Any]:
    device = {"name": "fw-1", "addresses": [{"network": "blue", "address": ADDRESS}]}
    return {
        "apiVersion": "romana.io/v1alpha1",
        "kind": "RomanaDeviceGroup",
        "metadata": {"name": "firewalls"},
        "spec": {"networks": ["blue"], "devices": [device], **more},
    }


def status(romana: Romana) -> dict[str, Any]:
    found: dict[str, Any] = romana.cluster.get(RESOURCE, "firewalls").get("status", {})
    return found


def condition(romana: Romana, kind: str) -> tuple[str, str]:
    """Status and message."""
    for one in status(romana).get("conditions", ()):
        if one["type"] == kind:
            return one["status"], one["message"]
    return "", ""


def test_an_annotation_leads_through_the_devices_of_an_object(
    firewall: Firewall, defined: Pods, romana: Romana
) -> None:
    pods = defined
    pods.run(
        namespace("shop", {"team": "shop"}, network="blue"),
        pod("web", node="node-1", network="blue"),
        pod("client", space="shop", node="node-2"),
    )
    address = pods.address("web")
    pods.until_asked("client", address, "", space="shop")
    assert firewall.forwarded() == 0
    # the group is not there yet: what it should look at does not pass
    pods.cluster.apply(cluster_policy("led", [from_team("Accept", "shop")], via="firewalls"))
    closed = cluster_policy("closed", [from_team("Deny", "shop")], priority=20)
    pods.cluster.apply(closed)
    pods.until_asked("client", address, "timeout", space="shop")
    until(
        "an event",
        lambda: any("there is no group of devices" in text for _, text in pods.events("led")),
    )
    pods.cluster.apply(group())
    until("the group", lambda: condition(romana, "Accepted")[0] == "True")
    pods.until_asked("client", address, "", space="shop")
    assert firewall.forwarded() > 0
    until("the device", lambda: status(romana)["devices"][0].get("state") == "up")
    until("the policy", lambda: status(romana).get("policies") == ["ClusterNetworkPolicy/led"])
    assert (status(romana)["up"], condition(romana, "Up")[0]) == ("1 of 1", "True")
    # it stays as long as it is needed
    pods.cluster.kubectl("delete", RESOURCE, "firewalls", "--wait=false")
    until("the reason", lambda: "ClusterNetworkPolicy/led" in condition(romana, "Removed")[1])
    pods.cluster.kubectl("delete", "clusternetworkpolicy", "led", "closed")

    def is_gone() -> bool:
        return not pods.cluster.get(RESOURCE)["items"]

    until("the group to be gone", is_gone)


def test_what_is_wrong_with_a_group_is_refused_there_and_then(romana: Romana) -> None:
    nowhere = [{"name": "fw-1", "addresses": [{"network": "green", "address": ADDRESS}]}]
    with pytest.raises(Failed, match="romana") as caught:
        romana.cluster.apply(group(devices=nowhere))
    assert "spec.devices[0].addresses[0].network" in str(caught.value)
    with pytest.raises(Failed, match=r"spec\.name"):
        romana.cluster.apply(group(name="other"))
