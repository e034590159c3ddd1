"""Where an endpoint may go, for schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import NotFound
from services.common.model.names import GroupPath, NetworkName, NodeName, Segment, Tenant
from services.ipam.deciding.explain import cordoned, refuse, unusable
from services.ipam.ledger.areas import Area
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import AddressSpec, Owner, Refused


@dataclass(frozen=True, slots=True)
class Evaluation:
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


class Evaluating:
    """Evaluates nodes one by one, between which others may change the ledger."""

    def __init__(self, tenant: Tenant, segment: Segment, spec: AddressSpec) -> None:
        self._tenant = tenant
        self._segment = segment
        self._spec = spec
        self._free: dict[int, int] = {}
        """What each area has to give, by its id; as it was when it was first looked at."""
        self._areas: list[Area] = []
        """So that their ids stay theirs."""

    def look(self, ledger: Ledger, name: NodeName, now: int) -> Evaluation:
        """Evaluates a node; `now` is the time by which addresses rest, in milliseconds.

        Raises NotFound for an unknown network, tenant or node.
        """
        node = ledger.nodes.get(name)
        if node is None:
            raise NotFound(
                f"node {name!r} is not registered",
                reason="NODE_NOT_FOUND",
                metadata={"field": "nodes", "node": name},
            )
        if node.cordoned and self._spec.address is None:
            closed = cordoned(ledger, node, self._tenant, self._spec)
            return Evaluation(name, fits=False, refusals=closed)
        owner = Owner(name, self._tenant, self._segment)
        refusals: list[Refused] = []
        for area in ledger.areas_for(node, owner.tenant, self._spec.network, self._spec.bits):
            holding = area.holdings.get(owner)
            in_blocks = (
                sum(available(block, area, now) for block in holding.blocks) if holding else 0
            )
            unheld = self._unheld(area)
            if in_blocks + unheld:
                return Evaluation(
                    name,
                    fits=True,
                    network=area.network.name,
                    group=area.path,
                    free=in_blocks + unheld,
                    free_in_blocks=in_blocks,
                    refusals=refusals,
                )
            refusals.append(refuse(area, owner, now))
        refusals += unusable(ledger, node, owner.tenant, self._spec)
        return Evaluation(name, fits=False, refusals=refusals)

    def _unheld(self, area: Area) -> int:
        free = self._free.get(id(area))
        if free is None:
            free = self._free[id(area)] = area.free()
            self._areas.append(area)
        return free


def best_first(found: list[Evaluation]) -> None:
    """Sorts: first nodes with room in a block that the owner holds, then those with most free
    addresses."""
    found.sort(key=lambda item: (not item.fits, not item.free_in_blocks, -item.free, item.node))


def available(block: Block, area: Area, now: int) -> int:
    """How many addresses of a block can be handed out at `now`."""
    rested = sum(
        item.time + area.delay <= now and not block.reserved >> item.offset & 1
        for item in block.rest or ()
    )
    return block.free.bit_count() + rested
