"""Whole agents and the policy service: three firewalls, of which some go and come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from romana.agent.v1 import agent_service_pb2 as api
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from romana.ipam.v1 import allocation_pb2

from lab.agents import socket_path
from lab.cluster import Cluster
from lab.fabric import CONTROL
from lab.namespaces import add, inside, missing, open_socket
from services.agent.rules.messages import parse_resource
from services.agent.rules.spool import RuleSpool
from services.common.model.devices import DeviceRules, WhenDown
from services.common.model.rules import RuleSet
from services.common.rpc.channel import open_channel
from tests.kernel.conformance.driver import Driver, Refused
from tests.support.ipam_process import poll

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

FIREWALLS = ("fw-1", "fw-2", "fw-3")
TEXT = """
name: {name}
networks:
  - {{name: pods, cidr: 10.78.0.0/24, vlan_id: 20, gateway: 10.78.0.1, mode: onlink}}
topologies:
  - {{name: dc, networks: [pods], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{pods: 10.78.0.251}}}}
  - {{name: n2, addresses: {{pods: 10.78.0.252}}}}
machines:
  - {{name: fw-1, network: pods, address: 10.78.0.241}}
  - {{name: fw-2, network: pods, address: 10.78.0.242}}
  - {{name: fw-3, network: pods, address: 10.78.0.243}}
"""
PORT, DIRECT = 80, 81
WAIT = 30.0
_FIREWALL = """
table inet firewall {
  counter invalid { }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid counter name invalid drop
    accept
  }
}
"""


@dataclass(eq=False)
class Firewall:
    """A machine that looks at what it forwards."""

    name: str
    cluster: Cluster
    wire: socket.socket

    def run(self, command: str, text: str | None = None) -> str:
        words = inside(self.cluster.path(self.name), command.split())
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def interface(self) -> str:
        links = json.loads(self.run("ip -j -4 addr show"))
        return next(
            one["ifname"]
            for one in links
            if any(item["local"].startswith("10.78.") for item in one["addr_info"])
        )

    def seen(self) -> Counter[tuple[str, str]]:
        """Packets of TCP and UDP that came since the last time."""
        found: Counter[tuple[str, str]] = Counter()
        with contextlib.suppress(BlockingIOError):
            while True:
                data, where = self.wire.recvfrom(2048, socket.MSG_DONTWAIT)
                if where[2] == socket.PACKET_HOST and data[9] in {6, 17}:
                    ends = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
                    found[ends] += 1
        return found

    def invalid(self) -> int:
        listed = json.loads(self.run("nft -j list counters table inet firewall"))
        return sum(one["counter"]["packets"] for one in listed["nftables"] if "counter" in one)


class Site:
    """The cluster, and what is done with it."""

    def __init__(self, cluster: Cluster, driver: Driver) -> None:
        self.cluster = cluster
        self.driver = driver
        self.addresses: dict[str, str] = {}
        self.firewalls = [self._firewall(name) for name in FIREWALLS]

    def _firewall(self, name: str) -> Firewall:
        path = self.cluster.path(name)
        wire = open_socket(path, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800))
        made = Firewall(name, self.cluster, wire)
        made.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0")
        made.run(f"sysctl -qw net.ipv4.conf.{made.interface}.send_redirects=0")
        made.run("nft -f -", _FIREWALL)
        made.run("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0")
        return made

    def firewall(self, name: str) -> Firewall:
        return next(one for one in self.firewalls if one.name == name)

    async def attach(self, node: str, name: str) -> None:
        spec = endpoint_pb2.EndpointSpec(
            name=name,
            tenant="t",
            labels={"app": name},
            target=endpoint_pb2.EndpointTarget(
                namespace=endpoint_pb2.NamespaceTarget(path=str(self.cluster.path(name)))
            ),
            addresses=[allocation_pb2.AddressSpec(network="pods")],
        )
        async with open_channel(f"unix:{socket_path(self.cluster.folder, node)}") as channel:
            said = await AgentServiceStub(channel).AttachEndpoint(  # type: ignore[misc]
                api.AttachEndpointRequest(spec=spec), timeout=60
            )
        self.addresses[name] = said.endpoint.addresses[0].address

    async def group(self, **more: object) -> None:
        await self.driver.call("PutDeviceGroup", {"group": group(**more)})

    async def via(self, name: str = "firewalls", port: int = PORT) -> None:
        """Has what goes to a port of `web` and `near` go through the group; nothing else is."""
        rule: dict[str, object] = {"ports": [{"protocol": "PROTOCOL_TCP", "port": port}]}
        if name:
            rule["via"] = name
        policy = {
            "name": "through",
            "targets": [{"endpoints": {"labels": {"matchLabels": {"app": one}}}} for one in ENDS],
            "ingress": [rule, {"ports": [{"protocol": "PROTOCOL_TCP", "port": DIRECT}]}],
        }
        await self.driver.call(
            "ApplyPolicies", {"policies": [policy], "pruneLabels": {"test": "devices"}}
        )
        await self.realized()

    async def realized(self) -> None:
        await self.driver.realized(["n1", "n2"])

    async def states(self) -> dict[str, str]:
        said = await self.driver.call("ListDeviceGroups", {})
        return {
            device["name"]: device["state"].removeprefix("DEVICE_STATE_").lower()
            for one in said["groups"]
            for device in one["devices"]
        }

    async def become(self, state: str, *names: str) -> None:
        """Waits until these devices are so, on all nodes."""

        async def so() -> bool:
            found = await self.states()
            return all(found.get(name) == state for name in names)

        await until(so)
        await self.realized()

    async def again(self) -> bool:
        """Whether both nodes have applied everything, of a service that may be starting."""
        try:
            await self.driver.realized(["n1", "n2"])
        except Refused:
            return False
        return True

    async def remembered(self) -> bool:
        """Whether the nodes' agents begin with this, should they begin anew."""
        for node in ("n1", "n2"):
            state = self.cluster.folder / f"agent.{node}"
            held = RuleSpool(state).load().held
            found = {name: parse_resource(packed) for name, packed in held.items()}
            group_ = found.get("device/firewalls")
            if not isinstance(group_, DeviceRules) or group_.when_down is not WhenDown.CLOSED:
                return False
            if group_.is_down or not all(leg.is_up for leg in group_.legs):
                return False
            if node == "n2" and not any(
                rule.via for one in found.values() if isinstance(one, RuleSet) for rule in one.rules
            ):
                return False
        return True

    def kill(self, *names: str) -> None:
        """Has them hear nothing any more."""
        for name in names:
            self.firewall(name).run(
                "nft -f -",
                f"""
                table netdev dead {{
                  chain in {{
                    type filter hook ingress device {self.firewall(name).interface} priority 0;
                    drop
                  }}
                }}
                """,
            )

    def revive(self, *names: str) -> None:
        for name in names:
            self.firewall(name).run("nft delete table netdev dead")


