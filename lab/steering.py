"""The demo's chapter on firewalls: a rule leads connections through one, inside a VLAN.

The firewalls' own captures say what they saw: both directions of what the rule allows, even between
two endpoints of one node, and nothing of anything else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import firewall, probe
from lab.capture import Capture, Sighting
from lab.cluster import Cluster
from lab.commands import Commands, as_typed
from lab.example_files import EXAMPLES
from lab.matrix import Host
from lab.namespaces import inside, run
from lab.probe import Outcome
from lab.story import Story, Unexpected
from services.common.terminal.table import Column

GROUP_FILE = EXAMPLES / "devices" / "firewalls.yaml"
POLICY_FILE = EXAMPLES / "policies" / "inspect.yaml"
GROUP, PORT = "firewalls", 5432
LED, NOT_LED = ("p1", "p2"), ("p4", "p1")
"""Both within VLAN production: from front to back on one node, and from front to front."""
APPLIED_TIMEOUT = 20
"""Seconds until all nodes have applied the policy."""
WAIT = 60.0
"""Seconds until the nodes have seen the firewalls, and lead through them."""
PAUSE = 0.5
HANDSHAKE = 4
"""Packets at a firewall: the first and its answer, each in and out."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet at a firewall."""

    firewall: str
    packet: Sighting


PACKETS: tuple[Column[Seen], ...] = (
    Column("FIREWALL", lambda item: item.firewall),
    Column("", lambda item: "out" if item.packet.outgoing else "in"),
    Column("SOURCE", lambda item: str(item.packet.source)),
    Column("DESTINATION", lambda item: str(item.packet.destination)),
)


async def show(story: Story, cluster: Cluster) -> None:
    """All of it.

    Raises:
        Unexpected: A packet took another way than the rule says.
    """
    commands = Commands(story, cluster)
    story.step("Lead connections through a firewall, inside a VLAN")
    story.say(
        f"{_names(cluster)} stand on VLAN production: stateful firewalls, which drop all of a\n"
        "connection of which they see only a part. They become a group, and a rule leads what\n"
        "the front end says to its databases through it, by `via`:"
    )
    await commands.show("device", "apply", as_typed(GROUP_FILE))
    await commands.show("policy", "apply", as_typed(POLICY_FILE), "--wait", str(APPLIED_TIMEOUT))
    await _seen_by_all(cluster, commands)
    await commands.show("device", "show", GROUP)
    client, server = [await cluster.host(name) for name in LED]
    await commands.show("policy", "explain", client.name, server.name, "--port", str(PORT))
    story.gap()
    story.say(
        f"{client.name} and {server.name} are both on {client.node}. "
        "The firewalls' packet captures of a connection:"
    )
    led = await _led(cluster, client, server)
    story.table(led[:HANDSHAKE], PACKETS)
    _expect_one_way_through(led, client, server)
    one, other = [await cluster.host(name) for name in NOT_LED]
    outcome, seen = await _connect(cluster, one, other)
    if outcome is not Outcome.ANSWERED or seen:
        raise Unexpected(f"{one.name} to {other.name}: {outcome}, {len(seen)} packets led")
    story.say(f"From {one.name} to {other.name}, of which no rule says `via`: not one packet.")
    dropped = sum(_invalid(cluster.path(each.name)) for each in cluster.lab.firewalls)
    if dropped:
        raise Unexpected(f"the firewalls dropped {dropped} packets of connections seen in part")
    story.say("And neither firewall has met a connection of which it saw only a part.")


def _names(cluster: Cluster) -> str:
    return " and ".join(each.name for each in cluster.lab.firewalls)


async def _seen_by_all(cluster: Cluster, commands: Commands) -> None:
    """Waits until every node of the firewalls' networks sees each of them."""
    networks = {name for each in cluster.lab.firewalls for name in each.addresses}
    nodes = sum(bool(networks & node.addresses.keys()) for node in cluster.lab.nodes)
    deadline = time.monotonic() + WAIT
    while True:
        group = await commands.ask("device", "show", GROUP)
        if all(device.get("nodes_up", 0) == nodes for device in group["devices"]):
            return
        if time.monotonic() > deadline:
            raise Unexpected(f"the nodes do not see the firewalls: {group['devices']}")
        await asyncio.sleep(PAUSE)


async def _led(cluster: Cluster, client: Host, server: Host) -> list[Seen]:
    """What the firewalls see of a connection, as soon as the nodes lead it."""
    deadline = time.monotonic() + WAIT
    while True:
        outcome, seen = await _connect(cluster, client, server)
        if outcome is Outcome.ANSWERED:
            return seen
        if time.monotonic() > deadline:
            raise Unexpected(f"{client.name} to {server.name}: {outcome}")


async def _connect(cluster: Cluster, client: Host, server: Host) -> tuple[Outcome, list[Seen]]:
    captures = {each.name: Capture(cluster.path(each.name)) for each in cluster.lab.firewalls}
    try:
        outcome = await probe.tcp(client.path, server.path, server.address, PORT)
        return outcome, [
            Seen(name, packet)
            for name, capture in captures.items()
            for packet in capture.seen()
            if packet.ports
            and PORT in packet.ports
            and {packet.source, packet.destination} == {client.address, server.address}
        ]
    finally:
        for capture in captures.values():
            capture.close()


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
