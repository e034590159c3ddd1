"""The agent as a process, with etcd, topology and ipam at the other end of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
from romana.agent.v1 import agent_service_pb2 as agent_pb
from romana.agent.v1 import agent_service_pb2_grpc, endpoint_pb2
from romana.ipam.v1 import sync_routes_pb2

from services.common.etcd.process import ALONE
from tests.kernel.agent.site import until
from tests.support.netns import Namespace, Namespaces

TOPOLOGY = """
networks:
  - {name: a, cidr: 10.1.0.0/16, gateway: 192.168.10.1}
  - {name: b, cidr: 10.2.0.0/16, gateway: 192.168.20.1}
topologies:
  - name: all
    networks: [a, b]
    groups: [{name: everything}]
"""
ASK_SYNC_STATUS = """
import sys
import grpc
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.ipam.v1.sync_routes_pb2 import GetSyncStatusRequest
with grpc.insecure_channel(sys.argv[1]) as channel:
    answer = IpamServiceStub(channel).GetSyncStatus(GetSyncStatusRequest(), timeout=30)
sys.stdout.buffer.write(answer.SerializeToString())
"""
SERVICES = {"topology": 9610, "ipam": 9620}
GATEWAYS = {"a": "192.168.10.1", "b": "192.168.20.1"}


@dataclass
class Node:
    """A node with an agent."""

    namespace: Namespace
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    attachments: str = "with addresses"
    """Or "without addresses", or none."""

    @property
    def socket(self) -> str:
        return f"unix:{self.folder}/agent.sock"

    def start(self) -> None:
        name = self.namespace.name.rpartition("-")[2]
        number = int(name[1:]) + 10
        attachments = [
            {"network": net, "interface": f"e-{net}"}
            | ({"address": f"{gateway[:-1]}{number}"} if self.attachments[:5] == "with " else {})
            for net, gateway in GATEWAYS.items()
            if self.attachments
        ]
        settings = {
            "ROMANA_AGENT__NODE": name,
            "ROMANA_AGENT__IPAM": f"{GATEWAYS['a']}:9620",
            "ROMANA_AGENT__TOPOLOGY": f"{GATEWAYS['a']}:9610",
            "ROMANA_AGENT__INSECURE": "true",
            "ROMANA_AGENT__ATTACHMENTS": json.dumps(attachments),
            "ROMANA_AGENT__STATE_DIR": str(self.folder / "state"),
            "ROMANA_AGENT__SOCKET": str(self.folder / "agent.sock"),
            "ROMANA_AGENT__CNI_SOCKET": str(self.folder / "cni.sock"),
            "ROMANA_AGENT__METRICS__ADDRESS": "127.0.0.1:9641",
        }
        with (self.folder / "log").open("ab") as log:
            self.process = self.namespace.start(
                [sys.executable, "-m", "services.agent.main"],
                env={**os.environ, **settings},
                stderr=log,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    async def status(self) -> agent_pb.GetStatusResponse | None:
        async with grpc.aio.insecure_channel(self.socket) as channel:
            stub = agent_service_pb2_grpc.AgentServiceStub(channel)
            try:
                return await stub.GetStatus(agent_pb.GetStatusRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return None

    async def is_ready(self) -> bool:
        status = await self.status()
        return status is not None and status.ready and status.connected

    async def attach(self, name: str, namespace: Namespace, network: str) -> str:
        spec = endpoint_pb2.EndpointSpec(name=name, tenant="t")
        spec.target.namespace.path = namespace.path
        spec.addresses.add(network=network)
        async with grpc.aio.insecure_channel(self.socket) as channel:
            stub = agent_service_pb2_grpc.AgentServiceStub(channel)
            answer = await stub.AttachEndpoint(
                agent_pb.AttachEndpointRequest(spec=spec), timeout=60
            )
        return answer.endpoint.addresses[0].address


@dataclass
class Cluster:
    """Services in the gateway's namespace, nodes beside it."""

    made: Namespaces
    router: Namespace
    nodes: dict[str, Node]
    ipam: subprocess.Popen[bytes]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Unix sockets take 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="ra-"))
    yield path
    shutil.rmtree(path)


def lay(made: Namespaces, folder: Path) -> tuple[Namespace, dict[str, Node]]:
    """The gateway with a bridge per network, and two nodes on both."""
    router = made.new("gw")
    router.sysctl("net.ipv4.ip_forward", 1)
    nodes: dict[str, Node] = {}
    for net, gateway in GATEWAYS.items():
        router.run(f"ip link add br-{net} type bridge")
        router.run(f"ip link set br-{net} up")
        router.run(f"ip addr add {gateway}/24 dev br-{net}")
    for name, number in (("n1", 11), ("n2", 12)):
        namespace = made.new(name)
        for interface in ("all", "default"):
            namespace.sysctl(f"net.ipv4.conf.{interface}.rp_filter", 1)
        for net, gateway in GATEWAYS.items():
            namespace.link(router, f"e-{net}", f"{name}-{net}")
            router.run(f"ip link set {name}-{net} master br-{net}")
            namespace.run(f"ip addr add {gateway[:-1]}{number}/24 dev e-{net}")
        namespace.run(f"ip route add default via {GATEWAYS['a']}")
        (folder / name).mkdir()
        nodes[name] = Node(namespace, folder / name)
    return router, nodes


