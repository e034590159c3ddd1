"""A real VM, under qemu by emulation, in a lab: nothing of Romana is in it.

Two nodes on a VLAN of each family. The VM is on the first; who speaks with it is on both, and a
plain machine on each VLAN. What may pass is asked of policy, and compared with what does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.capture import Capture
from lab.cluster import Cluster
from lab.namespaces import name_of
from tests.support.netns import Namespace
from tests.vm.guest import image
from tests.vm.guest.machine import Machine
from tests.vm.guest.probing import (
    REASON,
    addresses,
    agent,
    attach,
    connects,
    renew,
    romana,
    until,
)

pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=f"needs {REASON}"),
    pytest.mark.timeout(900),
]

TEXT = """
name: {name}
networks:
  - name: a
    cidr: 10.20.0.0/24
    vlan_id: 20
    gateway: 10.20.0.1
    mtu: 1400
    dns: {{nameservers: [10.20.0.53]}}
  - name: six
    cidr: "fd00:60::/64"
    vlan_id: 60
    gateway: "fd00:60::1"
    mtu: 1400
    dns: {{nameservers: ["fd00:60::53"]}}
topologies:
  - {{name: dc, networks: [a], groups: [{{name: rack}}]}}
  - {{name: dc6, networks: [six], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{a: 10.20.0.251, six: "fd00:60::251"}}}}
  - {{name: n2, addresses: {{a: 10.20.0.252, six: "fd00:60::252"}}}}
endpoints:
  - {{name: near4, node: n1, network: a, tenant: shop, segment: front}}
  - {{name: near6, node: n1, network: six, tenant: shop, segment: front}}
  - {{name: far4, node: n2, network: a, tenant: shop, segment: front}}
  - {{name: far6, node: n2, network: six, tenant: shop, segment: front}}
  - {{name: back4, node: n2, network: a, tenant: shop, segment: back}}
  - {{name: back6, node: n1, network: six, tenant: shop, segment: back}}
machines:
  - {{name: m4, network: a, address: 10.20.0.21}}
  - {{name: m6, network: six, address: "fd00:60::21"}}
"""
POLICY = """
policies:
  - name: shop/vm
    targets: [{endpoints: {segments: [vm]}}]
    directions: [ingress, egress]
    ingress:
      - {peers: [{endpoints: {segments: [front]}}], ports: [{protocol: tcp, port: 8080}]}
    egress:
      - {peers: [{endpoints: {segments: [back]}}], ports: [{protocol: tcp, port: 80}]}
      - {peers: [{cidr: {cidr: 10.20.0.21/32}}, {cidr: {cidr: "fd00:60::21/128"}}]}
