"""The table of rules on a node: changes of it, and what it costs a packet."""

from __future__ import annotations

import functools
import ipaddress
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from services.agent.kernel.nftables.driver import Nft
from services.agent.kernel.nftables.table import Found
from services.agent.kernel.nftables.table_diff import diff
from services.agent.rules.compose import Composer, LocalInterface
from services.agent.rules.resources import Resource
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName
from services.common.model.network import Address
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    EndpointRules,
    GroupId,
    GroupPage,
    Mode,
    PolicyName,
    PortMatch,
    Profile,
    Protocol,
    RuleSet,
    RuleSetId,
    Tier,
)
from tests.bench.report import Row
from tests.support.netns import Namespace, Namespaces, missing

TITLE = "rules of a node, in a network namespace of its own"
MEMBER_AIM: Final = 0.0002
LOAD_AIM: Final = 1.0
RATE_AIM: Final = 0.8
THROUGHPUT_AIM: Final = 0.9
A, B = ipaddress.ip_address("10.99.0.1"), ipaddress.ip_address("10.99.0.2")
SEGMENT: Final = 18
"""Bytes of a small packet's content: 60 in a frame."""
UDP_SEGMENT: Final = 103
FLOWS: Final = 16


def page(group: str, number: int, members: int = (1 << 64) - 1) -> tuple[str, GroupPage]:
    """The n-th page of a group of 10.0.0.0/8."""
    base = int(ipaddress.ip_address("10.0.0.0")) + 64 * number
    return f"page/{group}/{base:x}", GroupPage(GroupId(group), base, 32, members)


def policy(number: int, direction: Direction, groups: int) -> RuleSet:
    """One that allows two groups on some ports."""
    chosen = tuple(GroupId(f"g{(number + step) % groups}") for step in range(2))
    return RuleSet(
        RuleSetId(f"{direction.value}-{number}"),
        PolicyName(f"policy-{number}"),
        direction,
        Tier.TENANT,
        0,
        Mode.ENFORCE,
        (
            CompiledRule(
                0,
                Action.ALLOW,
                groups=chosen,
                ports=(
                    PortMatch(Protocol.TCP, 80, 80),
                    PortMatch(Protocol.TCP, 8000, 8010),
                    PortMatch(Protocol.UDP, 53, 53),
                ),
            ),
        ),
    )