def serve(router: Namespace, folder: Path) -> list[subprocess.Popen[bytes]]:
    """Etcd, topology and ipam, in this order."""
    file = folder / "topology.yaml"
    file.write_text(TOPOLOGY)
    commands = [["etcd", "--data-dir", str(folder / "etcd"), "--log-level", "error", *ALONE]]
    for name, port in (("topology", 9610), ("ipam", 9620)):
        where = ["--listen", f"0.0.0.0:{port}", "--insecure"]
        commands.append([sys.executable, "-m", f"services.{name}.main", *where])
    commands[1] += ["--initial-topology", str(file)]
    started = []
    for number, command in enumerate(commands):
        with (folder / f"{number}.log").open("ab") as log:
            started.append(router.start(command, stderr=log))
    return started


def logs(folder: Path) -> str:
    """The end of each."""
    paths = [*folder.glob("*.log"), *folder.glob("*/log")]
    return "\n".join(f"--- {path}\n{path.read_text()[-6000:]}" for path in paths)


@contextlib.asynccontextmanager
async def running(
    made: Namespaces, folder: Path, attachments: str = "with addresses"
) -> AsyncIterator[Cluster]:
    """Services and two nodes that are ready."""
    router, nodes = lay(made, folder)
    services = serve(router, folder)
    try:
        for node in nodes.values():
            node.attachments = attachments
            node.start()
        for node in nodes.values():
            await until(node.is_ready)
        yield Cluster(made, router, nodes, services[-1])
    finally:
        sys.stdout.write(logs(folder))
        for process in (*services, *(node.process for node in nodes.values())):
            if process is not None:
                process.kill()
                process.wait()


@pytest.fixture
async def cluster(made: Namespaces, folder: Path) -> AsyncIterator[Cluster]:
    async with running(made, folder) as found:
        yield found


async def test_endpoints_on_two_nodes_and_a_restart_without_ipam(cluster: Cluster) -> None:
    n1, n2 = cluster.nodes["n1"], cluster.nodes["n2"]
    one, two = cluster.made.new("e1"), cluster.made.new("e2")
    first = await n1.attach("e1", one, "a")
    second = await n2.attach("e2", two, "a")
    await until(lambda: asyncio.to_thread(one.pings, second))
    assert await asyncio.to_thread(two.pings, first)

    cluster.ipam.kill()
    cluster.ipam.wait()
    before = n1.namespace.run("ip route show table all proto 114")
    assert n1.stop() == 0
    assert n1.namespace.run("ip route show table all proto 114") == before
    assert await asyncio.to_thread(one.pings, second)
    n1.namespace.run("ip rule del pref 11420")
    n1.start()

    async def restored() -> bool:
        status = await n1.status()
        return status is not None and status.ready

    await until(restored)
    assert "11420" in n1.namespace.run("ip rule")
    assert n1.namespace.run("ip route show table all proto 114") == before
    assert await asyncio.to_thread(one.pings, second)


async def test_ipam_knows_what_a_node_has_applied(cluster: Cluster) -> None:
    await cluster.nodes["n1"].attach("e1", cluster.made.new("e1"), "b")

    def ask() -> sync_routes_pb2.GetSyncStatusResponse:
        # a process of its own: gRPC connects from threads that are not in the caller's namespace
        words = [sys.executable, "-c", ASK_SYNC_STATUS, f"{GATEWAYS['a']}:9620"]
        with cluster.router.start(words, stdout=subprocess.PIPE) as asking:
            answer, _ = asking.communicate(timeout=60)
        assert asking.returncode == 0
        return sync_routes_pb2.GetSyncStatusResponse.FromString(answer)

    def realized() -> bool:
        answer = ask()
        return len(answer.statuses) == 2 and all(
            status.applied.revision == answer.current.revision and not status.failures
            for status in answer.statuses
        )

    await until(lambda: asyncio.to_thread(realized))


async def test_a_node_without_its_own_address_says_so(cluster: Cluster) -> None:
    n1, n2 = cluster.nodes["n1"], cluster.nodes["n2"]
    one, two = cluster.made.new("e1"), cluster.made.new("e2")
    await n1.attach("e1", one, "b")
    other = await n2.attach("e2", two, "b")
    before = n1.namespace.run("ip route show table all proto 114")
    n1.namespace.run("ip addr add 192.168.20.250/24 dev e-b")  # the subnet stays
    n1.namespace.sysctl("net.ipv4.conf.e-b.promote_secondaries", 1)
    n1.namespace.run("ip addr del 192.168.20.11/24 dev e-b")

    async def says() -> bool:
        status = await n1.status()
        assert status is not None
        return not status.ready and any(
            "network/b" in reason and "192.168.20.11" in reason for reason in status.reasons
        )

    await until(says)
    assert n1.namespace.run("ip route show table all proto 114") == before, "what works goes on"
    n1.namespace.run("ip addr add 192.168.20.11/24 dev e-b")
    await until(n1.is_ready)
    await until(lambda: asyncio.to_thread(one.pings, other))


