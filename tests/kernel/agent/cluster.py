"""A cluster of two nodes in two VLANs with services, and everybody who may call them.

Each node is on an `onlink` network A, a `routed` network B, and a link of its own to a machine of
the operators. On each there are backends and clients in A and B. Machines are on both VLANs, and
one is beyond the gateway.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.common.model.network import Mode
from tests.kernel.agent.site import Net, Site, TestNode
from tests.support.bridge import serving
from tests.support.kube_proxy import Service, install
from tests.support.netns import Namespace, Namespaces

PORT = 80
PORTMAP = "/usr/lib/cni/portmap"
NODES = ("n1", "n2")


@dataclass(frozen=True)
class Plan:
    """Addresses of one family."""

    nets: tuple[tuple[str, str, str, Mode], ...]
    """Name, CIDR, subnet."""
    prefixes: Mapping[str, Mapping[str, str]]
    """By node and network."""
    endpoints: Mapping[str, str]
    """By name: what it is (backend or client), network, number of the node."""
    cluster_cidr: str
    services: str
    """All but the last part of their addresses."""
    services_cidr: str
    operators: Mapping[str, tuple[str, str]]
    """The node's address and the machine's, by node."""
    outside: tuple[str, str]
    """The gateway's address and the machine's."""
    length: int
    """Of these two subnets."""


PLANS = {
    4: Plan(
        (
            ("a", "10.3.0.0/24", "10.3.0.0/24", Mode.ONLINK),
            ("b", "10.4.0.0/16", "192.168.4.0/24", Mode.ROUTED),
        ),
        {
            "n1": {"a": "10.3.0.16/28", "b": "10.4.0.0/24"},
            "n2": {"a": "10.3.0.32/28", "b": "10.4.1.0/24"},
        },
        {
            "ba1": "10.3.0.17",
            "ca1": "10.3.0.18",
            "bb1": "10.4.0.9",
            "cb1": "10.4.0.10",
            "ba2": "10.3.0.33",
            "ca2": "10.3.0.34",
            "bb2": "10.4.1.9",
            "cb2": "10.4.1.10",
        },
        "10.0.0.0/12",
        "10.96.0.",
        "10.96.0.0/16",
        {"n1": ("172.20.1.1", "172.20.1.9"), "n2": ("172.20.2.1", "172.20.2.9")},
        ("198.51.100.1", "198.51.100.7"),
        24,
    ),
    6: Plan(
        (
            ("a", "fd03::/120", "fd03::/120", Mode.ONLINK),
            ("b", "fd04::/64", "fd05::/120", Mode.ROUTED),
        ),
        {
            "n1": {"a": "fd03::10/124", "b": "fd04::/120"},
            "n2": {"a": "fd03::20/124", "b": "fd04::100/120"},
        },
        {
            "ba1": "fd03::11",
            "ca1": "fd03::12",
            "bb1": "fd04::9",
            "cb1": "fd04::a",
            "ba2": "fd03::21",
            "ca2": "fd03::22",
            "bb2": "fd04::109",
            "cb2": "fd04::10a",
        },
        "fd00::/13",
        "fd96::",
        "fd96::/64",
        {"n1": ("fdcc:1::1", "fdcc:1::9"), "n2": ("fdcc:2::1", "fdcc:2::9")},
        ("2001:db8:7::1", "2001:db8:7::7"),
        64,
    ),
}


class Cluster:
    """All of it."""

    def __init__(self, made: Namespaces, version: int) -> None:
        self.plan = plan = PLANS[version]
        self.version = version
        self.site = site = Site(made, {net[0]: Net(*net) for net in plan.nets})
        self.nodes: dict[str, TestNode] = {}
        self.places: dict[str, Namespace] = {}
        """Of endpoints and machines."""
        self.addresses: dict[str, str] = dict(plan.endpoints)
        for number, name in enumerate(NODES, 2):
            node = self.nodes[name] = site.node(name, number, plan.prefixes[name])
            self._operators(made, name)
            self.places[name] = node.namespace
            for endpoint, address in plan.endpoints.items():
                if endpoint[-1] == name[-1]:
                    net = {endpoint[1]: address}
                    self.places[endpoint] = node.endpoint(endpoint, **net)
        for name in site.nets:
            self.places[f"m{name}"] = site.machine(f"m{name}", name, 200)
            self.addresses[f"m{name}"] = site.nets[name].host(200)
        self._outside(made)

    def _operators(self, made: Namespaces, name: str) -> None:
        node, (own, its) = self.nodes[name].namespace, self.plan.operators[name]
        machine = made.new(f"ops-{name}")
        node.link(machine, "mgmt", "eth0")
        self.site.address(node, "mgmt", f"{own}/{self.plan.length}")
        self.site.address(machine, "eth0", f"{its}/{self.plan.length}")
        machine.run(f"ip route add default via {own}")
        self.places[f"ops{name[-1]}"], self.addresses[f"ops{name[-1]}"] = machine, its

    def _outside(self, made: Namespaces) -> None:
        gateway, own = self.plan.outside
        machine = self.places["out"] = made.new("out")
        self.addresses["out"] = own
        self.site.router.link(machine, "out", "eth0")
        self.site.address(self.site.router, "out", f"{gateway}/{self.plan.length}")
        self.site.address(machine, "eth0", f"{own}/{self.plan.length}")
        machine.run(f"ip route add default via {gateway}")
        first = self.site.nets["a"].host(2)
        self.site.router.run(f"ip route add {self.plan.services_cidr} via {first}")

    @property
    def backends(self) -> tuple[str, ...]:
        """Those of both nodes."""
        return tuple(name for name in self.plan.endpoints if name[0] == "b")

    def node_addresses(self, name: str = "n1") -> dict[str, str]:
        """Of a node: on A, on B, and on the operators' link."""
        found = {net: self.site.nets[net].host(int(name[-1]) + 1) for net in self.site.nets}
        return found | {"mgmt": self.plan.operators[name][0]}

    def service_address(self, backend: str) -> str:
        """Of the service with this backend."""
        return f"{self.plan.services}{self.backends.index(backend) + 1}"

    def node_port(self, backend: str, *, local: bool) -> int:
        """Of the service with this backend."""
        return 30000 + 100 * local + self.backends.index(backend)

    def host_port(self, backend: str) -> int:
        """Of a backend, on its node."""
        return 8000 + self.backends.index(backend)

    def publish(self) -> None:
        """What kube-proxy and the plug-in portmap do on the nodes."""
        services = [
            Service(
                f"{backend}-{local:d}".upper(),
                self.service_address(backend) if not local else f"{self.plan.services}10{place}",
                self.addresses[backend],
                PORT,
                self.node_port(backend, local=local),
                local,
            )
            for place, backend in enumerate(self.backends)
            for local in (False, True)
        ]
        for name, node in self.nodes.items():
            here = [self.addresses[one] for one in self.backends if one[-1] == name[-1]]
            install(node.namespace, here, self.plan.cluster_cidr, services)
            for backend in self.backends:
                if backend[-1] == name[-1]:
                    self._map_port(node.namespace, backend)

    def _map_port(self, node: Namespace, backend: str) -> None:
        address, path = self.addresses[backend], self.places[backend].path
        length = 32 if self.version == 4 else 128
        asked = {
            "cniVersion": "0.4.0",
            "name": "romana",
            "type": "portmap",
            "snat": True,
            "capabilities": {"portMappings": True},
            "runtimeConfig": {
                "portMappings": [
                    {
                        "hostPort": self.host_port(backend),
                        "containerPort": PORT,
                        "protocol": "tcp",
                    }
                ]
            },
            "prevResult": {
                "cniVersion": "0.4.0",
                "interfaces": [{"name": f"h-{backend}"}, {"name": "eth0", "sandbox": path}],
                "ips": [
                    {
                        "version": str(self.version),
                        "address": f"{address}/{length}",
                        "interface": 1,
                    }
                ],
            },
        }
        environment = (
            f"CNI_COMMAND=ADD CNI_CONTAINERID={backend} CNI_NETNS={path} CNI_IFNAME=eth0 "
            "CNI_PATH=/usr/lib/cni"
        )
        node.run(f"env {environment} {PORTMAP}", stdin=json.dumps(asked))

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """All backends listen."""
        with contextlib.ExitStack() as stack:
            for backend in self.backends:
                stack.enter_context(serving(self.places[backend], PORT))
            yield
