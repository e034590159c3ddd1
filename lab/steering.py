"""The demo's chapter on firewalls: rules lead connections through them, inside a VLAN.

The firewalls' own captures say what they saw: both directions of what the rules allow, even between
two endpoints of one node, and nothing of anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from lab import firewall, probe
from lab.capture import Capture, Sighting
from lab.cluster import Cluster
from lab.commands import Commands, as_typed
from lab.example_files import EXAMPLES
from lab.matrix import Host
from lab.namespaces import inside, run
from lab.probe import Outcome
from lab.spec import Firewall
from lab.story import Story, Unexpected
from services.common.terminal.table import Column

APPLIED_TIMEOUT = 20
"""Seconds until all nodes have applied the policy."""
WAIT = 60.0
"""Seconds until the nodes have seen the firewalls, and lead through them."""
PAUSE = 0.5
HANDSHAKE = 4
"""Packets at a firewall: the first and its answer, each in and out."""

SOURCE_PORTS = 20000
"""From where on each connection has one of its own, which tells late packets of others from it."""


@dataclass(frozen=True, slots=True)
class Led:
    """What is led through a group of firewalls: connections of an endpoint to another's port."""

    group: str
    policy: str
    """Its file; the group's file is called like the group."""
    client: str
    server: str
    port: int


ONE_ARMED = Led("firewalls", "inspect", "p1", "p2", 5432)
"""Within VLAN production: from front to back on one node."""
TWO_ARMED = Led("two-armed", "inspect-front", "p4", "p1", 443)
"""From front to front."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet at a firewall."""

    firewall: str
    packet: Sighting


PACKETS: tuple[Column[Seen], ...] = (
    Column("FIREWALL", lambda item: item.firewall),
    Column("INTERFACE", lambda item: item.packet.interface),
    Column("", lambda item: "out" if item.packet.outgoing else "in"),
    Column("SOURCE", lambda item: str(item.packet.source)),
    Column("DESTINATION", lambda item: str(item.packet.destination)),
)


async def show(story: Story, cluster: Cluster) -> None:
    """All of it.

    Raises:
        Unexpected: A packet took another way than the rules say.
    """
    chapter = _Chapter(story, cluster)
    story.step("Lead connections through a firewall, inside a VLAN")
    await chapter.one_armed()
    await chapter.two_armed()
    chapter.expect_nothing_in_part()


