"""A small site for tests: a gateway, nodes with an interface per network, endpoints, machines.

The gateway is a namespace of its own with one bridge per network, so that a frame reaches the
gateway, the nodes and plain machines alike, as on a VLAN. Nodes run a `Reconciler` in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.agent.kernel.drivers import KernelDrivers
from services.agent.model import EndpointAddress, LocalEndpoint, Myself, Remote
from services.agent.routing.reconcile import Reconciler, RoundObserver, Timing
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Mode, Network
from services.common.model.node import Attachment
from tests.support.netns import Namespace, Namespaces, enter

DEADLINE = 60.0


@dataclass
class Net:
    """A network, and where its members are."""

    name: str
    cidr: str
    subnet: str
    """Of the link; equal to the CIDR when on-link. The gateway is its first address."""
    mode: Mode = Mode.ROUTED

    @property
    def gateway(self) -> str:
        return str(ipaddress.ip_network(self.subnet)[1])

    def host(self, number: int) -> str:
        """An address on the link."""
        return str(ipaddress.ip_network(self.subnet)[number])

    @property
    def length(self) -> int:
        return ipaddress.ip_network(self.subnet).prefixlen

    @property
    def model(self) -> Network:
        cidr = ipaddress.ip_network(self.cidr)
        return Network(
            NetworkName(self.name),
            cidr,
            cidr.max_prefixlen - 3,
            gateway=ipaddress.ip_address(self.gateway),
            mode=self.mode,
        )


@dataclass
class Site:
    """All of it."""

    made: Namespaces
    nets: dict[str, Net]
    remote: Remote = field(default_factory=Remote)
    nodes: dict[str, TestNode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.router = self.made.new("gw")
        self.router.sysctl("net.ipv4.ip_forward", 1)
        self.router.sysctl("net.ipv6.conf.all.forwarding", 1)
        for name, net in self.nets.items():
            self.router.run(f"ip link add br-{name} type bridge")
            self.router.run(f"ip link set br-{name} up")
            self.address(self.router, f"br-{name}", f"{net.gateway}/{net.length}")
        self.strict(self.router)
        self.remote = Remote(networks={NetworkName(n): net.model for n, net in self.nets.items()})

    @staticmethod
    def strict(namespace: Namespace) -> None:
        """Strict reverse-path filtering everywhere."""
        for interface in ("all", "default"):
            namespace.sysctl(f"net.ipv4.conf.{interface}.rp_filter", 1)

    @staticmethod
    def address(namespace: Namespace, interface: str, address: str) -> None:
        nodad = " nodad" if ":" in address else ""
        namespace.run(f"ip addr add {address} dev {interface}{nodad}")

    def attach(self, namespace: Namespace, net: str, number: int, again: str = "") -> str:
        """Plugs a namespace into a network; returns its interface. `again`: distinguishes the
        second one to the same network."""
        interface, port = f"e-{net}{again}", f"{namespace.name[-4:]}-{net}{again}"
        namespace.link(self.router, interface, port)
        self.router.run(f"ip link set {port} master br-{net}")
        self.address(namespace, interface, f"{self.nets[net].host(number)}/{self.nets[net].length}")
        return interface

    def machine(self, name: str, net: str, number: int) -> Namespace:
        """A plain machine with a default route."""
        namespace = self.made.new(name)
        interface = self.attach(namespace, net, number)
        namespace.run(f"ip route add default via {self.nets[net].gateway} dev {interface}")
        return namespace

    def node(
        self,
        name: str,
        number: int,
        prefixes: Mapping[str, str],
        namespace: Namespace | None = None,
    ) -> TestNode:
        """A node on the networks that `prefixes` names, owning those; perhaps in a namespace."""
        namespace = namespace or self.made.new(name)
        self.strict(namespace)
        namespace.sysctl("net.ipv6.conf.default.accept_dad", 0)  # it takes a second
        attachments = tuple(
            Attachment(
                NetworkName(net),
                self.attach(namespace, net, number),
                ipaddress.ip_address(self.nets[net].host(number)),
            )
            for net in prefixes
        )
        first = self.nets[next(iter(prefixes))]
        namespace.run(f"ip route add default via {first.gateway}")
        node = TestNode(self, name, namespace, Myself(NodeName(name), attachments))
        self.nodes[name] = node
        peers, routes = dict(self.remote.peers), dict(self.remote.routes)
        for attachment in attachments:
            assert attachment.address is not None
            net = self.nets[attachment.network]
            prefix = ipaddress.ip_network(prefixes[attachment.network])
            peers[attachment.network, NodeName(name)] = attachment.address
            routes[attachment.network, prefix] = NodeName(name)
            if net.mode is Mode.ROUTED:
                self.router.run(f"ip route add {prefix} via {attachment.address}")
        self.remote = replace(self.remote, peers=peers, routes=routes)
        return node


@dataclass
class TestNode:
    """A node."""

    __test__ = False

    site: Site
    name: str
    namespace: Namespace
    myself: Myself
    endpoints: dict[str, LocalEndpoint] = field(default_factory=dict)

    def endpoint(self, name: str, **addresses: str) -> Namespace:
        """Makes a container on it, as the agent does; addresses by network."""
        inner = self.site.made.new(name)
        host = f"h-{name}"
        self.namespace.link(inner, host, "eth0")
        host_mac = "02:00:00:00:00:01"
        self.namespace.run(f"ip link set {host} address {host_mac}")
        for text in addresses.values():
            six = ":" in text
            gateway = "fe80::1" if six else "169.254.1.1"
            if six:
                self.namespace.run(f"ip addr add fe80::1/64 dev {host} nodad")
            self.site.address(inner, "eth0", f"{text}/{128 if six else 32}")
            inner.run(f"ip neigh replace {gateway} lladdr {host_mac} nud permanent dev eth0")
            inner.run(f"ip route add default via {gateway} dev eth0 onlink")
        self.endpoints[name] = LocalEndpoint(
            EndpointName(name),
            Tenant("t"),
            Segment(""),
            host,
            tuple(
                EndpointAddress(ipaddress.ip_address(text), NetworkName(net))
                for net, text in addresses.items()
            ),
        )
        return inner

    def reconciler(
        self, state: Path, timing: Timing | None = None, observer: RoundObserver | None = None
    ) -> Reconciler:
        """Not running yet."""
        path = self.namespace.path
        kernel = KernelDrivers(state, enter=lambda: enter(path))
        return Reconciler(kernel, self.myself, timing=timing, observer=observer)

    @contextlib.asynccontextmanager
    async def running(self, state: Path, timing: Timing | None = None) -> AsyncIterator[Reconciler]:
        """With what the site and its endpoints are, applied."""
        reconciler = self.reconciler(state, timing)
        task = asyncio.create_task(reconciler.run())
        try:
            reconciler.set_remote(self.site.remote)
            for endpoint in self.endpoints.values():
                reconciler.put_endpoint(endpoint)
            async with asyncio.timeout(DEADLINE):
                failures = await reconciler.reached()
            assert not failures, failures
            yield reconciler
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = DEADLINE) -> None:
    """Waits for a condition."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if not isinstance(found, bool):
                found = await found
            if found:
                return
            await asyncio.sleep(0.05)


def settle(namespace: Namespace, seconds: float = DEADLINE) -> None:
    """Waits until every link has its IPv6 address: with it the kernel adds routes by itself."""
    end = time.monotonic() + seconds
    while True:
        links = json.loads(namespace.run("ip -j addr show up"))
        lacking = [
            link["ifname"]
            for link in filter(None, links)  # those that are not up are empty
            if not any(
                address["scope"] == "link" and not address.get("tentative")
                for address in link["addr_info"]
            )
        ]
        if lacking in ([], ["lo"]):
            return
        assert time.monotonic() < end, f"no IPv6 address: {lacking}"
        time.sleep(0.05)
