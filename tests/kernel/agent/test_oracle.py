"""What the agent has written, as another program reads it.

pyroute2 reads what is packed by hand, `ip -json` what is written by pyroute2.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from services.agent.kernel import endpoint_names, veth
from services.agent.kernel.numbers import PROTOCOL
from services.agent.kernel.wiring import Wiring
from services.common.model.names import EndpointName
from services.common.model.network import Mode
from tests.kernel.agent.site import Net, Site
from tests.support.netns import Namespace, Namespaces

SUBNETS = {
    4: ("10.3.0.0/24", "10.3.0.16/28", "10.3.0.32/28"),
    6: ("fd03::/120", "fd03::10/124", "fd03::20/124"),
}
FAMILY = {4: 2, 6: 10}
UNICAST, UNREACHABLE = 1, 7
MAIN = 254
PERMANENT = 0x80
NO_DAD = 0x02


def ask(namespace: Namespace, question: Callable[[Any], Any]) -> list[Any]:
    def read() -> list[Any]:
        with IPRoute() as kernel:
            return list(question(kernel))

    return namespace.call(read)


@pytest.mark.parametrize("version", [4, 6])
async def test_routes_and_rules(made: Namespaces, version: int, tmp_path: Path) -> None:
    subnet, own, others = SUBNETS[version]
    site = Site(made, {"v": Net("v", subnet, subnet, Mode.ONLINK)})
    net, family = site.nets["v"], FAMILY[version]
    node = site.node("n1", 2, {"v": own})
    site.node("n2", 3, {"v": others})
    node.endpoint("e1", v=net.host(17))
    async with node.running(tmp_path):
        names = {
            link["index"]: link.get("ifname")
            for link in ask(node.namespace, lambda k: k.get_links())
        }
        routes = ask(node.namespace, lambda kernel: kernel.get_routes(family=family))
        rules = json.loads(node.namespace.run(f"ip -json -{version} rule"))
    ours = [route for route in routes if route["proto"] == PROTOCOL]
    (table,) = {route.get("table") for route in ours} - {MAIN}

    def host(number: int) -> str:
        return f"{net.host(number)}/{32 if version == 4 else 128}"

    def end(route: Any) -> tuple[object, ...]:
        prefix = route.get("dst") or ipaddress.ip_network(subnet).network_address
        where = f"{prefix}/{route['dst_len']}" if route["dst_len"] else "default"
        out = names[route.get("oif")] if route["type"] == UNICAST else ""
        return where, route["type"], route.get("table"), out, route.get("gateway")

    assert sorted(map(end, ours), key=str) == sorted(
        [
            (host(17), UNICAST, table, "h-e1", None),
            (host(17), UNICAST, MAIN, "h-e1", None),
            (own, UNREACHABLE, table, "", None),
            (others, UNICAST, table, "e-v", net.host(3)),
            (subnet, UNICAST, table, "e-v", None),
            (host(1), UNICAST, table, "e-v", None),
            (host(3), UNICAST, table, "e-v", None),
            ("default", UNICAST, table, "e-v", net.gateway),
        ],
        key=str,
    )
    address, whole = str(net.host(2)), ipaddress.ip_network(subnet)
    to = {"dst": str(whole.network_address), "dstlen": whole.prefixlen}
    of_host, of_way = ({"fwmark": mark, "fwmask": "0x1f0000"} for mark in ("0x10000", "0x150000"))
    of_main = {"fwmark": "0x100000", "fwmask": "0x100000"}
    hosts_only = {"table": "main", "suppress_prefixlen": 31 if version == 4 else 127}
    assert [
        {key: value for key, value in rule.items() if key != "protocol"}
        for rule in rules
        if rule.get("protocol") == str(PROTOCOL)
    ] == [
        {"priority": 11410, "src": address, "table": "main", "suppress_prefixlen": 0},
        {"priority": 11411, "src": "all", **of_host, **hosts_only},
        {"priority": 11411, "src": "all", **of_way, "iif": "e-v", **hosts_only},
        {"priority": 11413, "src": "all", **of_way, "table": str(table)},
        {"priority": 11415, "src": "all", **to, "goto": 11420},
        {"priority": 11416, "src": "all", "iif": "e-v", "goto": 11440},
        {"priority": 11420, "src": "all", "iif": "e-v", "table": str(table)},
        {"priority": 11422, "src": "all", "iif": "e-v", "action": "unreachable"},
        {"priority": 11425, "src": "all", **of_main, "goto": 11440},
        {"priority": 11430, "src": to["dst"], "srclen": to["dstlen"], "table": str(table)},
        {"priority": 11440, "src": "all", "nop": None},
    ]


def test_the_link_of_an_endpoint(made: Namespaces) -> None:
    node, pod = made.new("node"), made.new("pod")
    name = EndpointName("web-1")
    addresses = tuple(map(ipaddress.ip_address, ("10.1.0.5", "fd00:1::5")))
    interface, mac = endpoint_names.host_interface(name), endpoint_names.mac_address(name)
    wiring = Wiring(name, interface, pod.path, "eth0", mac, 1400, addresses)
    node.call(lambda: veth._make(wiring))
    (host,) = ask(node, lambda kernel: kernel.get_links(ifname=interface))
    assert host.get(("linkinfo", "kind")) == "veth"
    assert (host.get("address"), host.get("mtu")) == (endpoint_names.HOST_MAC, 1400)
    assert host.get("ifalias") == endpoint_names.alias(name)
    (inner,) = ask(pod, lambda kernel: kernel.get_links(ifname="eth0"))
    assert (inner.get("address"), inner.get("mtu"), inner["state"]) == (mac, 1400, "up")
    index = inner["index"]
    given = {
        (item.get("address"), item["prefixlen"], item["family"] == 2 or item.get("flags") & NO_DAD)
        for item in ask(pod, lambda kernel: kernel.get_addr(index=index))
        if item.get("address") and not item.get("address").startswith("fe80")
    }
    assert given == {("10.1.0.5", 32, True), ("fd00:1::5", 128, NO_DAD)}
    for family, gateway in ((FAMILY[4], "169.254.1.1"), (FAMILY[6], "fe80::1")):
        routes = ask(pod, lambda kernel, family=family: kernel.get_routes(family=family))
        (default,) = [route for route in routes if not route["dst_len"] and route.get("gateway")]
        assert (default.get("gateway"), default.get("oif")) == (gateway, index)
        known = {
            item.get("dst"): (item.get("lladdr"), item["state"])
            for item in ask(pod, lambda kernel, family=family: kernel.get_neighbours(family=family))
        }
        assert known[gateway] == (endpoint_names.HOST_MAC, PERMANENT)
