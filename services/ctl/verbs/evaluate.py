"""`romana evaluate`: where an endpoint may go, and how much room is left there."""

from __future__ import annotations

from typing import Annotated

import typer
from romana.ipam.v1 import ipam_service_pb2 as api
from romana.ipam.v1 import utilization_pb2

from services.common.rpc.message_json import plain
from services.common.terminal.table import Column
from services.ctl.calls import completion, option_syntax, options
from services.ctl.calls.session import Session
from services.ctl.calls.verb import single, verb
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import usage
from services.ctl.views import enum_text
from services.ctl.views.output import Format, nothing

app = single()


def why_not(item: utilization_pb2.NodeEvaluation) -> str:
    """The refusals, network by network; networks of other tenants only if there are no more."""
    own = [
        each for each in item.refusals if each.refusal != utilization_pb2.REFUSAL_NOT_THIS_TENANT
    ]
    return "; ".join(
        f"{each.network}: {enum_text.refusal(each.refusal)}" for each in own or item.refusals
    )


def _agent(item: utilization_pb2.NodeEvaluation) -> str:
    if item.agent == utilization_pb2.AGENT_PRESENCE_ABSENT:
        return "away"
    return "there" if item.agent == utilization_pb2.AGENT_PRESENCE_CONNECTED else "not known"


def _networks(item: utilization_pb2.NodeEvaluation) -> str:
    """One for each address."""
    return ", ".join(each.network for each in item.addresses) or item.network


def _groups(item: utilization_pb2.NodeEvaluation) -> str:
    """One for each address, unless all are the same."""
    return ", ".join(dict.fromkeys(each.group for each in item.addresses)) or item.group


def _next(item: utilization_pb2.NodeEvaluation) -> str:
    if not item.fits:
        return ""
    return "new block" if item.new_block_needed else "held block"


COLUMNS: tuple[Column[utilization_pb2.NodeEvaluation], ...] = (
    Column("NODE", lambda item: item.node, solid=True),
    Column("FITS", lambda item: "yes" if item.fits else "no"),
    Column("FREE", lambda item: enum_text.large(item.free_addresses), right=True),
    Column("IN BLOCKS", lambda item: enum_text.large(item.free_in_blocks), right=True),
    Column("NEXT", _next),
    Column("NETWORK", _networks, solid=True),
    Column("GROUP", _groups, solid=True),
    Column("AGENT", _agent, wide=True),
    Column("WHY NOT", lambda item: "" if item.fits else why_not(item)),
)


@verb(
    app,
    "evaluate",
    examples="""
        romana evaluate --tenant shop
        romana evaluate --tenant shop --segment front --network prod --limit 3
        romana evaluate --tenant shop --node n1 --node n2 -o json
        romana evaluate --tenant shop --want family=4 --want family=6
    """,
)
async def evaluate(
    session: Session,
    tenant: options.TenantOption,
    segment: options.SegmentOption = "",
    network: options.NetworkFilter = "",
    family: options.FamilyOption = "",
    want: options.WantOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    node: Annotated[
        list[str],
        typer.Option(
            "--node",
            metavar="NAME",
            help="Only this node; repeat for several.",
            autocompletion=completion.nodes,
        ),
    ] = [],  # noqa: B006  # typer reads it, nobody writes to it
    limit: options.LimitOption = 0,
) -> ExitCode:
    """Shows where an endpoint of this owner may go, best first. Exit code 1: nowhere.

    Nodes whose agent is away come after the others that fit: -o wide tells. With -o name only the
    nodes that fit.
    """
    try:
        family_number = enum_text.family(family)
    except ValueError as error:
        raise usage(f"--family: {error}") from None
    wants = option_syntax.wants(want, network=network, family=family, address="") if want else ()
    ipam = session.ipam
    answer = await ipam.read(
        ipam.stub.EvaluateNodes,
        api.EvaluateNodesRequest(
            tenant=tenant,
            segment=segment,
            network=network,
            family=family_number,
            addresses=wants,
            nodes=node,
            limit=limit,
        ),
    )
    refused = any(not item.fits for item in answer.evaluations)
    only_fitting = session.out.form is Format.NAME
    shown = [item for item in answer.evaluations if item.fits or not only_fitting]
    session.out.listing(
        shown,
        COLUMNS if refused else COLUMNS[:-1],
        document=plain,
        name=lambda item: item.node,
        empty=nothing("there are no nodes", node),
    )
    fits = any(item.fits for item in answer.evaluations)
    return ExitCode.OK if fits else ExitCode.NEGATIVE