@pytest.mark.parametrize("attachments", ["without addresses", ""])
async def test_a_node_whose_address_changes_is_followed(
    made: Namespaces, folder: Path, attachments: str
) -> None:
    """As by DHCP: first the new one comes, then the old one goes."""
    async with running(made, folder, attachments) as cluster:
        n1, n2 = cluster.nodes["n1"], cluster.nodes["n2"]
        one, two = made.new("e1"), made.new("e2")
        first = await n1.attach("e1", one, "a")
        second = await n2.attach("e2", two, "a")
        await until(lambda: asyncio.to_thread(two.pings, first))

        n1.namespace.sysctl("net.ipv4.conf.e-a.promote_secondaries", 1)
        n1.namespace.run("ip addr add 192.168.10.33/24 dev e-a")
        n1.namespace.run("ip addr del 192.168.10.11/24 dev e-a")
        n1.namespace.run(f"ip route replace default via {GATEWAYS['a']}")
        n2.namespace.run("ip neigh flush all")

        def by_the_new_one() -> bool:
            return "via 192.168.10.33" in n2.namespace.run("ip nexthop")

        await until(by_the_new_one)
        await until(n1.is_ready)
        await until(lambda: asyncio.to_thread(two.pings, first))
        assert await asyncio.to_thread(one.pings, second)
        assert n1.stop() == 0
        n1.start()
        await until(n1.is_ready)
        assert by_the_new_one()


def romana(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, where the services are."""
    where = [f"--{name}-address={GATEWAYS['a']}:{port}" for name, port in SERVICES.items()]
    words = [sys.executable, "-m", "services.ctl.main", *arguments, *where, "--insecure"]
    with cluster.router.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
        out, err = asking.communicate(timeout=60)
    return subprocess.CompletedProcess(words, asking.returncode, out.decode(), err.decode())


async def test_a_node_that_was_removed_lets_go_and_comes_back_by_an_operators_word_alone(
    cluster: Cluster,
) -> None:
    n1, n2 = cluster.nodes["n1"], cluster.nodes["n2"]
    one, two = cluster.made.new("e1"), cluster.made.new("e2")
    first = await n1.attach("e1", one, "a")
    await n2.attach("e2", two, "a")
    await until(lambda: asyncio.to_thread(two.pings, first))

    async def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(romana, cluster, *arguments)

    refused = await command("node", "delete", "n1", "--force", "--yes")
    assert refused.returncode == 4
    assert "NODE_CONNECTED" in refused.stderr
    known = json.loads((await command("node", "show", "n1", "-o", "json")).stdout)["node"]
    assert n1.stop() == 0

    async def removed() -> bool:
        return (await command("node", "delete", "n1", "--force", "--yes")).returncode == 0

    await until(removed)
    held = await command("address", "list", "--node", "n1", "-o", "name")
    assert held.stdout.split() == [first], "it rests until the machine has let go of it"

    n1.start()

    async def says_so() -> bool:
        status = await n1.status()
        return status is not None and any("was removed" in reason for reason in status.reasons)

    async def has_let_go() -> bool:
        return not (await command("address", "list", "--node", "n1", "-o", "name")).stdout

    await until(says_so)
    await until(has_let_go)
    assert f"{first} dev" not in n1.namespace.run("ip route show table all proto 114")
    listed = await command("node", "list", "-o", "name")
    assert listed.stdout.split() == ["n2"]

    attach = [
        f"--attach=network={each['network']},interface={each['interface']},address={each['address']}"
        for each in known["attachments"]
    ]
    again = await command("node", "register", "n1", f"--address={known['address']}", *attach)
    assert again.returncode == 0, again.stderr
    await until(n1.is_ready)
    await until(lambda: asyncio.to_thread(two.pings, first))


async def test_an_address_that_an_operator_declared_is_kept_and_named(cluster: Cluster) -> None:
    n1 = cluster.nodes["n1"]
    declare = ["node", "update", "n1", "--address", "192.168.10.99", "--topology-address"]
    words = [sys.executable, "-m", "services.ctl.main", *declare, f"{GATEWAYS['a']}:9610"]
    with cluster.router.start([*words, "--insecure"], stdout=subprocess.DEVNULL) as declaring:
        assert await asyncio.to_thread(declaring.wait, 60) == 0
    assert n1.stop() == 0
    n1.start()

    async def warns() -> bool:
        status = await n1.status()
        return status is not None and any("192.168.10.99" in each for each in status.warnings)

    await until(warns)
    await until(n1.is_ready)
