"""Romana on the test cluster: its services in control, an agent and the CNI plug-in on each node.

    pods    10.60.0.0/16, routed, on eth0, a prefix for each node: for pods that say nothing
    blue    10.20.0.0/24, the subnet of the wire of that name; its gateway is outside
    green   10.30.0.0/24, the same
    tiny    10.40.0.0/28, the same, on the first two nodes only; ten addresses are left

The scheduler's extender is that of the first replica of the controller.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from services.common.process import environment
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.files import ROMANA, kubeconfig
from tests.kubernetes.hosts import CONTROL, OUTSIDE
from tests.kubernetes.shell import sh, until

HERE: Final = Path(__file__).parent
ROOT: Final = Path(__file__).parents[2]
RBAC: Final = ROOT / "deploy" / "kubernetes" / "rbac.yaml"
WIRES: Final = {"blue": "10.20.0.0/24", "green": "10.30.0.0/24", "tiny": "10.40.0.0/28"}
TINY_NODES: Final = ("node-1", "node-2")
TINY: Final = 10
"""Addresses: neither the first and last, the gateway's, nor those of three nodes."""
EXTENDER: Final = "http://127.0.0.1:9650"
WEBHOOK: Final = "https://172.30.0.2:9660"
"""Of the first replica, as the extender is."""
PODS: Final = ipaddress.IPv4Network("10.60.0.0/16")
PORTS: Final = {"topology": 9610, "ipam": 9620, "policy": 9630}
VARIABLES: Final = {
    "topology": environment.TOPOLOGY_VARIABLE,
    "ipam": environment.IPAM_VARIABLE,
    "policy": environment.POLICY_VARIABLE,
}
COMMAND: Final = (sys.executable, "-m", "services.ctl.main")
SERVICES: Final = ("romana-etcd", "topology", "ipam", "policy")
CONTROLLERS: Final = ("kubernetes-1", "kubernetes-2")
METRICS: Final = {name: 9651 + 2 * number for number, name in enumerate(CONTROLLERS)}
LEASE_SECONDS: Final = 4
TABLE: Final = ("inet", "romana")
OURS: Final = ("table", "all", "proto", "114")
_ETCD: Final = "http://127.0.0.1:2381"


