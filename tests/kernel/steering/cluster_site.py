"""A cluster of whole agents and services, with firewalls as machines on its network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from romana.agent.v1 import agent_service_pb2 as api
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from romana.ipam.v1 import allocation_pb2

from lab.agents import socket_path
from lab.cluster import Cluster
from lab.fabric import CONTROL
from lab.namespaces import add, call, inside, open_socket
from services.agent.rules.messages import parse_resource
from services.agent.rules.spool import RuleSpool
from services.common.model.devices import DeviceRules, WhenDown
from services.common.model.rules import RuleSet
from services.common.rpc.channel import open_channel
from tests.kernel.conformance.driver import Driver, Refused
from tests.kernel.steering.firewall import (
    FIREWALL,
    FORGET_PARTS,
    LIST_PARTS,
    LOOSE,
    Flow,
    came_of,
    capture,
    heard_of,
    in_part,
    incoming,
    listener,
)
from tests.support.ipam_process import poll

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
WAIT = 60.0
"""Seconds for what has to come, on a busy machine."""
TALK = 2000
"""Bytes."""


@dataclass(eq=False)
class Firewall:
    """A machine that looks at what it forwards."""

    name: str
    cluster: Cluster
    interface: str = field(init=False)
    wire: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        links = json.loads(self.run("ip -j -4 addr show"))
        self.interface = next(
            one["ifname"]
            for one in links
            if any(item["local"].startswith("10.78.") for item in one["addr_info"])
        )
        path = self.cluster.path(self.name)
        self.wire = call(path, lambda: capture(self.interface))

    def run(self, command: str, text: str | None = None) -> str:
        words = inside(self.cluster.path(self.name), command.split())
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
        return done.stdout

    @contextlib.contextmanager
    def owning(self, address: str) -> Iterator[None]:
        """With another address."""
        self.run(f"ip addr add {address}/24 dev {self.interface}")
        try:
            yield
        finally:
            self.run(f"ip addr del {address}/24 dev {self.interface}")

    def set_loose(self, *, loose: bool) -> None:
        """Whether it takes connections of which it did not see the beginning."""
        self.run(f"sysctl -qw {LOOSE}={int(loose)}")

    def of(self, client: Client) -> Counter[Flow]:
        """Packets of a connection that came since the last time."""
        return incoming(self.wire, client.port)

    def sees(self, client: Client) -> bool:
        """Whether packets of a connection have come since the last time."""
        return came_of(self.wire, client.port)

    def has_part(self, client: Client) -> bool:
        """Whether it met a connection of which it saw only a part."""
        return in_part(self.run(LIST_PARTS), client.port)

    def drain(self) -> None:
        """Forgets what came until now."""
        incoming(self.wire)

    def forget(self) -> None:
        """The same, and of what it saw only a part: that was another test's."""
        self.drain()
        self.run(FORGET_PARTS)


