"""What the agent has packed by hand, as pyroute2 reads it: another's view of the same formats."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from services.agent.kernel import endpoint_names, veth
from services.agent.kernel.numbers import PROTOCOL
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
ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 7: "unreachable"}
NO_SUPPRESS = 0xFFFFFFFF
MAIN = 254
PERMANENT = 0x80
NO_DAD = 0x02


def ask(namespace: Namespace, question: Callable[[IPRoute], Any]) -> list[Any]:
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
        rules = ask(node.namespace, lambda kernel: kernel.get_rules(family=family))
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
    assert [
        (
            rule.get("priority"),
            ACTIONS[rule["action"]],
            rule.get("src") and f"{rule.get('src')}/{rule['src_len']}",
            rule.get("dst") and f"{rule.get('dst')}/{rule['dst_len']}",
            rule.get("iifname"),
            rule.get("goto") or rule.get("table"),
            rule.get("suppress_prefixlen"),
        )
        for rule in sorted(rules, key=lambda rule: rule.get("priority") or 0)
        if rule.get("protocol") == PROTOCOL
    ] == [
        (11410, "lookup", host(2), None, None, MAIN, 0),
        (11415, "goto", None, subnet, None, 11420, NO_SUPPRESS),
        (11416, "goto", None, None, "e-v", 11440, NO_SUPPRESS),
        (11420, "lookup", None, None, "e-v", table, NO_SUPPRESS),
        (11422, "unreachable", None, None, "e-v", 0, NO_SUPPRESS),
        (11430, "lookup", subnet, None, None, table, NO_SUPPRESS),
        (11440, "nop", None, None, None, 0, NO_SUPPRESS),
    ]


def test_the_link_of_an_endpoint(made: Namespaces) -> None:
    node, pod = made.new("node"), made.new("pod")
    name = EndpointName("web-1")
    addresses = tuple(map(ipaddress.ip_address, ("10.1.0.5", "fd00:1::5")))
    interface, mac = endpoint_names.host_interface(name), endpoint_names.mac_address(name)
    wiring = veth.Wiring(name, interface, pod.path, "eth0", mac, 1400, addresses)
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
