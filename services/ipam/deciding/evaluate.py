"""Where an endpoint may go, for schedulers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.common.errors import NotFound
from services.common.model.names import GroupPath, NetworkName, NodeName, Segment, Tenant
from services.common.model.node import Node
from services.ipam.deciding.allocation import refuse, unusable
from services.ipam.ledger.areas import Area, Owner
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.state import State
from services.ipam.model import Refused, Want


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a node has to offer."""

    node: NodeName
    fits: bool
    network: NetworkName | None = None
    """The first of the tenant's networks that has room."""
    group: GroupPath | None = None
    free: int = 0
    """Addresses this owner can get there."""
    free_in_blocks: int = 0
    """Of them, those in blocks it holds on that node."""
    refusals: Sequence[Refused] = ()
    """Why networks before that one, or all, have none."""


def evaluate(
    state: State,
    tenant: Tenant,
    segment: Segment,
    want: Want,
    nodes: Iterable[NodeName] | None,
    now: int,
) -> list[Evaluation]:
    """Evaluates nodes (None: all), best first; `now` is Unix time in milliseconds.

    First come nodes with room in a block that the owner holds, then those with most free addresses.
    Raises NotFound for an unknown network, tenant or node.
    """
    free: dict[int, int] = {}
    found = []
    for name in state.nodes if nodes is None else nodes:
        node = state.nodes.get(name)
        if node is None:
            raise NotFound(
                f"node {name!r} is not registered",
                reason="NODE_NOT_FOUND",
                metadata={"field": "nodes", "node": name},
            )
        found.append(_evaluate(state, node, Owner(name, tenant, segment), want, free, now))
    found.sort(key=lambda item: (not item.fits, not item.free_in_blocks, -item.free, item.node))
    return found


def _evaluate(
    state: State, node: Node, owner: Owner, want: Want, free: dict[int, int], now: int
) -> Evaluation:
    """Evaluates one node; `free` keeps what each area has to give, by its id."""
    refusals: list[Refused] = []
    for area in state.areas_for(node, owner.tenant, want.network, want.bits):
        holding = area.holdings.get(owner)
        in_blocks = sum(available(block, area, now) for block in holding.blocks) if holding else 0
        unheld = free.get(id(area))
        if unheld is None:
            unheld = free[id(area)] = area.free()
        if in_blocks + unheld:
            return Evaluation(
                node.name,
                fits=True,
                network=area.network.name,
                group=area.path,
                free=in_blocks + unheld,
                free_in_blocks=in_blocks,
                refusals=refusals,
            )
        refusals.append(refuse(area, owner, now))
    refusals += unusable(state, node, owner.tenant, want)
    return Evaluation(node.name, fits=False, refusals=refusals)


def available(block: Block, area: Area, now: int) -> int:
    """How many addresses of a block can be handed out at `now`."""
    rested = sum(
        item.time + area.delay <= now and not block.reserved >> item.offset & 1
        for item in block.rest or ()
    )
    return block.free.bit_count() + rested
