"""What is not ours is left alone: while the agent works, stops and is uninstalled."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.agent.kernel.drivers import KernelDrivers
from services.agent.uninstall import uninstall
from services.common.model.network import Mode
from tests.kernel.agent.site import Net, Site, TestNode, settle
from tests.support.netns import Namespace, Namespaces, enter

FOREIGN = (
    "ip route add 10.50.0.0/16 via 10.3.0.9 dev e-v proto 114 table 50",
    "ip route add 10.51.0.0/16 via 10.3.0.9 dev e-v proto 80",
    "ip route add 10.52.0.0/16 via 10.3.0.9 dev e-v table 114001",
    "ip route add unreachable 10.53.0.0/16 metric 50",
    "ip -6 route add fd53::/64 dev e-v metric 7",
    "ip rule add from 10.54.0.0/16 lookup 50 pref 11420",
    "ip rule add from 10.55.0.0/16 lookup 50 pref 500 protocol 114",
    "ip -6 rule add from fd54::/64 lookup 50 pref 11430",
    # with all marks of ours, and yet none that we make
    "ip rule add from 10.56.7.7/16 lookup 50 pref 11421 protocol 114",
    "ip -6 rule add to fd56::7/64 lookup 50 pref 11421 protocol 114",
    "ip rule add fwmark 7 lookup 50 pref 11422 protocol 114",
    "ip rule add not from 10.57.0.0/16 lookup 50 pref 11423 protocol 114",
    "ip rule add from 10.58.0.0/16 blackhole pref 11424 protocol 114",
    "ip rule add iif lo lookup main suppress_prefixlength 8 pref 11425 protocol 114",
    "ip nexthop add id 77 via 10.3.0.9 dev e-v proto 114",
    "ip nexthop add id 1073741830 via 10.3.0.9 dev e-v",
    "ip neigh add proxy 10.3.0.99 dev e-v",
    "ip neigh add 10.3.0.98 lladdr 02:00:00:00:00:98 dev e-v nud permanent",
    "ip link add other type bridge",
    "ip link set other alias somebody",
)


def dump(namespace: Namespace) -> list[str]:
    """All of it, byte for byte, but for order within a command's output."""
    lines: list[str] = []
    for command in (
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip -4 rule",
        "ip -6 rule",
        "ip nexthop",
        "ip neigh show proxy",
        "ip -6 neigh show proxy",
        "ip neigh show nud permanent",
        "ip -d -o link",
        "ip -o addr",
        "sysctl -a --pattern forward|proxy|rp_filter",
    ):
        found = namespace.run(command, check=False).splitlines()
        lines += sorted(f"{command}: {line}" for line in found)
    return lines


@pytest.fixture
def node(made: Namespaces) -> TestNode:
    site = Site(made, {"v": Net("v", "10.3.0.0/24", "10.3.0.0/24", Mode.ONLINK)})
    node = site.node("n1", 2, {"v": "10.3.0.16/28"})
    site.node("n2", 3, {"v": "10.3.0.32/28"})
    node.endpoint("e1", v="10.3.0.17")
    for command in FOREIGN:
        node.namespace.run(command)
    settle(node.namespace)
    return node


async def test_foreign_things_are_as_before_in_the_end(node: TestNode, tmp_path: Path) -> None:
    before = dump(node.namespace)
    async with node.running(tmp_path) as reconciler:
        during = dump(node.namespace)
        sysctls = [line for line in before if line.startswith("sysctl")]
        assert [line for line in before if line not in during and line not in sysctls] == []
        reconciler.remove_endpoint(next(iter(reconciler.endpoints)))
        await reconciler.reached()
    stopped = dump(node.namespace)
    assert [line for line in before if line not in stopped and line not in sysctls] == []
    path = node.namespace.path
    assert not await uninstall(KernelDrivers(tmp_path, enter=lambda: enter(path)), tmp_path)
    assert dump(node.namespace) == before


async def test_somebody_elses_route_to_an_endpoint_is_reported_and_kept(
    node: TestNode, tmp_path: Path
) -> None:
    node.namespace.run("ip route add 10.3.0.17 via 10.3.0.9 dev e-v")
    before = node.namespace.run("ip route show 10.3.0.17")
    with pytest.raises(AssertionError, match=r"endpoint/e1"):
        async with node.running(tmp_path):
            pass
    assert node.namespace.run("ip route show 10.3.0.17") == before


async def test_a_node_that_forwards_ipv6_still_heeds_router_advertisements(
    made: Namespaces, tmp_path: Path
) -> None:
    site = Site(made, {"v": Net("v", "fd03::/120", "fd03::/120", Mode.ONLINK)})
    node = site.node("n1", 2, {"v": "fd03::10/124"})
    value = "sysctl -n net.ipv6.conf.e-v.accept_ra"
    assert node.namespace.run(value).strip() == "1"
    async with node.running(tmp_path):
        assert node.namespace.run(value).strip() == "2"
    async with node.running(tmp_path):  # a restart
        assert node.namespace.run(value).strip() == "2"
    path = node.namespace.path
    assert not await uninstall(KernelDrivers(tmp_path, enter=lambda: enter(path)), tmp_path)
    assert node.namespace.run(value).strip() == "1"


async def test_an_interface_that_forwarded_before_heeds_nobody(
    made: Namespaces, tmp_path: Path
) -> None:
    site = Site(made, {"v": Net("v", "fd03::/120", "fd03::/120", Mode.ONLINK)})
    node = site.node("n1", 2, {"v": "fd03::10/124"})
    node.namespace.sysctl("net.ipv6.conf.all.forwarding", 1)
    node.namespace.run("ip link add of-containers type bridge")
    node.namespace.run("ip addr add fd09::1/64 dev of-containers")
    node.namespace.run("ip link set of-containers up")
    for _ in range(2):  # and after a restart
        async with node.running(tmp_path):
            for interface in ("e-v", "of-containers"):
                value = f"sysctl -n net.ipv6.conf.{interface}.accept_ra"
                assert node.namespace.run(value).strip() == "1"