ENDS = ("web", "near")


def _device(*addresses: str, on: str = "pods") -> dict[str, object]:
    """One that is wrong."""
    return {"name": "x", "addresses": [{"network": on, "address": one} for one in addresses]}


def group(**more: object) -> dict[str, object]:
    return {
        "name": "firewalls",
        "networks": ["pods"],
        "devices": [
            {"name": name, "addresses": [{"network": "pods", "address": f"10.78.0.24{number}"}]}
            for number, name in enumerate(FIREWALLS, 1)
        ],
        "probe": {"interval": "0.200s", "threshold": 2},
        **more,
    }


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    await poll(condition, WAIT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Site]:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs {lacking}")
    cluster = Cluster(TEXT.format(name=f"via-{uuid.uuid4().hex[:8]}"), guarded=True)
    await cluster.up()
    try:
        driver = await Driver.start(cluster.path(CONTROL))
        site = Site(cluster, driver)
        add(cluster.lab.name, ["ask", "near", "web"])
        try:
            for name, node in (("ask", "n1"), ("near", "n1"), ("web", "n2")):
                await site.attach(node, name)
            await site.group()
            await site.become("up", *FIREWALLS)
            yield site
        finally:
            for one in site.firewalls:
                one.wire.close()
            for name, node in (("ask", "n1"), ("near", "n1"), ("web", "n2")):
                await cluster.detach(node, name)
            await driver.close()
    finally:
        cluster.down()


@pytest_asyncio.fixture(loop_scope="module")
async def site(shared: Site) -> AsyncIterator[Site]:
    """With a rule that leads through the group, all of which is up."""
    await shared.group()
    await shared.via()
    for one in shared.firewalls:
        one.seen()
    yield shared
    dead = [one.name for one in shared.firewalls if "dead" in one.run("nft list tables")]
    shared.revive(*dead)
    await shared.group()
    await shared.become("up", *FIREWALLS)


