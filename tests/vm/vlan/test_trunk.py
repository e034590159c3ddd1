"""Real 802.1Q: two nodes and a router on tagged ports of a VLAN-aware bridge.

`make test-vlan` runs these in a VM with a stock Debian kernel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import uuid
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab import probe
from lab.capture import Capture
from lab.fabric import FABRIC, ROUTER, Fabric, down, vlan_link
from lab.namespaces import ip, missing, name_of, open_socket, path_of
from lab.probe import Outcome
from lab.spec import Lab, parse

TEXT = """
name: {name}
trunk: true
networks:
  - {{name: test, cidr: 10.20.0.0/24, vlan_id: 20, gateway: 10.20.0.1}}
  - {{name: qa, cidr: 10.30.0.0/24, vlan_id: 30, gateway: 10.30.0.1}}
  - {{name: production, cidr: 10.40.0.0/24, vlan_id: 40, gateway: 10.40.0.1}}
router:
  allow: [{{from: test, to: qa}}]
nodes:
  - {{name: n1, addresses: {{test: 10.20.0.11, production: 10.40.0.11}}}}
  - {{name: n2, addresses: {{test: 10.20.0.12, qa: 10.30.0.12}}}}
machines:
  - {{name: plain, network: test, address: 10.20.0.21}}
  - {{name: other, network: qa, address: 10.30.0.21}}
"""

SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 1 << 4
"""linux/if_packet.h"""
AUXDATA = struct.Struct("IIIHHHH")


def lacking() -> str:
    """What this kernel lacks; empty: nothing."""
    found = missing()
    if found:
        return found
    commands = (
        "ip link add trunk type bridge vlan_filtering 1",
        "ip link add a type veth peer name b",
        "ip link add link a name a.5 type vlan id 5",
    )
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", "\n".join(commands)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return "" if done.returncode == 0 else "802.1Q and VLAN-aware bridges in the kernel"


pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("ROMANA_VM") and bool(lacking()), reason=f"needs {lacking()}"
    ),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = parse(TEXT.format(name=f"trunk-{uuid.uuid4().hex[:6]}"))
    Fabric(made).up()
    for node in made.nodes:
        commands = []
        for network, address in node.addresses.items():
            vlan = made.vlan(network)
            commands += [
                vlan_link(vlan),
                f"link set {vlan.interface} up",
                f"address add {vlan.on_link(address)} dev {vlan.interface}",
            ]
        if "test" in node.addresses:
            commands.append(f"route add default via {made.vlan('test').gateway}")
        ip(commands, namespace=name_of(made.name, node.name))
    yield made
    down(made.name)


def tags(path: Path, seconds: float) -> set[int]:
    """VLAN ids of the frames that pass a namespace's interfaces meanwhile."""
    found = set()
    with open_socket(path, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as packets:
        packets.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        packets.settimeout(seconds)
        try:
            while True:
                _, ancillary, _, _ = packets.recvmsg(128, 128)
                for _, _, data in ancillary:
                    status, _, _, _, _, tci, _ = AUXDATA.unpack(data[: AUXDATA.size])
                    if status & TP_STATUS_VLAN_VALID:
                        found.add(tci & 0xFFF)
        except TimeoutError:
            return found


async def test_nodes_reach_each_other_on_a_vlan_that_both_are_on(lab: Lab) -> None:
    assert await probe.reachable(path_of(lab.name, "n1"), ip_address("10.20.0.12"))
    assert await probe.reachable(path_of(lab.name, "n2"), ip_address("10.20.0.21"))
    assert await probe.reachable(path_of(lab.name, "plain"), ip_address("10.20.0.11"))


async def test_frames_on_the_trunk_are_tagged(lab: Lab) -> None:
    watching = asyncio.to_thread(tags, path_of(lab.name, FABRIC), 2.0)
    task = asyncio.ensure_future(watching)
    await asyncio.sleep(0.3)
    assert await probe.reachable(path_of(lab.name, "n1"), ip_address("10.20.0.12"))
    assert await probe.reachable(path_of(lab.name, "n2"), ip_address("10.30.0.1"))
    assert {20, 30} <= await task


async def test_another_vlan_is_reached_through_the_router_where_it_allows(lab: Lab) -> None:
    n1 = path_of(lab.name, "n1")
    assert await probe.reachable(n1, ip_address("10.30.0.21"))
    with Capture(path_of(lab.name, ROUTER)) as capture:
        await probe.ping(n1, ip_address("10.30.0.21"), timeout=5)
        seen = [
            (each.interface, each.outgoing)
            for each in capture.seen()
            if each.echo and each.interface.startswith("vlan")
        ]
    assert seen == [("vlan20", False), ("vlan30", True)]
    back = await probe.ping(path_of(lab.name, "other"), ip_address("10.20.0.21"), timeout=5)
    assert back.outcome is Outcome.PROHIBITED


async def test_a_port_carries_only_its_vlans(lab: Lab) -> None:
    """n2 is not on production: a link with that tag leads nowhere."""
    vlan = lab.vlan("production")
    ip(
        [
            vlan_link(vlan),
            f"link set {vlan.interface} up",
            f"address add 10.40.0.99/24 dev {vlan.interface}",
        ],
        namespace=name_of(lab.name, "n2"),
    )
    echoed = await probe.ping(path_of(lab.name, "n2"), ip_address("10.40.0.11"), timeout=1)
    assert echoed.outcome is not Outcome.ANSWERED
    assert await probe.reachable(path_of(lab.name, "n1"), vlan.gateway)