"""
OTHERS = ("near4", "near6", "far4", "far6", "back4", "back6", "m4", "m6")
TAP = "tap0"


class Site(NamedTuple):
    cluster: Cluster
    machine: Machine
    four: str
    six: str
    """The VM's addresses."""

    def own(self, other: str) -> str:
        """Of the family that somebody else has."""
        return self.four if other.endswith("4") else self.six

    def place(self, name: str) -> Namespace:
        return Namespace(name_of(self.cluster.lab.name, name), there=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("vm")
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster = Cluster(TEXT.format(name=name), folder=folder / "lab", guarded=True, patience=3.0)
    asyncio.run(cluster.up())
    try:
        (folder / "policy.yaml").write_text(POLICY)
        romana(cluster, "policy", "apply", str(folder / "policy.yaml"), "--wait", "60")
        node = Namespace(name_of(name, "n1"), there=True)
        node.run(f"ip tuntap add {TAP} mode tap")
        shown = attach(cluster, "vm-1", TAP)
        seed = folder / "seed.iso"
        romana(cluster, "endpoint", "cloud-init", "vm-1", "--seed", str(seed), *agent(cluster))
        machine = Machine(node, TAP, "02:00:00:00:00:05", image.build(folder), seed, folder)
        with contextlib.ExitStack() as stack:
            stack.callback(machine.stop)
            for other in OTHERS:
                serve(Namespace(name_of(name, other), there=True), folder, stack)
            machine.start()
            yield Site(cluster, machine, *shown)
    finally:
        cluster.down()


def serve(place: Namespace, folder: Path, stack: contextlib.ExitStack) -> None:
    """Something answers at port 80."""
    (folder / "www").mkdir(exist_ok=True)
    (folder / "www/index.html").write_text("from outside\n")
    process = place.start(["busybox", "httpd", "-f", "-p", "80", "-h", str(folder / "www")])
    stack.callback(process.wait)
    stack.callback(process.kill)


def allowed(cluster: Cluster, source: str, target: str, port: int) -> bool:
    """What policy says."""
    words = ["policy", "explain", source, target, "--protocol", "tcp", "--port", str(port)]
    return romana(cluster, *words, check=False).returncode == 0


def of(site: Site, other: str) -> str:
    """Somebody else's address."""
    return str(asyncio.run(site.cluster.host(other)).address)


def fetched(site: Site, address: str) -> str:
    """What the guest gets from port 80, or what its kernel says of that."""
    host = f"[{address}]" if ":" in address else address
    return site.machine.says(f"timeout 6 wget -q -O - http://{host}/")


def configured(site: Site) -> bool:
    return {f"{site.four}/32", f"{site.six}/128"} <= set(site.machine.says("ip addr").split())


def configure(site: Site) -> None:
    """Waits until it has its addresses."""
    try:
        until(lambda: configured(site))
    except AssertionError as error:
        folder = site.cluster.folder / "agent.n1/guests"
        of_guest = site.machine.says(
            "ip addr show eth0; ps | grep dh; cat /four.log /four.events /six.log /six.events"
        )
        of_node = [(folder / name).read_text() for name in ("leases", "dnsmasq.log")]
        raise AssertionError("\n".join([of_guest, *of_node])) from error


def test_it_starts_with_its_addresses(site: Site) -> None:
    configure(site)
    until(lambda: "default via fe80::1 " in site.machine.says("ip -6 route"))
    assert "default via 169.254.1.1 dev eth0" in site.machine.says("ip route")
    assert site.machine.says("cat /sys/class/net/eth0/mtu") == "1400"
    assert site.machine.says("cat /etc/resolv.four") == "nameserver 10.20.0.53"
    assert site.machine.says("cat /etc/resolv.six") == "nameserver fd00:60::53"


def test_its_kernel_reads_the_seed_of_cloud_init(site: Site) -> None:
    label = "dd if=/dev/vda bs=1 skip=32808 count=32 2>/dev/null"  # ECMA-119, 8.4.7
    assert site.machine.says(label).strip() == "cidata"
    site.machine.says("mkdir -p /seed; mount -t iso9660 -o ro /dev/vda /seed")
    assert site.machine.says("ls /seed").split() == ["meta-data", "network-config", "user-data"]
    printed = romana(site.cluster, "endpoint", "cloud-init", "vm-1", *agent(site.cluster)).stdout
    assert site.machine.says("cat /seed/network-config") == printed.strip()
    assert site.six in printed


def test_it_is_reached_as_policy_says(site: Site) -> None:
    configure(site)
    said, found = {}, {}
    for other in OTHERS:
        source = other if not other.startswith("m") else of(site, other)
        said[other] = allowed(site.cluster, source, "vm-1", image.PORT)
        found[other] = connects(site.place(other), site.own(other), image.PORT)
        assert not connects(site.place(other), site.own(other), 22, 1.0)
    assert found == said
    assert {name for name, open_ in found.items() if open_} == {"near4", "near6", "far4", "far6"}


def test_it_reaches_as_policy_says(site: Site) -> None:
    configure(site)
    said, found = {}, {}
    for other in OTHERS:
        target = other if not other.startswith("m") else of(site, other)
        said[other] = allowed(site.cluster, "vm-1", target, 80)
        found[other] = fetched(site, of(site, other))
    reached = {name for name, text in found.items() if text == "from outside"}
    assert reached == {"back4", "back6", "m4", "m6"}, found
    assert reached == {name for name, open_ in said.items() if open_}


@pytest.mark.parametrize(
    ("other", "own", "strange"),
    [("m4", "four", "10.20.0.200"), ("m6", "six", "fd00:60::200")],
)
def test_nobody_elses_address_leaves_it(site: Site, other: str, own: str, strange: str) -> None:
    configure(site)
    address = of(site, other)
    length = 32 if other == "m4" else 128
    site.machine.says(f"ip addr add {strange}/{length} dev eth0")
    with Capture(site.cluster.path(other)) as capture:
        for source in (strange, getattr(site, own)):
            site.machine.says(f"ping -c 3 -W 1 -I {source} {address}")
        sources = {str(one.source) for one in capture.seen() if not one.outgoing}
    site.machine.says(f"ip addr del {strange}/{length} dev eth0")
    assert getattr(site, own) in sources
    assert strange not in sources


def test_it_starts_anew_as_it_was(site: Site) -> None:
    configure(site)
    site.machine.reboot()
    configure(site)
    assert addresses(site.cluster, "vm-1") == [site.four, site.six]
    for other in ("near4", "near6", "far4", "far6"):
        assert connects(site.place(other), site.own(other), image.PORT)


def test_another_system_in_it_gets_the_same(site: Site) -> None:
    """With another MAC address, client id and DUID."""
    configure(site)
    site.machine._mac = "02:00:00:00:00:66"
    site.machine.stop()
    site.machine.start()
    configure(site)
    assert "02:00:00:00:00:66" in site.machine.says("ip link")


def test_restarts_of_agent_and_dnsmasq_change_nothing(site: Site) -> None:
    configure(site)
    file = site.cluster.folder / "agent.n1/guests/dnsmasq.pid"
    before = int(file.read_text())
    place = site.place("far4")
    reached = functools.partial(connects, place, site.four, image.PORT)
    site.cluster.kill("n1")
    assert reached()
    renew(site.machine)
    site.cluster.start("n1")
    asyncio.run(site.cluster.agent("n1").ready())
    assert reached()
    assert int(file.read_text()) == before
    os.kill(before, signal.SIGKILL)
    assert reached()
    until(lambda: file.exists() and int(file.read_text()) != before)
    renew(site.machine)
    assert configured(site)
    assert reached()
    assert fetched(site, of(site, "back6")) == "from outside"
