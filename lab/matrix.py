"""Who reaches whom, and which way: everybody pings everybody, watched at the core router."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab import acl
from lab.capture import Capture, Sighting
from lab.probe import Echoed, Outcome, Pinger
from lab.spec import Address, Lab, Protocol
from services.ctl.table import Column

SETTLE_INTERVAL = 0.1


class Way(StrEnum):
    """How a request and what came back went, as a cell of the matrix."""

    DIRECT = "direct"
    """Answered; the core router never saw it."""
    ROUTER = "router"
    """Answered; it went into and out of the core router."""
    DENIED = "denied"
    """The core router took it in and did not let it out."""
    LOST = "lost"
    """No answer, and the core router did not stop it."""


@dataclass(frozen=True, slots=True)
class Host:
    """Somebody who can ping and be pinged."""

    name: str
    path: Path
    """Of its namespace."""
    address: Address
    network: str
    node: str = ""
    """Empty: a plain machine."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One ping from one host to another."""

    source: Host
    destination: Host
    way: Way
    outcome: Outcome
    seconds: float
    said_by: str


@dataclass(frozen=True, slots=True)
class Row:
    """All pings of one source."""

    source: Host
    crossings: Mapping[str, Crossing]
    """By destination."""


SYMBOLS = {Way.DIRECT: "direct", Way.ROUTER: "router", Way.DENIED: "·", Way.LOST: "LOST"}
LEGEND = (
    "direct: answered, never seen by the core router   router: answered, seen in and out of the "
    "core router\n·: seen in at the core router, not let out"
)


async def measured(
    sources: Sequence[Host], destinations: Sequence[Host], router: Path
) -> list[Crossing]:
    """Pings every pair of the same family at once and watches in the router's namespace."""
    with Capture(router) as capture:
        async with AsyncExitStack() as stack:
            pingers = {
                host.name: await stack.enter_async_context(Pinger(host.path, host.address.version))
                for host in sources
            }
            pairs = [
                (source, destination)
                for source in sources
                for destination in destinations
                if source != destination and source.address.version == destination.address.version
            ]
            echoes = await asyncio.gather(
                *(pingers[source.name].ping(destination.address) for source, destination in pairs)
            )
        seen = capture.seen()
    return [
        _crossing(source, destination, echoed, seen)
        for (source, destination), echoed in zip(pairs, echoes, strict=True)
    ]


def expected(lab: Lab, source: Host, destination: Host) -> Way:
    """What a ping has to do: VLANs are direct, and between them the router's rules hold."""
    if source.network == destination.network:
        return Way.DIRECT
    allowed = acl.permits(lab, source.network, destination.network, Protocol.ICMP)
    return Way.ROUTER if allowed else Way.DENIED


async def settled(lab: Lab, hosts: Sequence[Host], router: Path, within: float) -> list[Crossing]:
    """Measures until all is as expected, or for `within` seconds; returns the last matrix."""
    deadline = time.monotonic() + within
    while True:
        crossings = await measured(hosts, hosts, router)
        if not unexpected(lab, crossings) or time.monotonic() > deadline:
            return crossings
        await asyncio.sleep(SETTLE_INTERVAL)


def unexpected(lab: Lab, crossings: Iterable[Crossing]) -> list[Crossing]:
    """Those that went another way than they have to."""
    return [
        each for each in crossings if each.way is not expected(lab, each.source, each.destination)
    ]


def way_of(outcome: Outcome, sightings: Iterable[Sighting]) -> Way:
    """Judges by the answer and by where the router saw the request."""
    sightings = [*sightings]
    came = any(not sighting.outgoing for sighting in sightings)
    left = any(sighting.outgoing for sighting in sightings)
    if outcome is Outcome.ANSWERED:
        return Way.ROUTER if came and left else Way.DIRECT
    return Way.DENIED if came and not left else Way.LOST


def rows(crossings: Iterable[Crossing]) -> list[Row]:
    """The matrix, in the order of the hosts."""
    made: dict[str, dict[str, Crossing]] = {}
    sources: dict[str, Host] = {}
    for crossing in crossings:
        sources[crossing.source.name] = crossing.source
        made.setdefault(crossing.source.name, {})[crossing.destination.name] = crossing
    return [Row(sources[name], cells) for name, cells in made.items()]


def columns(hosts: Sequence[Host]) -> list[Column[Row]]:
    """A column per destination."""
    return [
        Column("FROM", lambda row: row.source.name),
        Column("NETWORK", lambda row: row.source.network),
        Column("ON", lambda row: row.source.node or "(plain machine)"),
        *(Column(host.name, _cell(host.name), solid=True) for host in hosts),
    ]


def _cell(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        if row.source.name == name:
            return "-"
        crossing = row.crossings.get(name)
        return SYMBOLS[crossing.way] if crossing else ""

    return text


def _crossing(
    source: Host, destination: Host, echoed: Echoed, seen: Sequence[Sighting]
) -> Crossing:
    passed = [
        sighting
        for sighting in seen
        if sighting.echo == echoed.echo and sighting.destination == destination.address
    ]
    return Crossing(
        source,
        destination,
        way_of(echoed.outcome, passed),
        echoed.outcome,
        echoed.seconds,
        echoed.said_by,
    )
