"""Groups of devices as objects of the API server, and policies that lead through them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest

from tests.kubernetes.checks.cluster_policies import in_force
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.cluster_policy import cluster_policy, from_team
from tests.kubernetes.hosts import WIRE
from tests.kubernetes.objects import PORT, Pods, namespace, pod
from tests.kubernetes.romana import Romana
from tests.kubernetes.shell import Failed, sh, until

pytestmark = pytest.mark.usefixtures("definitions")

ADDRESS, TAP_ADDRESS = "10.20.0.200", "10.20.0.201"
RESOURCE = "romanadevicegroup"
COPIES = """\
table ip tap {
    counter asked { }
    counter answered { }
    chain came {
        type filter hook prerouting priority raw;
        tcp dport %(port)d counter name asked
        tcp sport %(port)d counter name answered
    }
}
"""


class Device:
    """A machine on wire `blue`."""

    def __init__(self, cluster: Cluster, name: str, address: str) -> None:
        self._name = name
        self._address = address
        self._namespace = f"{cluster.hosts.state.name}.{name}"
        self._bridge = cluster.hosts.namespace(WIRE)

    def up(self) -> None:
        here = ("ip", "-n", self._namespace)
        sh("ip", "netns", "add", self._namespace)
        sh(
            "ip", "-n", self._bridge, "link", "add", self._name, "type", "veth",
            "peer", "name", "blue", "netns", self._namespace,
        )  # fmt: skip
        sh("ip", "-n", self._bridge, "link", "set", self._name, "master", "blue", "up")
        sh(*here, "addr", "add", f"{self._address}/24", "dev", "blue")
        sh(*here, "link", "set", "blue", "up")

    def down(self) -> None:
        sh("ip", "netns", "del", self._namespace)

    def _inside(self, *command: str, **more: Any) -> str:
        return sh("ip", "netns", "exec", self._namespace, *command, **more).stdout


Kind = TypeVar("Kind", bound=Device)


class Firewall(Device):
    """It forwards what is sent to it, and counts that."""

    def up(self) -> None:
        super().up()
        for knob in ("ip_forward=1", "conf.all.send_redirects=0", "conf.blue.send_redirects=0"):
            self._inside("sysctl", "-qw", f"net.ipv4.{knob}")

    def forwarded(self) -> int:
        """Packets."""
        said = self._inside("cat", "/proc/net/snmp")
        names, values = (line.split() for line in said.splitlines() if line.startswith("Ip: "))
        return int(dict(zip(names, values, strict=True))["ForwDatagrams"])


class Tap(Device):
    """It counts what comes to it of connections to the pods' port, and hands nothing on."""

    def up(self) -> None:
        super().up()
        self._inside("sysctl", "-qw", "net.ipv4.ip_forward=0")
        self._inside("nft", "-f", "-", input=COPIES % {"port": PORT})

    def seen(self) -> dict[str, int]:
        """Packets, by the end of a connection that sent them."""
        listed = json.loads(self._inside("nft", "-j", "list", "counters", "table", "ip", "tap"))
        found = [item["counter"] for item in listed["nftables"] if "counter" in item]
        return {one["name"]: one["packets"] for one in found}


@pytest.fixture
def firewall(romana: Romana) -> Iterator[Firewall]:
    with _beside(romana, Firewall(romana.cluster, "firewall", ADDRESS), ADDRESS) as made:
        yield made


@pytest.fixture
def tap(romana: Romana) -> Iterator[Tap]:
    with _beside(romana, Tap(romana.cluster, "tap", TAP_ADDRESS), TAP_ADDRESS) as made:
        yield made


@contextlib.contextmanager
def _beside(romana: Romana, device: Kind, address: str) -> Iterator[Kind]:
    device.up()
    romana.run("reservation", "create", "device", "--network", "blue", address)
    yield device
    try:
        romana.cluster.kubectl("delete", RESOURCE, "--all", "--timeout=60s")
    finally:
        romana.run("reservation", "delete", "device", "--yes", check=False)
        device.down()


def group(called: str = "firewalls", address: str = ADDRESS, **more: Any) -> dict[str, Any]:
    device = {"name": "fw-1", "addresses": [{"network": "blue", "address": address}]}
    return {
        "apiVersion": "romana.io/v1alpha1",
        "kind": "RomanaDeviceGroup",
        "metadata": {"name": called},
        "spec": {"networks": ["blue"], "devices": [device], **more},
    }


def status(romana: Romana, name: str = "firewalls") -> dict[str, Any]:
    found: dict[str, Any] = romana.cluster.get(RESOURCE, name).get("status", {})
    return found


def condition(romana: Romana, kind: str) -> tuple[str, str]:
    """Status and message."""
    for one in status(romana).get("conditions", ()):
        if one["type"] == kind:
            return one["status"], one["message"]
    return "", ""


def shop(pods: Pods) -> str:
    """A server on one node, and a client of another team's on the other; the server's address."""
    pods.run(
        namespace("shop", {"team": "shop"}, network="blue"),
        pod("web", node="node-1", network="blue"),
        pod("client", space="shop", node="node-2"),
    )
    return pods.address("web")


def test_an_annotation_leads_through_the_devices_of_an_object(
    firewall: Firewall, defined: Pods, romana: Romana
) -> None:
    pods = defined
    address = shop(pods)
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


def test_an_annotation_has_copies_made_for_the_devices_of_an_object(
    tap: Tap, defined: Pods, romana: Romana
) -> None:
    pods = defined
    address = shop(pods)
    plain = cluster_policy("copied", [from_team("Accept", "shop")])
    pods.cluster.apply(plain, cluster_policy("closed", [from_team("Deny", "shop")], priority=20))
    until(
        "the policies", lambda: {in_force(pods, one)[0] for one in ("copied", "closed")} == {"True"}
    )
    pods.until_asked("client", address, "", space="shop")
    assert tap.seen() == {"asked": 0, "answered": 0}
    # the group is not there yet: what should be copied does not pass unseen
    pods.cluster.apply(cluster_policy("copied", [from_team("Accept", "shop")], mirror="taps"))
    pods.until_asked("client", address, "timeout", space="shop")
    at = "metadata.annotations['romana.io/mirror']"
    until("an event", lambda: any(at in text for _, text in pods.events("copied")))
    pods.cluster.apply(group("taps", TAP_ADDRESS))
    users = ["ClusterNetworkPolicy/copied"]
    until("the policy", lambda: status(romana, "taps").get("policies") == users)

    def is_copied() -> bool:
        return pods.reaches("client", address, space="shop") and all(tap.seen().values())

    until("copies of both directions", is_copied)
    # one that is not understood closes the policy that has it, and no other
    other = cluster_policy("other", [from_team("Accept", "shop")], priority=15, mirror="no=taps")
    pods.cluster.apply(other)
    why = "no rule with Accept is called 'no'"
    until("an event", lambda: any(why in text for _, text in pods.events("other")))
    assert pods.reaches("client", address, space="shop")
    pods.cluster.kubectl("delete", "clusternetworkpolicy", "copied", "other", "closed")


def test_what_is_wrong_with_a_group_is_refused_there_and_then(romana: Romana) -> None:
    nowhere = [{"name": "fw-1", "addresses": [{"network": "green", "address": ADDRESS}]}]
    with pytest.raises(Failed, match="romana") as caught:
        romana.cluster.apply(group(devices=nowhere))
    assert "spec.devices[0].addresses[0].network" in str(caught.value)
    with pytest.raises(Failed, match=r"spec\.name"):
        romana.cluster.apply(group(name="other"))
