"""Who reaches whom, and which way: everybody pings everybody, watched at the routers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab import acl
from lab.capture import Capture, Sighting
from lab.fabric import ROUTER
from lab.probe import Echoed, Outcome, Pinger
from lab.spec import Address, Lab, Protocol
from services.common.terminal.table import Column

SETTLE_INTERVAL = 0.1


class Way(StrEnum):
    """How a request and what came back went, as a cell of the matrix."""

    DIRECT = "direct"
    """Answered; no router ever saw it."""
    ROUTER = "router"
    """Answered; it went into and out of a router, or several."""
    DENIED = "denied"
    """A router took it in and did not let it out."""
    LOST = "lost"
    """No answer, and no router stopped it."""


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
    rack: str = ""
    """The rack whose router it is behind; empty: none."""


@dataclass(frozen=True, slots=True)
class Crossing:
    source: Host
    destination: Host
    way: Way
    outcome: Outcome
    seconds: float
    said_by: str
    routers: tuple[str, ...]
    """Names of those that took the request in, in its order."""


@dataclass(frozen=True, slots=True)
class Row:
    source: Host
    crossings: Mapping[str, Crossing]
    """By destination."""


SYMBOLS = {Way.DIRECT: "direct", Way.ROUTER: "router", Way.DENIED: "·", Way.LOST: "LOST"}
LEGEND = (
    "direct: answered, never seen by the core router   router: answered, seen in and out of the "
    "core router\n·: seen in at the core router, not let out"
)
RACK_LEGEND = (
    "direct: answered, seen by no router   3 routers: answered, seen in and out of three: of its "
    "rack, core, of the other rack\nrouter: of the core router alone   ·: seen in at a router, not "
    "let out"
)


async def measured(
    sources: Sequence[Host], destinations: Sequence[Host], routers: Mapping[str, Path]
) -> list[Crossing]:
    """Pings every pair of the same family at once and watches in the namespaces of routers."""
    with ExitStack() as captures:
        watched = {name: captures.enter_context(Capture(path)) for name, path in routers.items()}
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
        seen = {name: capture.seen() for name, capture in watched.items()}
    return [
        _crossing(source, destination, echoed, seen)
        for (source, destination), echoed in zip(pairs, echoes, strict=True)
    ]


def expected(lab: Lab, source: Host, destination: Host) -> Way:
    """What a ping has to do: VLANs and racks are direct, and between networks rules hold."""
    if source.network == destination.network:
        return Way.DIRECT if source.rack == destination.rack else Way.ROUTER
    allowed = acl.permits(lab, source.network, destination.network, Protocol.ICMP)
    return Way.ROUTER if allowed else Way.DENIED


def expected_routers(source: Host, destination: Host) -> tuple[str, ...]:
    """By way of whom a ping goes that is not direct."""
    if source.rack and source.rack == destination.rack:
        return (source.rack,)
    return tuple(name for name in (source.rack, ROUTER, destination.rack) if name)


async def until_steady(
    lab: Lab, hosts: Sequence[Host], routers: Mapping[str, Path], within: float
) -> list[Crossing]:
    """Measures until all is as expected, or for `within` seconds; returns the last matrix."""
    deadline = time.monotonic() + within
    while True:
        crossings = await measured(hosts, hosts, routers)
        if not unexpected(lab, crossings) or time.monotonic() > deadline:
            return crossings
        await asyncio.sleep(SETTLE_INTERVAL)


def unexpected(lab: Lab, crossings: Iterable[Crossing]) -> list[Crossing]:
    """Those that went another way than they have to."""
    return [
        each
        for each in crossings
        if each.way is not expected(lab, each.source, each.destination)
        or (
            each.way is Way.ROUTER
            and each.routers != expected_routers(each.source, each.destination)
        )
    ]


def way_of(outcome: Outcome, sightings: Mapping[str, Sequence[Sighting]]) -> Way:
    """Judges by the answer and by where each router saw the request."""
    came = {name for name, seen in sightings.items() if any(not each.outgoing for each in seen)}
    left = {name for name, seen in sightings.items() if any(each.outgoing for each in seen)}
    if outcome is Outcome.ANSWERED:
        return Way.ROUTER if came & left else Way.DIRECT
    return Way.DENIED if came - left else Way.LOST


def passed_by(sightings: Mapping[str, Sequence[Sighting]]) -> tuple[str, ...]:
    """The routers that took a request in, by how often it had been forwarded before."""
    limits = {
        name: max(each.hop_limit for each in seen if not each.outgoing)
        for name, seen in sightings.items()
        if any(not each.outgoing for each in seen)
    }
    return tuple(sorted(limits, key=lambda name: -limits[name]))


def rows(crossings: Iterable[Crossing]) -> list[Row]:
    """The matrix, in the order of the hosts."""
    made: dict[str, dict[str, Crossing]] = {}
    sources: dict[str, Host] = {}
    for crossing in crossings:
        sources[crossing.source.name] = crossing.source
        made.setdefault(crossing.source.name, {})[crossing.destination.name] = crossing
    return [Row(sources[name], cells) for name, cells in made.items()]


def columns(hosts: Sequence[Host]) -> list[Column[Row]]:
    """A column per destination; racks only if somebody is in one."""
    racks: list[Column[Row]] = [Column("RACK", lambda row: row.source.rack)]
    return [
        Column("FROM", lambda row: row.source.name),
        Column("NETWORK", lambda row: row.source.network),
        *(racks if any(host.rack for host in hosts) else ()),
        Column("ON", lambda row: row.source.node or "(plain machine)"),
        *(Column(host.name, _cell(host.name), solid=True) for host in hosts),
    ]


def legend(hosts: Sequence[Host]) -> str:
    return RACK_LEGEND if any(host.rack for host in hosts) else LEGEND


def symbol(crossing: Crossing) -> str:
    if crossing.way is not Way.ROUTER or crossing.routers == (ROUTER,):
        return SYMBOLS[crossing.way]
    count = len(crossing.routers)
    return f"{count} router{'s' if count > 1 else ''}"


def _cell(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        if row.source.name == name:
            return "-"
        crossing = row.crossings.get(name)
        return symbol(crossing) if crossing else ""

    return text


def _crossing(
    source: Host, destination: Host, echoed: Echoed, seen: Mapping[str, Sequence[Sighting]]
) -> Crossing:
    passed = {
        name: [
            sighting
            for sighting in sightings
            if sighting.echo == echoed.echo and sighting.destination == destination.address
        ]
        for name, sightings in seen.items()
    }
    return Crossing(
        source,
        destination,
        way_of(echoed.outcome, passed),
        echoed.outcome,
        echoed.seconds,
        echoed.said_by,
        passed_by(passed),
    )