class World:
    """A composer with many endpoints, and two that are real."""

    def __init__(self, endpoints: int, policies: int, groups: int, members: int) -> None:
        self.composer = Composer(Failsafe(), None)
        draw = random.Random(1)
        updated: dict[str, Resource] = dict(
            page(f"g{group}", number + group)
            for group in range(groups)
            for number in range(members // 64)
        )
        sets = {
            direction: [policy(number, direction, groups) for number in range(policies)]
            for direction in Direction
        }
        for one in (*sets[Direction.INGRESS], *sets[Direction.EGRESS]):
            updated[f"rules/{one.id}"] = one
        profiles = [
            Profile(
                tuple(one.id for one in draw.sample(sets[Direction.INGRESS], min(5, policies))),
                tuple(one.id for one in draw.sample(sets[Direction.EGRESS], min(5, policies))),
            )
            for _ in range(max(policies, 1))
        ]
        for number in range(endpoints):
            address = ipaddress.ip_address("10.1.0.0") + number
            self._add(updated, f"e{number}", f"romx{number}", address, draw.choice(profiles))
        real = Profile(
            self._allowing(updated, Direction.INGRESS), self._allowing(updated, Direction.EGRESS)
        )
        self._add(updated, "a", "romaaaaaaaaaaaa", A, real)
        self._add(updated, "b", "rombbbbbbbbbbbb", B, real)
        self.composer.update(updated, ())

    def _add(
        self, updated: dict[str, Resource], name: str, interface: str, address: Address,
        profile: Profile,
    ) -> None:  # fmt: skip
        self.composer.put_local(EndpointName(name), LocalInterface(interface, (address,)))
        rules = EndpointRules(EndpointName(name), (address,), profile)
        updated[f"endpoint/{name}"] = rules

    def _allowing(self, updated: dict[str, Resource], direction: Direction) -> tuple[RuleSetId]:
        """A policy that lets the two real ones speak, by a group as large as any."""
        base = int(A) & ~63
        updated[f"page/real/{base:x}"] = GroupPage(GroupId("real"), base, 32, 0b110)
        updated.update(page("real", number) for number in range(156))
        made = RuleSet(
            RuleSetId(f"real-{direction.value}"),
            PolicyName("real"),
            direction,
            Tier.TENANT,
            0,
            Mode.ENFORCE,
            (
                CompiledRule(
                    0,
                    Action.ALLOW,
                    groups=(GroupId("real"),),
                    ports=(PortMatch(Protocol.UDP, 53, 53), PortMatch(Protocol.TCP, 80, 80)),
                ),
            ),
        )
        updated[f"rules/{made.id}"] = made
        return (made.id,)


def load(nft: Nft, world: World) -> float:
    """Seconds for the kernel to take all of it."""
    changes = world.composer.refresh().changes
    begun = time.perf_counter()
    nft.apply(changes)
    return time.perf_counter() - begun


# Members ------------------------------------------------------------------------------------------


def members(space: Namespace, size: int, rounds: int) -> Iterator[Row]:
    """One member more in a group, by itself and beside somebody else's large interval set."""
    nft = space.call(Nft)
    world = World(0, 1, 1, size)
    load(nft, world)
    with_process = f"nft add element inet romana_bench s {{ {A} }}"
    space.run("nft add table inet romana_bench")
    space.run("nft add set inet romana_bench s { type ipv4_addr; }")
    for foreign in (0, size):
        if foreign:
            lines = ", ".join(
                f"{ipaddress.ip_address('172.16.0.0') + 4 * number}/31" for number in range(foreign)
            )
            space.run(
                "nft -f -",
                stdin="table inet foreign { set many { type ipv4_addr; flags interval; "
                f"elements = {{ {lines} }}; }}; }}\n",
            )
        taken = []
        for number in range(rounds):
            world.composer.update(dict([page("g0", size // 64 + number, 1)]), ())
            taken.append(load(nft, world))
        begun = time.perf_counter()
        space.run(with_process)
        process = time.perf_counter() - begun
        beside = f", beside a foreign interval set of {foreign:,}" if foreign else ""
        median = statistics.median(taken)
        world.composer.update({}, [page("g0", size // 64 + number)[0] for number in range(rounds)])
        load(nft, world)
        yield Row(
            f"a member added to a group of {size:,}{beside}",
            f"{median * 1e3:.3f} ms",
            f"nft as a process {process * 1e3:.1f} ms",
            median / process,
            f"{MEMBER_AIM * 1e3} ms",
            median <= MEMBER_AIM,
        )
    nft.remove()
    nft.close()
    space.run("nft flush ruleset")


def loading(space: Namespace, endpoints: int, policies: int) -> Row:
    """Everything at once."""
    nft = space.call(Nft)
    world = World(endpoints, policies, 20, 640)
    begun = time.perf_counter()
    changes = world.composer.refresh().changes
    composed = time.perf_counter() - begun
    nft.apply(changes)
    taken = time.perf_counter() - begun
    nft.remove()
    nft.close()
    return Row(
        f"{endpoints:,} endpoints and {policies} policies in one transaction",
        f"{taken:.3f} s",
        f"of that composing {composed:.3f} s",
        None,
        f"{LOAD_AIM:.0f} s",
        taken <= LOAD_AIM,
    )


# Packets ------------------------------------------------------------------------------------------


class Path:
    """Two endpoints on a node."""

    def __init__(self, made: Namespaces) -> None:
        self.node, self.a, self.b = made.new("node"), made.new("a"), made.new("b")
        self.node.sysctl("net.ipv4.ip_forward", 1)
        for space, interface, address in (
            (self.a, "romaaaaaaaaaaaa", A),
            (self.b, "rombbbbbbbbbbbb", B),
        ):
            self.node.run(f"ip link add {interface} type veth peer name eth0 netns {space.name}")
            self.node.run(f"ip link set {interface} address ee:ee:ee:ee:ee:ee up")
            self.node.run(f"ip route add {address}/32 dev {interface}")
            space.run("ip link set eth0 address 02:00:00:00:00:01 up")
            space.run(f"ip addr add {address}/32 dev eth0")
            space.run("ip route add default dev eth0")
            space.run("ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent")
            space.run("ip route replace default via 169.254.1.1 dev eth0 onlink")
            self.node.run(
                f"ip neigh add {address} lladdr 02:00:00:00:00:01 dev {interface} nud permanent"
            )

    def small_packets(self, seconds: float, *, answered: bool) -> float:
        """Packets from a to b per second of the sender's CPU, in whose name the kernel does all of
        it; so it does not matter what else runs. `answered`: the connections are established."""
        self.a.run("ip link set eth0 gso_max_segs 1")  # the kernel cuts before it sends
        far = self.b.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        far.bind((str(B), 53))
        far.settimeout(2)
        near = [
            self.a.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(FLOWS)
        ]
        for one in near:
            one.connect((str(B), 53))
            one.send(b"begin")
            _, where = far.recvfrom(64)
            if answered:
                far.sendto(b"answer", where)
        far.close()
        for one in near:
            one.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
        data = bytes(SEGMENT * 60)
        sent = _received(self.b)
        begun, used = time.perf_counter(), time.thread_time()
        while time.perf_counter() - begun < seconds:
            for one in near:
                try:
                    one.send(data)
                except (BlockingIOError, ConnectionRefusedError):
                    continue
        taken = time.thread_time() - used
        count = _received(self.b) - sent
        for one in near:
            one.close()
        self.a.run("ip link set eth0 gso_max_segs 65535")
        return count / taken

    def throughput(self, seconds: float) -> float:
        """Bytes of a TCP connection from a to b per second of this process' CPU, both its ends'."""
        ear = self.b.call(lambda: socket.create_server((str(B), 80)))
        near = self.a.call(lambda: socket.create_connection((str(B), 80), 5))
        far, _ = ear.accept()
        total = [0]

        def receive() -> None:
            buffer = bytearray(1 << 20)
            while count := far.recv_into(buffer):
                total[0] += count

        thread = threading.Thread(target=receive)
        thread.start()
        data = bytes(1 << 20)
        begun, used = time.perf_counter(), time.process_time()
        while time.perf_counter() - begun < seconds:
            near.send(data)
        near.close()
        thread.join()
        taken = time.process_time() - used
        far.close()
        ear.close()
        return total[0] / taken


def _received(space: Namespace) -> int:
    line = space.run("cat /proc/net/dev").split("eth0:")[1].split()
    return int(line[1])


def packets(path: Path, world: World, rounds: int, seconds: float) -> Iterator[Row]:
    """With and without the table, in turns."""
    nft = path.node.call(Nft)
    world.composer.refresh()
    whole = diff(world.composer.image(), Found())
    found: dict[tuple[str, bool], list[float]] = {}
    measures: dict[str, Callable[[], float]] = {
        "established": functools.partial(path.small_packets, seconds, answered=True),
        "first": functools.partial(path.small_packets, seconds, answered=False),
        "tcp": functools.partial(path.throughput, seconds),
    }
    for _ in range(rounds):
        for with_rules in (False, True):
            if with_rules:
                nft.apply(whole)
            for name, measure in measures.items():
                found.setdefault((name, with_rules), []).append(measure())
            nft.remove()
    nft.close()
    for name, what, unit, scale, aim in (
        ("established", "small packets of connections", "k per second of CPU", 1e3, RATE_AIM),
        (
            "first",
            "small packets, each as if it were a first one",
            "k per second of CPU",
            1e3,
            None,
        ),
        ("tcp", "TCP", "Gbit per second of CPU", 1e9 / 8, THROUGHPUT_AIM),
    ):
        ruled, bare = (statistics.median(found[name, given]) for given in (True, False))
        yield Row(
            f"{what}, with rules",
            f"{ruled / scale:.2f} {unit}",
            f"without any table {bare / scale:.2f} {unit}",
            ruled / bare,
            f"{aim} of it" if aim else "-",
            ruled / bare >= aim if aim else None,
        )


async def measure(*, quick: bool) -> list[Row]:
    lack = missing()
    if lack:
        return [Row("policy_kernel", f"needs {lack}")]
    size, rounds, seconds = (1_000, 2, 0.2) if quick else (100_000, 5, 1.5)
    rows: list[Row] = []
    with Namespaces() as made:
        space = made.new("rules")
        rows += members(space, size, 10 if quick else 200)
        rows.append(loading(space, 100 if quick else 2_000, 10 if quick else 100))
        endpoints, policies = (100, 10) if quick else (10_000, 1_000)
        world = World(endpoints, policies, 20, 640 if quick else 10_000)
        rows += packets(Path(made), world, rounds, seconds)
    return rows
