"""Nodes whose rules lead through devices: namespaces with stateful nftables that count and capture.

Each node has the two parts of an agent that write to the kernel, told directly what the services
would say.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.agent.kernel.nftables.driver import Nft
from services.agent.model import DeviceWay
from services.agent.routing.reconcile import Reconciler
from services.agent.rules.device_legs import Around
from services.agent.rules.ending import Ending
from services.agent.rules.enforce import Enforcement
from services.agent.rules.firewall import Firewall
from services.agent.rules.resources import NetworkRules, Resource
from services.common.model.devices import (
    Arm,
    DeviceGroupName,
    DeviceName,
    DeviceRules,
    Leg,
    LegArm,
    WhenDown,
)
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName, NetworkName
from services.common.model.network import Address, Mode
from services.common.model.rules import EndpointRules, RuleSet
from tests.kernel.agent.site import Net, Site, TestNode
from tests.kernel.policy.site import profile
from tests.kernel.steering.firewall import (
    FIREWALL,
    LIST_COUNTERS,
    LOOSE,
    Flow,
    capture,
    incoming,
    invalid,
    listener,
)
from tests.support.netns import Namespace, Namespaces, enter
from tests.support.waiting import PATIENCE

GROUP = DeviceGroupName("firewalls")
TAPS = DeviceGroupName("taps")
NETS = {
    "a": Net("a", "10.1.0.0/16", "10.1.0.0/16", Mode.ONLINK),
    "b": Net("b", "10.2.0.0/16", "10.2.0.0/16", Mode.ONLINK),
    "six": Net("six", "fd01::/112", "fd01::/112", Mode.ONLINK),
    "six_b": Net("six_b", "fd02::/112", "fd02::/112", Mode.ONLINK),
}


@dataclass(eq=False)
class Device:
    """A firewall on some networks."""

    name: str
    home: Namespace
    arms: dict[str, tuple[str, Address, str]]
    """Network, address and MAC address by interface."""
    wires: dict[str, socket.socket] = field(default_factory=dict)
    """By interface."""
    came: dict[str, set[str]] = field(default_factory=dict)
    """Source addresses of what came, by interface."""

    def seen(self) -> Counter[Flow]:
        """Packets that came to it since the last time, by protocol, source and destination."""
        found: Counter[Flow] = Counter()
        for interface, wire in self.wires.items():
            here = incoming(wire)
            self.came.setdefault(interface, set()).update(source for _, source, _ in here)
            found += here
        return found

    def invalid(self) -> int:
        return invalid(self.home.run(LIST_COUNTERS))

    def kill(self) -> None:
        for interface in self.arms:
            self.home.run(f"ip link set {interface} down")

    def revive(self) -> None:
        for interface in self.arms:
            self.home.run(f"ip link set {interface} up")
            self.wires[interface].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # it was down


@dataclass
class Fleet:
    """The nodes and devices of a site."""

    made: Namespaces
    folder: Path
    nets: tuple[str, ...] = ("a", "six")
    site: Site = field(init=False)
    devices: list[Device] = field(default_factory=list)
    agents: dict[str, Agent] = field(default_factory=dict)
    group: DeviceRules = field(init=False)
    taps: DeviceRules = field(init=False)
    """Devices that get copies, and hand nothing back."""

    def __post_init__(self) -> None:
        self.site = Site(self.made, {net: NETS[net] for net in self.nets})
        self.group = DeviceRules(GROUP, ())
        self.taps = DeviceRules(TAPS, ())

    def device(self, name: str, number: int, *nets: str) -> Device:
        """With one arm on each network."""
        device = self._device(name, [(net, number, "") for net in nets])
        for net in nets:
            device.home.run(f"ip route add default via {NETS[net].gateway} dev e-{net} metric 9")
        for net, address, _ in device.arms.values():
            self._lead(Leg(self._numbers(), DeviceName(name), NetworkName(net), address))
        return device

    def tap(self, name: str, number: int, *nets: str) -> Device:
        device = self._device(name, [(net, number, "") for net in nets])
        device.home.sysctl("net.ipv4.ip_forward", 0)
        device.home.sysctl("net.ipv6.conf.all.forwarding", 0)
        for net, address, _ in device.arms.values():
            leg = Leg(self._numbers(), DeviceName(name), NetworkName(net), address)
            self.taps = replace(self.taps, legs=(*self.taps.legs, leg))
        return device

    def two_armed(
        self, name: str, number: int, *nets: tuple[str, str], by: int | None = None
    ) -> Device:
        """With an inside and an outside for the endpoints of each inside's network: what comes in
        by one leaves by the other, on whose link it takes everything to be; or, of what leaves by
        the outside, behind the node of that number."""
        pairs = [((one, number, ""), (other, number + 1, "o")) for one, other in nets]
        device = self._device(name, [arm for pair in pairs for arm in pair])
        for place, pair in enumerate(pairs):
            inside, outside = (f"e-{net}{again}" for net, _, again in pair)
            for table, (come, leave) in enumerate(
                ((inside, outside), (outside, inside)), 100 + 2 * place
            ):
                family = "-6" if ":" in NETS[pair[0][0]].cidr else "-4"
                device.home.run(f"ip {family} rule add iif {come} lookup {table} pref {table}")
                hop = "" if by is None or leave is inside else f"via {NETS[pair[1][0]].host(by)} "
                device.home.run(f"ip {family} route add default {hop}dev {leave} table {table}")
            (net, address, _), (other, far, _) = device.arms[inside], device.arms[outside]
            first = self._numbers()
            far_arm = LegArm(Arm.OUTSIDE, first + 1, NetworkName(other), far)
            leg = Leg(first, DeviceName(name), NetworkName(net), address, outside=far_arm)
            self._lead(leg)
        return device

    def _device(self, name: str, places: Sequence[tuple[str, int, str]]) -> Device:
        """A firewall with interfaces to networks: their names, its numbers there, and what
        distinguishes a second interface to the same one."""
        home = self.made.new(name)
        interfaces = {self.site.attach(home, *place): place for place in places}
        home.sysctl("net.ipv4.ip_forward", 1)
        home.sysctl("net.ipv6.conf.all.forwarding", 1)
        for where in ("all", *interfaces):
            home.sysctl(f"net.ipv4.conf.{where}.send_redirects", 0)
            home.sysctl(f"net.ipv4.conf.{where}.arp_ignore", 1)
            home.sysctl(f"net.ipv4.conf.{where}.arp_announce", 2)
        home.run("nft -f -", stdin=FIREWALL)
        home.sysctl(LOOSE, 0)
        links = {item["ifname"]: item for item in json.loads(home.run("ip -j link show"))}
        device = Device(
            name,
            home,
            {
                interface: (
                    net,
                    ipaddress.ip_address(NETS[net].host(number)),
                    links[interface]["address"],
                )
                for interface, (net, number, _) in interfaces.items()
            },
        )
        for interface in interfaces:
            wire = home.call(lambda interface=interface: capture(interface))  # type: ignore[misc]
            device.wires[interface] = wire
        self.devices.append(device)
        return device

    def _numbers(self) -> int:
        """The next one of an arm."""
        return 1 + sum(len(leg.arms) for leg in (*self.group.legs, *self.taps.legs))

    def _lead(self, leg: Leg) -> None:
        self.group = replace(self.group, legs=(*self.group.legs, leg))

    def node(self, name: str, number: int, **prefixes: str) -> Agent:
        made = self.agents[name] = Agent(self, self.site.node(name, number, prefixes))
        return made

    @property
    def around(self) -> Around:
        return Around(
            {NetworkName(net): f"e-{net}" for net in self.nets},
            {
                (NetworkName(net), address): mac
                for device in self.devices
                for net, address, mac in device.arms.values()
            },
        )

    def say(self, group: DeviceRules) -> None:
        """What policy says of the group."""
        self.group = group
        for agent in self.agents.values():
            agent.take(group)

    def mark(self, device: Device, *, up: bool) -> None:
        """A device is up, or down."""
        self.say(
            replace(
                self.group,
                legs=tuple(
                    replace(leg, is_up=up) if leg.device == device.name else leg
                    for leg in self.group.legs
                ),
            )
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Fleet]:
        """All nodes, with what they were told."""
        async with contextlib.AsyncExitStack() as stack:
            for agent in self.agents.values():
                await stack.enter_async_context(agent.running())
            try:
                yield self
            finally:
                for device in self.devices:
                    for wire in device.wires.values():
                        wire.close()

    async def settle(self) -> None:
        async with asyncio.timeout(30):
            for agent in self.agents.values():
                await agent.enforcement.reached()

    def down(self, when_down: WhenDown) -> None:
        self.say(replace(self.group, when_down=when_down))


@dataclass(eq=False)
class Agent:
    """What an agent does to a node."""

    fleet: Fleet
    node: TestNode
    enforcement: Enforcement = field(init=False)
    reconciler: Reconciler = field(init=False)
    insides: dict[str, Namespace] = field(default_factory=dict)
    sets: dict[str, tuple[RuleSet, ...]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None

    def endpoint(self, name: str, **addresses: str) -> Namespace:
        inner = self.insides[name] = self.node.endpoint(name, **addresses)
        self.sets[name] = ()
        return inner

    def give(self, name: str, *sets: RuleSet) -> None:
        """Says by which rule sets an endpoint is judged."""
        self.sets[name] = sets
        endpoint = self.node.endpoints[name]
        addresses = tuple(one.address for one in endpoint.addresses)
        ordered = sorted(sets, key=lambda one: one.order)
        self.take(*sets, EndpointRules(EndpointName(name), addresses, profile(ordered)))

    def take(self, *resources: Resource) -> None:
        found = {_identity(one): one for one in resources}
        self.enforcement.update(found, (), whole=True)

    def begin(self) -> None:
        path = self.node.namespace.path
        firewall = Firewall(enter=lambda: enter(path))
        self.enforcement = Enforcement(
            firewall, Ending(firewall, enter=lambda: enter(path)), Failsafe(), quick=1, check=1
        )
        self.enforcement.set_around(self.fleet.around)
        self.take(
            self.fleet.group,
            self.fleet.taps,
            *(
                NetworkRules(net.model.name, net.model.cidr)
                for net in self.fleet.site.nets.values()
            ),
        )
        for name, endpoint in self.node.endpoints.items():
            self.enforcement.put(endpoint.name, endpoint)
            self.give(name, *self.sets[name])
        self.task = asyncio.create_task(self.enforcement.run())

    async def end(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.task = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        folder = self.fleet.folder / self.node.name
        folder.mkdir()
        async with self.node.running(folder) as self.reconciler:
            self.reconciler.set_devices(
                [
                    DeviceWay(
                        arm.number, arm.network, arm.address, leg.network, group is self.fleet.taps
                    )
                    for group in (self.fleet.group, self.fleet.taps)
                    for leg in group.legs
                    for arm in leg.arms
                ]
            )
            failures = await self.reconciler.reached()
            assert not failures, failures
            self.begin()
            async with asyncio.timeout(30):
                await self.enforcement.reached()
            assert not self.enforcement.reasons, self.enforcement.reasons
            try:
                yield self
            finally:
                if self.task is not None:
                    await self.end()
                self.node.namespace.call(_remove)


def _remove() -> None:
    nft = Nft()
    nft.remove()
    nft.close()


def _identity(one: Resource) -> str:
    match one:
        case DeviceRules():
            return f"device/{one.name}"
        case EndpointRules():
            return f"endpoint/{one.name}"
        case RuleSet():
            return f"rules/{one.id}"
        case NetworkRules():
            return f"network/{one.name}"
    raise AssertionError(one)


class Talk:
    """A TCP connection between two namespaces."""

    def __init__(
        self,
        source: Namespace,
        target: Namespace,
        address: str,
        port: int,
        timeout: float = PATIENCE,
    ) -> None:
        self._listener = target.call(lambda: listener(address, port))
        self.near: socket.socket | None = None
        try:
            self.near = source.call(
                lambda: socket.create_connection((address, port), timeout=timeout)
            )
            self._listener.settimeout(timeout)
            self.far, _ = self._listener.accept()
            self.far.settimeout(timeout)
        except BaseException:
            self.close()
            raise

    def round_trip(self, size: int = 5000) -> bool:
        """Whether data goes and comes back."""
        assert self.near is not None
        try:
            for one, other in ((self.near, self.far), (self.far, self.near)):
                one.sendall(b"x" * size)
                left = size
                while left:
                    left -= len(other.recv(65536))
        except TimeoutError:
            return False
        return True

    def finish(self) -> None:
        """Both ends say that they have done, and hear it of each other: nothing comes late."""
        assert self.near is not None
        for one, other in ((self.near, self.far), (self.far, self.near)):
            one.shutdown(socket.SHUT_WR)
            assert other.recv(1) == b""

    def close(self) -> None:
        for one in (self.near, getattr(self, "far", None), self._listener):
            if one is not None:
                one.close()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


ANSWER = 5.0
"""Seconds for one datagram, on a busy machine."""


def datagrams(source: Namespace, target: Namespace, address: str, port: int, count: int) -> int:
    """Sends datagrams that are answered one by one; how many answers came."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def bound() -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.bind((address, port))
        made.settimeout(ANSWER)
        return made

    def asking() -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.connect((address, port))
        made.settimeout(ANSWER)
        return made

    answers = 0
    with target.call(bound) as far, source.call(asking) as near:
        for number in range(count):
            near.send(struct.pack("!I", number))
            try:
                data, back = far.recvfrom(100)
                far.sendto(data, back)
                answers += near.recv(100) == data
            except TimeoutError:
                continue
    return answers