class Romana:
    """What runs on a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._address = cluster.hosts.address(CONTROL)
        self._define()

    def up(self) -> None:
        """Starts everything and waits until all nodes are Ready."""
        cluster = self.cluster
        for service in SERVICES:
            cluster.start(CONTROL, service)
        self._wait_for_services()
        self.run("topology", "apply", "-", text=json.dumps(self.topology()))
        self._reserve_others()
        self.write_routes()
        cluster.kubectl("apply", "-f", RBAC)
        cluster.apply(*_admit(ROMANA))
        for node in cluster.hosts.nodes:
            self.annotate(node)
        for controller in CONTROLLERS:
            cluster.start(CONTROL, controller)
        for node in cluster.hosts.nodes:
            cluster.start(node, "agent")
        for node in cluster.hosts.nodes:
            self.wait_for_agent(node)
            self._write_plugin(node)
        cluster.wait_ready()

    def annotate(self, node: str) -> None:
        """Says on a Node on which networks it is."""
        text = f"romana.io/attachments={json.dumps(self._attachments(node))}"
        self.cluster.kubectl("annotate", "--overwrite", "node", node, text)

    def run(self, *arguments: object, text: str = "", check: bool = True) -> str:
        """The `romana` command in control; what it prints."""
        where = [
            f"{variable}={self._address}:{PORTS[name]}" for name, variable in VARIABLES.items()
        ]
        line = ("env", *where, "ROMANA_INSECURE=1", *COMMAND, *arguments)
        return self.cluster.run(CONTROL, *line, input=text, check=check).stdout

    def call(self, service: str, method: str, **body: Any) -> Any:
        """A method of a service; what it answers."""
        name = f"romana.{service}.v1.{service.title()}Service/{method}"
        line = (sys.executable, "-m", "tests.kubernetes.call", f"{self._address}:{PORTS[service]}")
        return json.loads(self.cluster.run(CONTROL, *line, name, json.dumps(body)).stdout)

    # What Romana knows.

    def allocations(self) -> Mapping[str, Mapping[str, Any]]:
        """What ipam has given, by address."""
        found = self.call("ipam", "ListAddresses", page_size=5000).get("allocations", ())
        return {one["address"]: one for one in found}

    def names(self) -> set[str]:
        """Names that have addresses."""
        return {one["name"] for one in self.allocations().values()}

    def addresses(self) -> list[str]:
        """What ipam has given."""
        return list(self.allocations())

    def endpoints(self) -> Mapping[str, Mapping[str, Any]]:
        """What policy knows of endpoints, by name."""
        found = self.call("policy", "ListEndpoints", page_size=1000).get("endpoints", ())
        return {one["name"]: one for one in found}

    def endpoint(self, name: str) -> Mapping[str, Any]:
        """What policy knows of one."""
        return self.endpoints()[name]

    def blocks(self) -> list[str]:
        """What nodes hold."""
        found = self.call("ipam", "ListBlocks", page_size=1000).get("blocks", ())
        return [one["prefix"] for one in found]

    def is_bare(self) -> bool:
        """Whether no endpoint is known, no address or block is held, and no node has a record."""
        if self.endpoints() or self.addresses() or self.blocks():
            return False
        return not any(self.journal(node) for node in self.cluster.hosts.nodes)

    def tenants(self) -> Mapping[str, Mapping[str, str]]:
        """Labels of what policy knows of tenants."""
        found = self.call("policy", "ListTenants", page_size=1000).get("tenants", ())
        return {one["name"]: one.get("labels", {}) for one in found}

    def policies(self) -> list[str]:
        """Names of policies."""
        found = self.call("policy", "ListPolicies", page_size=1000).get("policies", ())
        return [one["name"] for one in found]

    def is_connected(self, node: str) -> bool:
        """Whether a node's agent has a stream of rules."""
        found = self.call("policy", "GetRealization", nodes=[node], nodes_only=True)
        return any(one.get("connected") for one in found.get("nodes", ()))

    def links(self) -> list[str]:
        """Endpoints' links on all nodes."""
        found = []
        for node in self.cluster.hosts.nodes:
            links = json.loads(self.cluster.run(node, "ip", "-j", "link", "show").stdout)
            found += [f"{node} {one['ifname']}" for one in links if one["ifname"].startswith("rom")]
        return found

    def traces(self) -> Mapping[str, Sequence[str]]:
        """What endpoints leave on nodes: records, rules, routes, chains, and members of sets."""
        found = {}
        for node in self.cluster.hosts.nodes:
            table = json.loads(self.cluster.run(node, "nft", "-j", "list", "table", *TABLE).stdout)
            found[node] = [
                *(f"record {one['spec']['name']}" for one in self.journal(node)),
                *sorted(self.cluster.run(node, "ip", "rule").stdout.splitlines()),
                *sorted(self.cluster.run(node, "ip", "route", "show", *OURS).stdout.splitlines()),
                *sorted(_traces_of_rules(table)),
            ]
        return found

    def journal(self, node: str) -> list[Mapping[str, Any]]:
        """The records of endpoints on a node."""
        folder = self.cluster.hosts.home(node) / "lib/romana/endpoints"
        return [json.loads(file.read_bytes()) for file in folder.glob("*.json")]

    def sandbox(self, node: str, endpoint: str) -> str:
        """The container that an endpoint is in; empty: none."""
        found = (one["spec"] for one in self.journal(node) if one["spec"]["name"] == endpoint)
        return next((spec["container"] for spec in found), "")

    def namespace_of(self, node: str, endpoint: str) -> Path:
        """A pod's network namespace, for processes of this machine."""
        found = [one["spec"] for one in self.journal(node) if one["spec"]["name"] == endpoint]
        inner = found[0]["namespace"].removeprefix("/var")  # a link, which would lead elsewhere
        return Path(f"/proc/{self.cluster.hosts.pid(node)}/root{inner}")

    def ask_from(self, node: str, endpoint: str, address: str) -> str:
        """What answers a pod that asks, without the API server's help."""
        found = [one["spec"] for one in self.journal(node) if one["spec"]["name"] == endpoint]
        probe = (HERE / "probe.py", "ask", "tcp", address, 80)
        line = ("nsenter", f"--net={found[0]['namespace']}", *probe)
        return self.cluster.run(node, *line, check=False).stdout.rpartition("  (")[0]

    def restart_agent(self, node: str) -> None:
        """Ends an agent, starts it, and waits until it is ready."""
        self.cluster.restart(node, "agent")
        self.wait_for_agent(node)

    def kill_sandbox(self, node: str, container: str) -> None:
        """Ends a pod's sandbox, as when its machine is short of memory."""
        ctr = (self.cluster.hosts.folder / "bin/ctr", "--namespace", "k8s.io", "tasks", "kill")
        self.cluster.run(node, *ctr, "--signal", "KILL", container)

    # The controller.

    def leads(self, controller: str) -> bool:
        """Whether a replica says that it is the one that writes."""
        port = METRICS[controller]
        curl = ("curl", "--noproxy", "*", "-sf", "-m", "2", f"http://127.0.0.1:{port}/metrics")
        said = self.cluster.run(CONTROL, *curl, check=False).stdout
        return "romana_kubernetes_leader 1.0" in said

    def leader(self) -> str:
        """The one that does."""
        found: list[str] = []

        def one() -> bool:
            found[:] = [name for name in CONTROLLERS if self.leads(name)]
            return len(found) == 1

        until("one leader", one)
        return found[0]

    def restart_controllers(self) -> None:
        """Ends and starts all replicas."""
        for controller in CONTROLLERS:
            self.cluster.stop(CONTROL, controller)
        for controller in CONTROLLERS:
            self.cluster.start(CONTROL, controller)
        self.leader()

    def wait_for_agent(self, node: str) -> None:
        """Waits until an agent is ready."""
        log = self.cluster.log(node, "agent")
        until(f"the agent of {node}", lambda: self._is_ready(node, 9641), log=log)

    def topology(self) -> Mapping[str, Any]:
        """The topology file."""
        groups = [
            {
                "name": node,
                "assignment": {"kubernetes.io/hostname": node},
                "prefixes": {"pods": text},
            }
            for node, text in self._prefixes()
        ]
        vlans = [
            {
                "name": name,
                "cidr": prefix,
                "mode": "onlink",
                "gateway": str(ipaddress.IPv4Network(prefix)[1]),
                "reuse_delay": "0s",
                **({"block_length": 32} if name == "tiny" else {}),
            }
            for name, prefix in WIRES.items()
        ]
        pods = {
            "name": "pods",
            "cidr": str(PODS),
            "gateway": str(self.cluster.hosts.address(OUTSIDE)),
            "block_length": 28,
        }
        return {
            "networks": [pods, *vlans],
            "topologies": [
                {"networks": ["pods"], "groups": groups},
                *({"networks": [name]} for name in WIRES),
            ],
        }

    def _prefixes(self) -> Iterable[tuple[str, str]]:
        """What of `pods` lies behind each node."""
        parts = PODS.subnets(new_prefix=20)
        return [
            (node, str(part)) for node, part in zip(self.cluster.hosts.nodes, parts, strict=False)
        ]

    def _attachments(self, node: str) -> list[dict[str, str]]:
        address = self.cluster.hosts.address
        return [
            {"network": network, "interface": wire, "address": str(address(node, wire))}
            for network, wire in (("pods", "eth0"), *((name, name) for name in WIRES))
            if network != "tiny" or node in TINY_NODES
        ]

    def _reserve_others(self) -> None:
        """What is on a wire and no node's of ours."""
        others = [
            str(self.cluster.hosts.address(node, "tiny"))
            for node in self.cluster.hosts.nodes
            if node not in TINY_NODES
        ]
        if others:
            self.run("reservation", "create", "others", "--network", "tiny", *others)

    def write_routes(self) -> None:
        """What the routers of a data center have: a route for each node's prefix."""
        hosts = self.cluster.hosts
        for node, prefix in self._prefixes():
            for host in (OUTSIDE, CONTROL):
                way = (prefix, "via", hosts.address(node))
                sh("ip", "-n", hosts.namespace(host), "route", "replace", *way)

    def _write_plugin(self, node: str) -> None:
        self.cluster.run(node, *COMMAND, "agent", "install-cni")
        plugins = [
            {"type": "romana-cni", "orchestrator": "kubernetes"},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        conf = {"cniVersion": "1.0.0", "name": "romana", "plugins": plugins}
        self.cluster.write(node, "/etc/cni/net.d/10-romana.conflist", json.dumps(conf))

    def _wait_for_services(self) -> None:
        for service, port in PORTS.items():
            log = self.cluster.log(CONTROL, service)
            until(service, lambda port=port: self._is_ready(CONTROL, port + 1), log=log)

    def _is_ready(self, host: str, port: int) -> bool:
        url = f"http://127.0.0.1:{port}/readyz"
        curl = ("curl", "--noproxy", "*", "-sf", "-m", "2", url)
        return not self.cluster.run(host, *curl, check=False).returncode

    def _define(self) -> None:
        hosts = self.cluster.hosts
        home = hosts.home(CONTROL)
        self.cluster.define(
            "romana-etcd", "etcd", f"--data-dir={home}/romana-etcd", "--unsafe-no-fsync",
            f"--listen-client-urls={_ETCD}", f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2382",
            "--initial-advertise-peer-urls=http://127.0.0.1:2382",
            "--initial-cluster=default=http://127.0.0.1:2382",
            "--logger=zap", "--log-level=warn",
        )  # fmt: skip
        for service, port in PORTS.items():
            self._define_python(
                service,
                service,
                {
                    "LISTEN__ADDRESS": f"{self._address}:{port}",
                    "LISTEN__INSECURE": "true",
                    "ETCD__ENDPOINTS": _ETCD.removeprefix("http://"),
                    "LOG__FORMAT": "json",
                },
            )
        replicas = {
            "INSECURE": "true",
            **{service.upper(): f"{self._address}:{port}" for service, port in PORTS.items()},
        }
        for name in CONTROLLERS:
            self._define_python(
                name,
                "kubernetes",
                {
                    **replicas,
                    "KUBECONFIG": str(kubeconfig(hosts, ROMANA)),
                    "IDENTITY": name,
                    "LEASE__SECONDS": str(LEASE_SECONDS),
                    "KEPT_SECONDS": "5",
                    "METRICS__ADDRESS": f"127.0.0.1:{METRICS[name]}",
                    "EXTENDER__ADDRESS": f"127.0.0.1:{METRICS[name] - 1}",
                    "WEBHOOK__ADDRESS": f"{self._address}:{METRICS[name] + 9}",
                    "WEBHOOK__CERTIFICATE": f"{hosts.run}/pki/romana.crt",
                    "WEBHOOK__KEY": f"{hosts.run}/pki/romana.key",
                },
            )
        self._define_python("agent", "agent", replicas)

    def _define_python(self, name: str, service: str, settings: Mapping[str, str]) -> None:
        prefix = f"ROMANA_{service.upper()}__"
        variables = [f"{prefix}{key}={value}" for key, value in settings.items()]
        self.cluster.define(
            name, "env", *variables, sys.executable, "-m", f"services.{service}.main"
        )


def _traces_of_rules(listed: Mapping[str, Any]) -> Iterable[str]:
    """Chains, and the members of sets that do not leave by themselves."""
    for item in listed["nftables"]:
        for kind, one in item.items():
            if kind == "chain":
                yield f"chain {one['name']}"
            elif kind in {"set", "map"} and "timeout" not in one.get("flags", ()):
                yield from (f"{kind} {one['name']} {member}" for member in one.get("elem", ()))


def _admit(user: str) -> list[dict[str, Any]]:
    """Gives a user the roles that the controller's ServiceAccount has."""
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "romana-test"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "romana-kubernetes"},
            "subjects": [subject],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "romana-test", "namespace": "kube-system"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "romana-kubernetes"},
            "subjects": [subject],
        },
    ]