class Server:
    """Answers on a port of an endpoint with what is sent to it."""

    def __init__(self, site: Site, name: str, port: int) -> None:
        self._listener = open_socket(site.cluster.path(name), socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((site.addresses[name], port))
        self._listener.listen(512)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(_echo, sock=self._listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Client:
    """A connection of `ask`."""

    def __init__(self, site: Site, target: str, port: int) -> None:
        self.wire = open_socket(site.cluster.path("ask"), socket.AF_INET, socket.SOCK_STREAM)
        self.wire.setblocking(False)  # noqa: FBT003
        self.to = (site.addresses[target], port)

    async def connect(self, seconds: float = 3.0) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(self.wire, self.to)
        except (TimeoutError, OSError):
            return False
        return True

    async def talk(self, seconds: float = 3.0) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_sendall(self.wire, b"x" * 2000)
                left = 2000
                while left:
                    data = await loop.sock_recv(self.wire, 4096)
                    if not data:
                        return False
                    left -= len(data)
        except (TimeoutError, OSError):
            return False
        return True

    def close(self) -> None:
        self.wire.close()


@pytest.mark.parametrize("target", ENDS)
async def test_one_device_sees_all_of_a_connection(site: Site, target: str) -> None:
    async with Server(site, target, PORT), Server(site, target, DIRECT):
        client, direct = Client(site, target, PORT), Client(site, target, DIRECT)
        with contextlib.closing(client), contextlib.closing(direct):
            assert await direct.connect()
            assert await direct.talk()
            assert not any(one.seen() for one in site.firewalls)
            assert await client.connect()
            assert await client.talk()
            seen = [one.seen() for one in site.firewalls]
    ends = site.addresses["ask"], site.addresses[target]
    assert [bool(one[ends]) for one in seen].count(True) == 1
    assert [bool(one[ends[1], ends[0]]) for one in seen] == [bool(one[ends]) for one in seen]
    assert not any(one.invalid() for one in site.firewalls)


async def test_only_the_connections_of_a_device_that_goes_are_moved(site: Site) -> None:
    async with Server(site, "web", PORT):
        clients = [Client(site, "web", PORT) for _ in range(30)]
        try:
            devices = {}
            for client in clients:
                assert await client.connect()
                assert await client.talk()
                (devices[client],) = (one.name for one in site.firewalls if one.seen())
            assert set(devices.values()) == set(FIREWALLS)
            gone = devices[clients[0]]
            site.kill(gone)
            await site.become("down", gone)
            for client, device in devices.items():
                if device != gone:
                    assert await client.talk()
                    assert [one.name for one in site.firewalls if one.seen()] == [device]
            fresh = [Client(site, "web", PORT) for _ in range(5)]
            clients += fresh
            for client in fresh:
                assert await client.connect()
                assert await client.talk()
                (devices[client],) = (one.name for one in site.firewalls if one.seen())
            site.revive(gone)
            await site.become("up", gone)
            for one in site.firewalls:
                one.seen()
            for client in (*fresh, *(one for one in clients if devices[one] != gone)):
                assert await client.talk()
                assert [one.name for one in site.firewalls if one.seen()] == [devices[client]]
        finally:
            for client in clients:
                client.close()


async def test_when_all_are_down_closed_lets_nothing_through(site: Site) -> None:
    async with Server(site, "web", PORT), Server(site, "near", PORT):
        with capturing(site, "web", "near") as heard:
            site.kill(*FIREWALLS)
            probing = asyncio.create_task(_probe(site, "web", "near"))
            try:
                await site.become("down", *FIREWALLS)
                client = Client(site, "web", PORT)
                with contextlib.closing(client):
                    assert not await client.connect(1)
            finally:
                probing.cancel()
            assert not heard()


async def test_when_all_are_down_open_goes_directly(site: Site) -> None:
    await site.group(whenDown="DEVICE_WHEN_DOWN_OPEN")
    async with Server(site, "web", PORT), Server(site, "near", PORT):
        site.kill(*FIREWALLS)
        await site.become("down", *FIREWALLS)
        for target in ENDS:
            client = Client(site, target, PORT)
            with contextlib.closing(client):
                assert await client.connect()
                assert await client.talk()


async def test_no_packet_goes_another_way_without_agent_and_policy(site: Site) -> None:
    async with Server(site, "web", PORT):
        client = Client(site, "web", PORT)
        with contextlib.closing(client):
            assert await client.connect()
            (device,) = (one for one in site.firewalls if one.seen())
            await until(site.remembered)
            for name in ("policy", "n1", "n2"):
                site.cluster.kill(name)
                assert await client.talk()
                assert device.seen()
            for name in ("policy", "n1", "n2"):
                site.cluster.start(name)
            beside = asyncio.create_task(_talk(client, device))
            await until(site.again)
            beside.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beside
            assert await client.talk()
            fresh = Client(site, "web", PORT)
            with contextlib.closing(fresh):
                assert await fresh.connect()
            assert device.seen()
            assert device.invalid() == 0


async def test_a_connection_goes_directly_when_its_rule_is_gone(site: Site) -> None:
    async with Server(site, "web", PORT):
        client = Client(site, "web", PORT)
        with contextlib.closing(client):
            assert await client.connect()
            assert await client.talk()
            await site.via("")
            assert await client.talk()
            for one in site.firewalls:
                one.seen()
            assert await client.talk()
            assert not any(one.seen() for one in site.firewalls)


async def test_a_drained_device_keeps_its_connections(site: Site) -> None:
    async with Server(site, "web", PORT):
        old, new = Client(site, "web", PORT), Client(site, "web", PORT)
        with contextlib.closing(old), contextlib.closing(new):
            assert await old.connect()
            assert await old.talk()
            (device,) = (one for one in site.firewalls if one.seen())
            drained = {"group": "firewalls", "device": device.name, "drain": True}
            await site.driver.call("DrainDevice", drained)
            await site.realized()
            assert await old.talk()
            assert device.seen()
            assert await new.connect()
            assert await new.talk()
            assert not device.seen()


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"devices": []}, "group.devices"),
        ({"networks": ["pods", "pods"]}, "group.networks[1]"),
        ({"networks": ["none"], "devices": [_device("10.78.0.9", on="none")]}, "group.networks[0]"),
        ({"whenDown": "DEVICE_WHEN_DOWN_NEXT"}, "group.next"),
        ({"whenDown": "DEVICE_WHEN_DOWN_NEXT", "next": "firewalls"}, "group.next"),
        ({"whenDown": "DEVICE_WHEN_DOWN_NEXT", "next": "none"}, "group.next"),
        ({"devices": [_device("10.79.0.1")]}, "group.devices[0].addresses[0].address"),
        ({"devices": [_device("10.78.0.241", "10.78.0.242")]}, "addresses[1].network"),
    ],
)
async def test_what_is_wrong_is_refused_with_its_place(
    site: Site, wrong: dict[str, object], path: str
) -> None:
    with pytest.raises(Refused, match=re.escape(path)):
        await site.group(**wrong)