class _Chapter:
    def __init__(self, story: Story, cluster: Cluster) -> None:
        self._story = story
        self._cluster = cluster
        self._commands = Commands(story, cluster)
        self._firewalls = cluster.lab.firewalls
        self._source_ports = count(SOURCE_PORTS)

    async def one_armed(self) -> None:
        story, led = self._story, ONE_ARMED
        names = " and ".join(each.name for each in self._firewalls if not each.outside)
        story.say(
            f"{names} stand on VLAN production: stateful firewalls, which drop all of a\n"
            "connection of which they see only a part. They become a group, and a rule leads what\n"
            "the front end says to its databases through it, by `via`:"
        )
        await self._apply(led)
        await self._commands.show("device", "show", led.group)
        client, server = await self._ends(led)
        await self._commands.show(
            "policy", "explain", client.name, server.name, "--port", str(led.port)
        )
        story.gap()
        story.say(
            f"{client.name} and {server.name} are both on {client.node}. "
            "The firewalls' packet captures of a connection:"
        )
        seen = await self._connected(client, server, led.port)
        story.table(seen[:HANDSHAKE], PACKETS)
        _expect_one_way_through(seen, client, server)
        one, other = await self._ends(TWO_ARMED)
        seen = await self._connected(one, other, led.port)
        if seen:
            raise Unexpected(f"{one.name} to {other.name}: {len(seen)} packets led")
        story.say(f"From {one.name} to {other.name}, of which no rule says `via`: not one packet.")

    async def two_armed(self) -> None:
        story, led = self._story, TWO_ARMED
        (each,) = (each for each in self._firewalls if each.outside)
        client, server = await self._ends(led)
        story.gap()
        story.say(
            f"{each.name} has an inside and an outside: what comes in by one leaves by the other. "
            f"The inside\nis the side of the endpoint whose rule it is, here {server.name}, whom "
            f"{client.name} calls:"
        )
        await self._apply(led)
        seen = await self._connected(client, server, led.port)
        story.gap()
        story.table(seen[:HANDSHAKE], PACKETS)
        _expect_one_way_through(seen, client, server)
        self._expect_both_arms(each, seen, client, server)

    def expect_nothing_in_part(self) -> None:
        dropped = sum(_invalid(self._cluster.path(each.name)) for each in self._firewalls)
        if dropped:
            raise Unexpected(f"the firewalls dropped {dropped} packets of connections seen in part")
        self._story.say("And no firewall has met a connection of which it saw only a part.")

    async def _apply(self, led: Led) -> None:
        """The group and the policy; waits until every node sees each of the firewalls."""
        devices = EXAMPLES / "devices" / f"{led.group}.yaml"
        policy = EXAMPLES / "policies" / f"{led.policy}.yaml"
        wait = ("--wait", str(APPLIED_TIMEOUT))
        await self._commands.show("device", "apply", as_typed(devices))
        await self._commands.show("policy", "apply", as_typed(policy), *wait)
        deadline = time.monotonic() + WAIT
        while True:
            group = await self._commands.ask("device", "show", led.group)
            networks = {*group["group"]["networks"]}
            nodes = sum(bool(networks & node.addresses.keys()) for node in self._cluster.lab.nodes)
            if all(device.get("nodes_up", 0) == nodes for device in group["devices"]):
                return
            if time.monotonic() > deadline:
                raise Unexpected(f"the nodes do not see the firewalls: {group['devices']}")
            await asyncio.sleep(PAUSE)

    async def _ends(self, led: Led) -> tuple[Host, Host]:
        return await self._cluster.host(led.client), await self._cluster.host(led.server)

    async def _connected(self, client: Host, server: Host, port: int) -> list[Seen]:
        """What the firewalls see of a connection, as soon as one comes about."""
        deadline = time.monotonic() + WAIT
        while True:
            outcome, seen = await self._connect(client, server, port)
            if outcome is Outcome.ANSWERED:
                return seen
            if time.monotonic() > deadline:
                raise Unexpected(f"{client.name} to {server.name}: {outcome}")

    async def _connect(self, client: Host, server: Host, port: int) -> tuple[Outcome, list[Seen]]:
        own = next(self._source_ports)
        ports = {port, own}
        with contextlib.ExitStack() as stack:
            captures = {
                each.name: stack.enter_context(Capture(self._cluster.path(each.name)))
                for each in self._firewalls
            }
            outcome = await probe.tcp(
                client.path, server.path, server.address, port, source_port=own
            )
            return outcome, [
                Seen(name, packet)
                for name, capture in captures.items()
                for packet in capture.seen()
                if packet.ports and {*packet.ports} == ports
            ]

    def _expect_both_arms(
        self, each: Firewall, seen: Sequence[Seen], client: Host, server: Host
    ) -> None:
        """The server's rule says `via`, so it is inside."""
        inner, outer = map(self._cluster.lab.arm_interface, each.arms)
        ways = {(one.packet.source, one.packet.interface, one.packet.outgoing) for one in seen}
        there = {(client.address, outer, False), (client.address, inner, True)}
        back = {(server.address, inner, False), (server.address, outer, True)}
        if ways != there | back:
            raise Unexpected(f"not all passed from one arm to the other: {seen}")


def _expect_one_way_through(led: Iterable[Seen], client: Host, server: Host) -> None:
    ways = {(each.packet.source, each.packet.outgoing) for each in led}
    whole = {(end.address, out) for end in (client, server) for out in (False, True)}
    if ways != whole or len({each.firewall for each in led}) != 1:
        raise Unexpected(f"not all of a connection passed one firewall: {led}")


def _invalid(path: Path) -> int:
    """Packets that a firewall has dropped since it did not know their connection."""
    listed = run(inside(path, ["nft", "-j", "list", "counters", "table", "inet", firewall.TABLE]))
    return sum(
        item["counter"]["packets"]
        for item in json.loads(listed)["nftables"]
        if item.get("counter", {}).get("name") == firewall.INVALID
    )
