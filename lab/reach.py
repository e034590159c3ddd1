"""The demo's end: real packets between namespaces, the way that each takes, policy, firewalls.

The data center of `lab/clusters/datacenter.yaml`, with a name of its own, so that it gets in the
way of no other lab. It is removed whatever happens; what a killed demo left, the next one removes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from lab import matrix, probe, steering
from lab.capture import Capture, Sighting
from lab.cluster import Cluster, left_over, remove
from lab.matrix import Host
from lab.namespaces import missing
from lab.probe import Outcome
from lab.segments import Segments
from lab.story import Story, Unexpected
from services.common.errors import RomanaError
from services.common.terminal.table import Column

FILE = Path(__file__).parent / "clusters" / "datacenter.yaml"
NAME = re.compile(r"^name: .*$", re.MULTILINE)
PREFIX = "demo-"
SETTLE_TIMEOUT = 15.0
"""Seconds until the last route is everywhere."""
CLIENT, SERVER, OPEN_PORT, SHUT_PORT = "q2", "p4", 443, 80
"""Two endpoints on one node, of VLANs between which only one port is open."""

SIGHTINGS: tuple[Column[Sighting], ...] = (
    Column("INTERFACE", lambda item: item.interface),
    Column("", lambda item: "out" if item.outgoing else "in"),
    Column("SOURCE", lambda item: str(item.source)),
    Column("DESTINATION", lambda item: str(item.destination)),
    Column("PORT", lambda item: str(item.ports[1]) if item.ports else "", right=True),
)


async def show(story: Story) -> None:
    """All of it.

    Raises:
        Unexpected: A packet took another way than it has to, or the lab did not start.
    """
    story.step("Send packets: who reaches whom, and which way")
    lacking = missing()
    if lacking:
        story.say(f"This part needs {lacking}, which is not here: the demo ends before it.")
        return
    remove_left_over()
    name = f"{PREFIX}{os.getpid()}"
    text = NAME.sub(f"name: {name}", FILE.read_text(), count=1)
    cluster = Cluster(text, guarded=True)
    story.say(
        "Each node, endpoint and router is a network namespace. `romana lab up FILE` makes such a\n"
        f"lab of any file; this is {FILE.relative_to(FILE.parents[2])}."
    )
    try:
        await cluster.up(lambda what: story.say(f"up: {what}"))
        await _matrix(story, cluster)
        await _one_connection(story, cluster)
        await Segments(story, cluster, await cluster.hosts()).run()
        await steering.show(story, cluster)
    except RomanaError as error:
        raise Unexpected(error.message) from error
    finally:
        cluster.down()


def remove_left_over() -> None:
    """Removes labs of demos that were killed."""
    for lab in left_over():
        pid = lab.removeprefix(PREFIX)
        if lab.startswith(PREFIX) and pid.isdigit() and not Path("/proc", pid).exists():
            remove(lab)


async def _matrix(story: Story, cluster: Cluster) -> None:
    hosts = await cluster.hosts()
    crossings = await matrix.until_steady(cluster.lab, hosts, cluster.routers, SETTLE_TIMEOUT)
    story.gap()
    story.table(matrix.rows(crossings), matrix.columns(hosts))
    story.say(matrix.legend(hosts))
    wrong = matrix.unexpected(cluster.lab, crossings)
    for each in wrong:
        story.say(f"{each.source.name} to {each.destination.name}: {each.way}, {each.outcome}")
    if wrong:
        raise Unexpected(f"{len(wrong)} of {len(crossings)} pings went another way")


async def _one_connection(story: Story, cluster: Cluster) -> None:
    client, server = await cluster.host(CLIENT), await cluster.host(SERVER)
    story.gap()
    story.say(
        f"{CLIENT} ({client.network}) and {SERVER} ({server.network}) are both on {client.node}, "
        f"and still meet at the core\nrouter, which lets only port {OPEN_PORT} pass. Its packet "
        f"capture of a connection to port {OPEN_PORT}:"
    )
    opened, seen = await _connect(cluster, client, server, OPEN_PORT)
    story.table(seen[:2], SIGHTINGS)
    shut, refused = await _connect(cluster, client, server, SHUT_PORT)
    story.say(f"and to port {SHUT_PORT}, which comes in and does not go out:")
    story.table(refused[:2], SIGHTINGS)
    if opened is not Outcome.ANSWERED or shut is Outcome.ANSWERED:
        raise Unexpected(f"port {OPEN_PORT}: {opened}; port {SHUT_PORT}: {shut}")
    if [each.outgoing for each in seen[:2]] != [False, True]:
        raise Unexpected("the connection was not seen in and out of the core router")
    if not refused or any(each.outgoing for each in refused):
        raise Unexpected("the refused connection was not seen at the core router")


async def _connect(
    cluster: Cluster, client: Host, server: Host, port: int
) -> tuple[Outcome, list[Sighting]]:
    with Capture(cluster.router) as capture:
        outcome = await probe.tcp(client.path, server.path, server.address, port)
        seen = [
            each
            for each in capture.seen()
            if each.ports and each.ports[1] == port and each.destination == server.address
        ]
    return outcome, seen