class Site:
    """The cluster, and what is done with it."""

    def __init__(self, cluster: Cluster, driver: Driver) -> None:
        self.cluster = cluster
        self.driver = driver
        self.addresses: dict[str, str] = {}
        self.firewalls = [self._firewall(name) for name in FIREWALLS]

    def _firewall(self, name: str) -> Firewall:
        made = Firewall(name, self.cluster)
        made.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0")
        made.run(f"sysctl -qw net.ipv4.conf.{made.interface}.send_redirects=0")
        made.run("nft -f -", FIREWALL)
        made.set_loose(loose=False)
        return made

    def firewall(self, name: str) -> Firewall:
        return next(one for one in self.firewalls if one.name == name)

    def through(self, client: Client) -> list[str]:
        """The devices to which packets of a connection have come since the last time."""
        return [one.name for one in self.firewalls if one.sees(client)]

    def capture(self, endpoint: str) -> socket.socket:
        """What an endpoint sends and gets."""
        return call(self.cluster.path(endpoint), lambda: capture("eth0"))

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

    async def via(self, name: str = "firewalls", port: int = PORT, *, field: str = "via") -> None:
        """Has what goes to a port of `web` and `near` go through the group, or be copied to it by
        another field; nothing else is."""
        rule: dict[str, object] = {
            "ports": [{"protocol": f"PROTOCOL_{one}", "port": port} for one in ("TCP", "UDP")]
        }
        if name:
            rule[field] = name
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

    async def reasons(self) -> dict[str, str]:
        """Why devices are down."""
        said = await self.driver.call("ListDeviceGroups", {})
        return {
            device["name"]: device.get("reason", "")
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

    def tables(self, node: str) -> str:
        """As nft lists them."""
        words = inside(self.cluster.path(node), ["nft", "list", "tables"])
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

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


NODES = {"ask": "n1", "near": "n1", "web": "n2"}
"""By endpoint."""
ENDS = ("web", "near")
PROBE = {"interval": "0.200s", "threshold": 5}
"""A machine that is busy for less than a second takes no device for down."""


def device(name: str) -> dict[str, object]:
    address = f"10.78.0.24{1 + FIREWALLS.index(name)}"
    return {"name": name, "addresses": [{"network": "pods", "address": address}]}


def group(**more: object) -> dict[str, object]:
    return {
        "name": "firewalls",
        "networks": ["pods"],
        "devices": [device(name) for name in FIREWALLS],
        "probe": PROBE,
        **more,
    }


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    await poll(condition, WAIT)


class Server:
    """Answers on a port of an endpoint with what is sent to it."""

    def __init__(self, site: Site, name: str, port: int) -> None:
        address = site.addresses[name]
        self._listener = call(site.cluster.path(name), lambda: listener(address, port))
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


RESET = struct.pack("ii", 1, 0)
"""At its end a connection sends one more packet, and there are no answers to that."""


class Client:
    """A connection of `ask`."""

    def __init__(self, site: Site, target: str, port: int) -> None:
        self.wire = open_socket(site.cluster.path("ask"), socket.AF_INET, socket.SOCK_STREAM)
        self.wire.setblocking(False)  # noqa: FBT003
        self.wire.bind(("", 0))
        self.port = int(self.wire.getsockname()[1])
        """Its own, which no other connection has."""
        self.to = (site.addresses[target], port)
        self._owed = 0

    async def connect(self, seconds: float = WAIT) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(self.wire, self.to)
        except (TimeoutError, OSError):
            return False
        return True

    async def talk(self, seconds: float = WAIT) -> bool:
        """Whether what it says comes back."""
        self._owed += TALK
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_sendall(self.wire, b"x" * TALK)
        except (TimeoutError, OSError):
            return False
        return await self.hear(seconds)

    async def hear(self, seconds: float = WAIT) -> bool:
        """Whether all that it has said comes back."""
        try:
            async with asyncio.timeout(seconds):
                while self._owed:
                    data = await asyncio.get_running_loop().sock_recv(self.wire, 4096)
                    if not data:
                        return False
                    self._owed -= len(data)
        except (TimeoutError, OSError):
            return False
        return True

    def close(self) -> None:
        self.wire.close()


async def spoken(
    site: Site, target: str, port: int, *, seconds: float = WAIT
) -> tuple[Client, bool, Counter[Flow]]:
    """A connection of `ask` that has ended, whether it came about within that time, and what `ask`
    sent and got of it."""
    client = Client(site, target, port)
    client.wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    async with Server(site, target, port):
        with contextlib.closing(site.capture("ask")) as asked:
            with contextlib.closing(client):
                passes = await client.connect(seconds) and await client.talk()
            sent, came = heard_of(asked, client.port)
    return client, passes, sent + came


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Site]:
    """The cluster with its endpoints, and all devices up."""
    cluster = Cluster(TEXT.format(name=f"via-{uuid.uuid4().hex[:8]}"), guarded=True)
    await cluster.up()
    try:
        driver = await Driver.start(cluster.path(CONTROL))
        site = Site(cluster, driver)
        add(cluster.lab.name, [*NODES])
        try:
            for name, node in NODES.items():
                await site.attach(node, name)
            await site.group()
            await site.become("up", *FIREWALLS)
            yield site
        finally:
            for one in site.firewalls:
                one.wire.close()
            for name, node in NODES.items():
                await cluster.detach(node, name)
            await driver.close()
    finally:
        cluster.down()
