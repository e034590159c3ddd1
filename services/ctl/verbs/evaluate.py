"""`romana evaluate`: where an endpoint may go, and how much room is left there."""

from __future__ import annotations

from typing import Annotated

import typer
from romana.ipam.v1 import ipam_service_pb2 as api
from romana.ipam.v1 import utilization_pb2

from services.common.rpc.message_json import plain
from services.common.terminal.table import Column
from services.ctl.calls import completion, options
from services.ctl.calls.session import Session
from services.ctl.calls.verb import single, verb
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import usage
from services.ctl.views import enum_text
from services.ctl.views.output import Format

app = single()


def why_not(item: utilization_pb2.NodeEvaluation) -> str:
    """The refusals, network by network; networks of other tenants only if there are no more."""
    own = [
        each for each in item.refusals if each.refusal != utilization_pb2.REFUSAL_NOT_THIS_TENANT
    ]
    return "; ".join(
        f"{each.network}: {enum_text.refusal(each.refusal)}" for each in own or item.refusals
    )


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
    Column("NETWORK", lambda item: item.network, solid=True),
    Column("GROUP", lambda item: item.group, solid=True),
    Column("WHY NOT", lambda item: "" if item.fits else why_not(item)),
)


@verb(
    app,
    "evaluate",
    examples="""
        romana evaluate --tenant shop
        romana evaluate --tenant shop --segment front --network prod --limit 3
        romana evaluate --tenant shop --node n1 --node n2 -o json
    """,
)
async def evaluate(
    session: Session,
    tenant: options.TenantOption,
    segment: options.SegmentOption = "",
    network: options.NetworkFilter = "",
    family: options.FamilyOption = "",
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

    With -o name only the nodes that fit.
    """
    try:
        family_number = enum_text.family(family)
    except ValueError as error:
        raise usage(f"--family: {error}") from None
    ipam = session.ipam
    answer = await ipam.read(
        ipam.stub.EvaluateNodes,
        api.EvaluateNodesRequest(
            tenant=tenant,
            segment=segment,
            network=network,
            family=family_number,
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
        empty="there are no nodes",
    )
    fits = any(item.fits for item in answer.evaluations)
    return ExitCode.OK if fits else ExitCode.NEGATIVE