async def test_rules_and_groups_hold_each_other(site: Site) -> None:
    with pytest.raises(Refused, match=re.escape("ingress[0].via")):
        await site.via("none")
    with pytest.raises(Refused, match="policy through"):
        await site.driver.call("DeleteDeviceGroup", {"name": "firewalls"})


async def _talk(client: Client, device: Firewall) -> None:
    """Never without the device."""
    while True:
        assert await client.talk(WAIT)
        assert device.seen()


async def _probe(site: Site, *targets: str) -> None:
    while True:
        for target in targets:
            wire = open_socket(site.cluster.path("ask"), socket.AF_INET, socket.SOCK_STREAM)
            with wire:
                wire.setblocking(False)  # noqa: FBT003
                wire.connect_ex((site.addresses[target], PORT))
        await asyncio.sleep(0.02)


@contextlib.contextmanager
def capturing(site: Site, *names: str) -> Iterator[Callable[[], int]]:
    """Counts packets of `ask` that these endpoints get."""
    wires = [
        open_socket(
            site.cluster.path(name), socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800)
        )
        for name in names
    ]

    def heard() -> int:
        count = 0
        for wire in wires:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, where = wire.recvfrom(2048, socket.MSG_DONTWAIT)
                    count += where[2] == socket.PACKET_HOST and data[9] == socket.IPPROTO_TCP
        return count

    try:
        yield heard
    finally:
        for wire in wires:
            wire.close()
