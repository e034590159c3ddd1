"""`romana topology`: networks and the tree of prefix groups."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1 import utilization_pb2
from romana.topology.v1 import topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.rpc.node_addresses import main_addresses
from services.common.terminal.plural import count
from services.ctl.calls import options, waiting
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.calls.waiting import named
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure, usage
from services.ctl.local import input_file
from services.ctl.views import plan_view, tree_view
from services.ctl.views.output import Format
from services.ctl.views.standard_streams import between_messages

app = group("The topology: networks, and the tree of prefix groups that carves them.")


class Builtin(StrEnum):
    """Topologies that need no file."""

    FLAT = "flat"
    KUBEADM = "kubeadm"


BUILTINS = {
    Builtin.FLAT: topology_pb2.BUILTIN_NAME_FLAT,
    Builtin.KUBEADM: topology_pb2.BUILTIN_NAME_KUBEADM,
}


class ExportFormat(StrEnum):
    """What `topology export -o` takes."""

    YAML = "yaml"
    JSON = "json"


FileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="Topology file, YAML or JSON, or Romana 2's; -: stdin."),
]
BuiltinOption = Annotated[
    Builtin | None, typer.Option("--builtin", help="A built-in topology instead of a file.")
]
CidrOption = Annotated[
    str, typer.Option(metavar="CIDR", help="CIDR of the built-in topology's network.")
]
EtagOption = Annotated[
    str, typer.Option(metavar="ETAG", help="Refuse if the topology changed since this etag.")
]


@verb(
    app,
    "apply",
    mutates=True,
    examples="""
        romana topology apply dc.yaml
        romana topology apply dc.yaml --dry-run
        romana topology apply --builtin kubeadm --cidr 10.200.0.0/16
        kubectl get cm romana -o json | jq -r .data.topology | romana topology apply -
    """,
)
async def apply(
    session: Session,
    file: FileArgument = None,
    builtin: BuiltinOption = None,
    cidr: CidrOption = "",
    dry_run: options.DryRunOption = False,
    allow_stranded: options.AllowStrandedOption = False,
    etag: EtagOption = "",
    wait: waiting.RoutesWaitOption = 0,
) -> ExitCode | None:
    """Applies networks and topology from a file. Shows the plan first.

    If the topology changes after the plan was made, nothing is applied (a conflict).
    """
    request = _request(file, builtin, cidr)
    request.etag = etag
    request.request_id = session.request_id
    with input_file.named(file):
        planned = await _plan(session, request)
    if dry_run:
        return _show_plan(session, planned, allow_stranded=allow_stranded)
    if not session.out.for_programs and not plan_view.is_empty(planned.plan):
        plan_view.show(session.screen, planned.plan)
    if (question := danger(planned.plan)) and (allow_stranded or not planned.plan.stranded):
        session.require(question)
    if planned.plan.stranded and allow_stranded:
        session.confirm(f"Strand {count(planned.plan.stranded_addresses, 'address')} in use?")
    request.allow_stranded = allow_stranded
    request.etag = planned.etag
    topology = session.topology
    answer = await topology.once(topology.stub.ApplyTopology, request)
    if session.out.for_programs:
        session.out.value(plain(answer))
    elif answer.changed:
        session.note(f"Applied; the topology's etag is now {answer.etag}")
    else:
        session.note("Nothing was to change")
    await waiting.wait_for_routes(session, wait)
    return None


@verb(
    app,
    "plan",
    examples="""
        romana topology plan dc.yaml
        romana topology plan dc.yaml -o json
    """,
)
async def plan(
    session: Session,
    file: FileArgument = None,
    builtin: BuiltinOption = None,
    cidr: CidrOption = "",
) -> ExitCode:
    """Shows what applying the file would change. Exit code 1: it strands addresses in use."""
    request = _request(file, builtin, cidr)
    with input_file.named(file):
        planned = await _plan(session, request)
    return _show_plan(session, planned, allow_stranded=False)


@verb(
    app,
    "show",
    examples="""
        romana topology show
        romana topology show -o wide
    """,
)
async def show(session: Session) -> None:
    """Shows the tree of prefix groups: nodes, prefixes, and how full they are."""
    topology = session.topology
    answer = await topology.read(topology.stub.GetTopology, api.GetTopologyRequest())
    out = session.out
    if out.for_programs:
        used = await _utilization(session)
        out.value(
            {**plain(answer), "utilization": None if used is None else [plain(u) for u in used]}
        )
        return
    if out.form is Format.NAME:
        for each in answer.spec.topologies:
            out.line(each.name)
        return
    if not answer.spec.topologies:
        session.note("there is no topology yet: `romana topology apply` makes one")
        return
    used = await _utilization(session)
    by_group = tree_view.usage_of(used or ())
    rows = [row for each in answer.spec.topologies for row in tree_view.rows(each, by_group)]
    session.screen.table(rows, tree_view.columns(rows, with_usage=used is not None), wide=out.wide)


@verb(
    app,
    "export",
    examples="""
        romana topology export > dc.yaml
        romana topology export -o json --with-nodes
    """,
)
async def export(
    session: Session,
    output: Annotated[
        ExportFormat, typer.Option("-o", "--output", help="The document's format.")
    ] = ExportFormat.YAML,
    with_nodes: Annotated[
        bool, typer.Option("--with-nodes", help="Include the nodes, pinned to their groups.")
    ] = False,
) -> None:
    """Writes the topology as a document from which `apply` makes the same again."""
    topology = session.topology
    formats = {
        ExportFormat.YAML: topology_pb2.DOCUMENT_FORMAT_YAML,
        ExportFormat.JSON: topology_pb2.DOCUMENT_FORMAT_JSON,
    }
    answer = await topology.read(
        topology.stub.ExportTopology,
        api.ExportTopologyRequest(format=formats[output], include_nodes=with_nodes),
    )
    sys.stdout.write(answer.document.text.rstrip("\n") + "\n")


@verb(
    app,
    "watch",
    examples="""
        romana topology watch
        romana topology watch -o json | jq -r '.updated_nodes[].name'
    """,
)
async def watch(session: Session) -> None:
    """Follows topology and nodes: first all there is, then every change, until interrupted."""
    topology = session.topology
    out = session.out
    messages = topology.stream(
        topology.stub.WatchTopology, api.WatchTopologyRequest(), patient=True
    )
    async for message in messages:
        if out.for_programs:
            out.event(plain(message))
        else:
            for line in event_lines(message):
                out.line(line)
        between_messages()
        if message.in_sync and not out.for_programs:
            session.note(f"in sync at revision {message.revision}; now every change")


def danger(plan: topology_pb2.TopologyPlan) -> str:
    """What to ask before a plan is carried out; empty: nothing."""
    gone = topology_pb2.CHANGE_KIND_REMOVED
    removed = [change.network for change in plan.networks if change.kind == gone]
    unplaced = list(
        dict.fromkeys(move.node for move in plan.nodes if move.before and not move.after)
    )
    parts: list[str] = []
    if removed:
        parts.append(f"remove {count(len(removed), 'network')} ({named(removed)})")
    if unplaced:
        nodes = count(len(unplaced), "node")
        parts.append(f"take {nodes} out of groups, into none ({named(unplaced)})")
    return f"This would {' and '.join(parts)}. Go on?" if parts else ""


def event_lines(message: api.WatchTopologyResponse) -> list[str]:
    """What a message of the watch says, line by line."""
    lines: list[str] = []
    if message.HasField("spec"):
        networks = ", ".join(f"{each.name} {each.cidr}" for each in message.spec.networks)
        lines.append(f"~ topology  {networks or 'no networks'}")
    for node in message.updated_nodes:
        places = ", ".join(place.group for place in node.placements)
        own = ", ".join(main_addresses(node))
        lines.append(f"+ node {node.name}  {own}  {places}".rstrip())
    lines += [f"- node {name}" for name in message.removed_nodes]
    return lines


def _request(file: Path | None, builtin: Builtin | None, cidr: str) -> api.ApplyTopologyRequest:
    if (file is None) == (builtin is None):
        raise usage("give either FILE (- for stdin) or --builtin")
    if builtin is not None:
        return api.ApplyTopologyRequest(
            builtin=topology_pb2.BuiltinTopology(name=BUILTINS[builtin], cidr=cidr)
        )
    assert file is not None
    if cidr:
        raise usage("--cidr goes with --builtin; a file says its networks' CIDRs itself")
    document = topology_pb2.TopologyDocument(text=input_file.text(file))
    return api.ApplyTopologyRequest(document=document)


async def _plan(session: Session, request: api.ApplyTopologyRequest) -> api.ApplyTopologyResponse:
    """Asks for the plan. Strandings are part of it, not a reason to refuse."""
    trial = api.ApplyTopologyRequest()
    trial.CopyFrom(request)
    trial.validate_only = True
    trial.allow_stranded = True
    topology = session.topology
    return await topology.read(topology.stub.ApplyTopology, trial)


def _show_plan(
    session: Session, planned: api.ApplyTopologyResponse, *, allow_stranded: bool
) -> ExitCode:
    if session.out.for_programs:
        session.out.value(plain(planned))
    else:
        plan_view.show(session.screen, planned.plan)
    if planned.plan.stranded and not allow_stranded:
        session.note("This would be refused; --allow-stranded goes on all the same")
        return ExitCode.NEGATIVE
    return ExitCode.OK


async def _utilization(
    session: Session,
) -> tuple[utilization_pb2.NetworkUtilization, ...] | None:
    """How full everything is, unless ipam is away: the tree is worth showing without."""
    ipam = session.ipam
    try:
        answer = await ipam.once(ipam.stub.GetUtilization, ipam_api.GetUtilizationRequest())
    except Failure as error:
        session.note(f"How full they are is not known: {error.message}")
        return None
    return tuple(answer.networks)
