"""`romana lab`: a whole data center on this machine, of network namespaces.

Unlike the other nouns it talks to no service by address: a lab's services and agents are reached
by the lab's own means, whatever cluster this command otherwise belongs to.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from lab import matrix
from lab.cluster import Cluster, Known, Part, remove
from lab.control import ENVIRONMENT
from lab.fabric import CONTROL
from lab.matrix import Crossing, Host, Way
from lab.namespaces import hosts_of, inside, labs
from lab.processes import environment
from lab.spec import Endpoint
from services.common.errors import NotFound
from services.common.terminal.table import Column, Screen
from services.ctl.calls.verb import FormatOption, finish, group
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import usage
from services.ctl.local import input_file
from services.ctl.views.output import Format, Json, Output

app = group("A data center of network namespaces on this machine. Needs root.")

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The lab, YAML.")
]


NO_AGENT = "the agent does not answer"


@dataclass(frozen=True, slots=True)
class Line:
    """Somebody in the lab, for `status`."""

    kind: str
    name: str
    state: str
    detail: str


LINES: tuple[Column[Line], ...] = (
    Column("KIND", lambda item: item.kind),
    Column("NAME", lambda item: item.name),
    Column("STATE", lambda item: item.state),
    Column("DETAIL", lambda item: item.detail),
)
CROSSINGS: tuple[Column[Crossing], ...] = (
    Column("FROM", lambda item: item.source.name),
    Column("TO", lambda item: item.destination.name),
    Column("ADDRESS", lambda item: str(item.destination.address)),
    Column("OUTCOME", lambda item: item.outcome),
    Column("WAY", lambda item: item.way),
    Column("MS", lambda item: f"{item.seconds * 1000:.2f}", right=True),
    Column("SAID BY", lambda item: item.said_by),
)
BY_WAY_OF: Column[Crossing] = Column("BY WAY OF", lambda item: " > ".join(item.routers))


@app.command("up")
def up(file: FileArgument) -> None:
    """Makes the lab and starts everything in it; it stays until `romana lab down`.

    \b
    Example:
      romana lab up lab/clusters/datacenter.yaml
    """

    async def main() -> None:
        screen = Screen()
        cluster = _cluster(file)
        await cluster.up(lambda text: screen.note(f"{text}: up"))
        screen.note(f"`romana lab ping {file}` shows who reaches whom; `romana lab down` ends it.")

    finish(main, form=Format.TABLE)


@app.command("status")
def status(file: FileArgument, output: FormatOption = Format.TABLE) -> None:
    """Shows the programs and who is there. Exit code 1: the lab is not up, or not all of it.

    \b
    Example:
      romana lab status lab/clusters/datacenter.yaml
    """

    async def main() -> ExitCode:
        out = Output(output, Screen())
        cluster = _cluster(file)
        parts = cluster.parts() if cluster.is_up() else []
        known = await cluster.known() if parts else Known(cluster.lab.name, [], [])
        racks = _rack_lines(cluster) if parts else []
        firewalls = _firewall_lines(cluster) if parts else []
        unknown = [Line("endpoints", f"of {node}", "not known", NO_AGENT) for node in known.silent]
        hosts = [*unknown, *map(_host_line, known.hosts)]
        lines = [*map(_part_line, parts), *racks, *hosts, *firewalls]
        if out.for_programs:
            out.value([{**asdict(line)} for line in lines])
        elif lines:
            out.screen.table(lines, LINES, wide=True)
        else:
            out.screen.note(f"the lab {cluster.lab.name} is not up")
        complete = bool(parts) and all(part.pid for part in parts) and not unknown
        return ExitCode.OK if complete else ExitCode.NEGATIVE

    finish(main, form=output)


@app.command("attach")
def attach(
    file: FileArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new endpoint's name.")],
    node: Annotated[str, typer.Option(metavar="NODE", help="Node that gets the endpoint.")],
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Tenant of the endpoint.")],
    segment: Annotated[str, typer.Option(metavar="SEGMENT", help="Its segment.")] = "",
    network: Annotated[
        str, typer.Option(metavar="NETWORK", help="Network; default: the first that fits.")
    ] = "",
    address: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address; default: any that is free.")
    ] = "",
) -> None:
    """Makes a namespace and attaches it to a node as an endpoint.

    \b
    Example:
      romana lab attach lab/clusters/datacenter.yaml web-1 --node shared-1 --tenant production
    """

    async def main() -> None:
        cluster = _up(file)
        endpoint = Endpoint(name=name, node=node, tenant=tenant, segment=segment, network=network)
        _known_node(cluster, node)
        made = await cluster.attach(endpoint, address)
        Screen().line(str(made.address))

    finish(main, form=Format.TABLE)


@app.command("detach")
def detach(
    file: FileArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The endpoint.")],
) -> None:
    """Detaches an endpoint and removes its namespace.

    \b
    Example:
      romana lab detach lab/clusters/datacenter.yaml web-1
    """

    async def main() -> None:
        cluster = _up(file)
        host = await cluster.host(name)
        if not host.node:
            raise usage(f"{name} is a plain machine")
        await cluster.detach(host.node, name)

    finish(main, form=Format.TABLE)


@app.command("exec")
def execute(
    file: FileArgument,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="An endpoint, node, machine, firewall, rack or the router."
        ),
    ],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run.")],
) -> None:
    """Runs a command in somebody's network namespace; put -- before it.

    In `control`, the `romana` command finds the lab's services.

    \b
    Examples:
      romana lab exec lab/clusters/datacenter.yaml shared-1 -- ip route show table all
      romana lab exec lab/clusters/datacenter.yaml router -- nft list ruleset
      romana lab exec lab/clusters/datacenter.yaml control -- romana node list
    """

    async def found() -> None:
        cluster = _up(file)
        if name not in hosts_of(cluster.lab.name):
            raise NotFound(f"the lab {cluster.lab.name} has nobody called {name}")

    finish(found, form=Format.TABLE)
    words = inside(_cluster(file).path(name), command)
    added = ENVIRONMENT if name == CONTROL else {}
    sys.stdout.flush()
    os.execvpe(words[0], words, {**environment(), **added})  # noqa: S606  # what was asked for


@app.command("ping")
def ping(
    file: FileArgument,
    source: Annotated[str, typer.Argument(metavar="FROM", help="Who pings; default: all.")] = "",
    destination: Annotated[
        str, typer.Argument(metavar="TO", help="Who is pinged; default: all but FROM.")
    ] = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """Pings, and watches at the routers which way the packets take.

    Without names, everybody pings everybody. Exit code 1: an answer is missing that no router
    refused.

    \b
    Examples:
      romana lab ping lab/clusters/datacenter.yaml
      romana lab ping lab/clusters/datacenter.yaml q1 p1
    """

    async def main() -> ExitCode:
        out = Output(output, Screen())
        cluster = _up(file)
        known = await cluster.known()
        hosts = known.hosts
        for name in (source, destination):
            if name:
                known.host(name)
        if known.silent and not (source and destination):
            out.screen.note(f"without endpoints of {', '.join(known.silent)}: {NO_AGENT}")
        sources = [host for host in hosts if source in {"", host.name}]
        destinations = [host for host in hosts if destination in {"", host.name}]
        crossings = await matrix.measured(sources, destinations, cluster.routers)
        if out.for_programs:
            out.value([_document(crossing) for crossing in crossings])
        elif source:
            columns = (*CROSSINGS, BY_WAY_OF) if cluster.lab.racks else CROSSINGS
            out.screen.table(crossings, columns, wide=True)
        else:
            out.screen.table(matrix.rows(crossings), matrix.columns(hosts), wide=True)
            out.line(matrix.legend(hosts))
        lost = any(crossing.way is Way.LOST for crossing in crossings)
        return ExitCode.NEGATIVE if lost else ExitCode.OK

    finish(main, form=output)


@app.command("down")
def down(
    lab: Annotated[
        str,
        typer.Argument(metavar="[FILE|NAME]", help="The lab; default: the one that is up."),
    ] = "",
) -> None:
    """Removes a lab: its namespaces, whatever runs in them, its data. No lab is no error.

    It need not be the place, or the file, that it was started from.

    \b
    Examples:
      romana lab down
      romana lab down datacenter
      romana lab down lab/clusters/datacenter.yaml
    """

    async def main() -> None:
        name = _named(lab)
        if not name:
            Screen().note("no lab is up")
            return
        hosts = remove(name)
        Screen().note(f"the lab {name} is removed" if hosts else f"the lab {name} was not up")

    finish(main, form=Format.TABLE)


def _named(text: str) -> str:
    """The name of the lab that a file or a name stands for, or of the one that is up."""
    if text:
        file = Path(text)
        return _cluster(file).lab.name if file.is_file() or file.suffix else text
    there = labs()
    if len(there) > 1:
        raise usage(f"several labs are up, say which: {', '.join(there)}")
    return there[0] if there else ""


def _cluster(file: Path) -> Cluster:
    text = input_file.text(file)
    with input_file.named(file):
        return Cluster(text)


def _up(file: Path) -> Cluster:
    cluster = _cluster(file)
    if not cluster.is_up():
        raise NotFound(f"the lab {cluster.lab.name} is not up; `romana lab up {file}` makes it")
    return cluster


def _known_node(cluster: Cluster, name: str) -> None:
    if name not in {node.name for node in cluster.lab.nodes}:
        raise NotFound(f"the lab {cluster.lab.name} has no node {name}")


def _part_line(part: Part) -> Line:
    state = "runs" if part.pid else "does not run"
    return Line("program", part.name, state, f"process {part.pid}" if part.pid else "")


def _rack_lines(cluster: Cluster) -> list[Line]:
    lines = []
    there = hosts_of(cluster.lab.name)
    for rack in cluster.lab.racks:
        behind = cluster.routing.prefixes[rack.name].items()
        detail = [f"router {own}" for own in rack.router]
        detail += [f"{prefix} of {network}" for network, prefix in behind]
        state = "there" if rack.name in there else "is gone"
        lines.append(Line("rack", rack.name, state, ", ".join(detail)))
    return lines


def _firewall_lines(cluster: Cluster) -> list[Line]:
    there = hosts_of(cluster.lab.name)
    return [
        Line(
            "firewall",
            each.name,
            "there" if each.name in there else "is gone",
            ", ".join(
                f"{'outside ' if arm.is_outside else ''}{arm.address} on {arm.network}"
                for arm in each.arms
            ),
        )
        for each in cluster.lab.firewalls
    ]


def _host_line(host: Host) -> Line:
    kind = "endpoint" if host.node else "machine"
    place = f"{host.address} on {host.network}"
    return Line(
        kind, host.name, "attached" if host.node else "there", f"{place} {host.node}".rstrip()
    )


def _document(crossing: Crossing) -> dict[str, Json]:
    return {
        "from": crossing.source.name,
        "to": crossing.destination.name,
        "address": str(crossing.destination.address),
        "outcome": crossing.outcome.value,
        "way": crossing.way.value,
        "milliseconds": round(crossing.seconds * 1000, 3),
        "said_by": crossing.said_by,
        "routers": list(crossing.routers),
    }
