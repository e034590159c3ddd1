"""`romana block`: slices of prefixes, each held by one node and one owner."""

from __future__ import annotations

from romana.ipam.v1 import block_pb2
from romana.ipam.v1 import ipam_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import Column
from services.ctl.calls import options
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.views import enum_text
from services.ctl.views.output import nothing
from services.ctl.views.standard_streams import between_messages

app = group("Blocks: slices of prefixes, each held by one node and one owner.")

COLUMNS: tuple[Column[block_pb2.Block], ...] = (
    Column("BLOCK", lambda item: item.prefix),
    Column("NODE", lambda item: item.node),
    Column("OWNER", lambda item: enum_text.owner(item.tenant, item.segment)),
    Column("USED", lambda item: f"{item.used}/{item.size}", right=True),
    Column("NETWORK", lambda item: item.network),
    Column("GROUP", lambda item: "(stranded)" if item.stranded else item.group),
    Column("RESTING", lambda item: str(item.resting), right=True, wide=True),
    Column("REVISION", lambda item: str(item.revision), right=True, wide=True),
)


@verb(
    app,
    "list",
    examples="""
        romana block list --node n1
        romana block list --tenant shop --network prod -o wide
    """,
)
async def list_blocks(
    session: Session,
    node: options.NodeFilter = "",
    tenant: options.TenantFilter = "",
    segment: options.SegmentFilter = "",
    network: options.NetworkFilter = "",
    limit: options.LimitOption = 0,
) -> None:
    """Lists blocks, by network and address."""
    ipam = session.ipam
    listed = await ipam.every(
        ipam.stub.ListBlocks,
        api.ListBlocksRequest(node=node, tenant=tenant, segment=segment, network=network),
        lambda page: page.blocks,
        limit=limit,
        page_size=5000,
    )
    session.listing(
        listed,
        COLUMNS,
        name=lambda item: item.prefix,
        empty=nothing("no blocks are held", node, tenant, segment, network),
    )


@verb(
    app,
    "watch",
    examples="""
        romana block watch --node n1
        romana block watch -o json | jq .updated
    """,
)
async def watch(
    session: Session,
    network: options.NetworkFilter = "",
    node: options.NodeFilter = "",
) -> None:
    """Follows blocks: first all there are, then every change, until interrupted."""
    ipam = session.ipam
    out = session.out
    blocks = 0
    messages = ipam.stream(
        ipam.stub.WatchBlocks, api.WatchBlocksRequest(network=network, node=node), patient=True
    )
    async for message in messages:
        if out.for_programs:
            out.event(plain(message))
        else:
            for block in message.updated:
                out.line(changed(block))
            for prefix in message.removed:
                out.line(f"- {prefix}")
        between_messages()
        blocks += len(message.updated)
        if message.in_sync and not out.for_programs:
            session.note(f"{count(blocks, 'block')}; now every change")


def changed(block: block_pb2.Block) -> str:
    """A line about a block that is new or changed."""
    where = "stranded" if block.stranded else block.group
    text = (
        f"+ {block.prefix}  {block.node}  {enum_text.owner(block.tenant, block.segment)}  "
        f"{block.used}/{block.size} used"
    )
    return f"{text}, {block.resting} resting  {where}" if block.resting else f"{text}  {where}"
