"""Where an endpoint may go, for schedulers."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from services.common.errors import node_not_found
from services.common.model.names import GroupPath, NetworkName, NodeName, Segment, Tenant
from services.common.model.node import Node
from services.ipam.deciding.explain import cordoned, refuse, unusable
from services.ipam.ledger.areas import Area
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import AddressSpec, Owner, Refused


class Presence(Enum):
    """Whether a node's agent is there to attach an endpoint."""

    UNKNOWN = auto()
    CONNECTED = auto()
    ABSENT = auto()


@dataclass(frozen=True, slots=True)
class Agents:
    """Nodes whose agents are there."""

    connected: Set[str] = frozenset()
    complete: bool = False
    """All replicas said so; of nodes that are not named, it is not known else."""

    def presence(self, node: NodeName) -> Presence:
        if node in self.connected:
            return Presence.CONNECTED
        return Presence.ABSENT if self.complete else Presence.UNKNOWN


NOT_KNOWN: Final = Agents()


@dataclass(frozen=True, slots=True)
class AddressRoom:
    """Where one address would come from."""

    network: NetworkName
    """The first of the tenant's networks that has room."""
    group: GroupPath
    free: int
    """Addresses this owner can get there, without those that the addresses before take."""
    free_in_blocks: int
    """Of them, those in blocks it holds on that node."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a node can give an endpoint, or why it cannot."""

    node: NodeName
    rooms: Sequence[AddressRoom] = ()
    """For each address that is wanted; fewer if the node cannot give them all."""
    fits: bool = False
    refusals: Sequence[Refused] = ()
    """Why networks before that of the last room, or all for the next address, have none."""
    agent: Presence = Presence.UNKNOWN

    @property
    def scarcest(self) -> AddressRoom | None:
        """The room that is full first; None if it does not fit."""
        return min(self.rooms, key=lambda room: room.free) if self.fits else None

    @property
    def network(self) -> NetworkName | None:
        return room.network if (room := self.scarcest) else None

    @property
    def free(self) -> int:
        return room.free if (room := self.scarcest) else 0

    @property
    def free_in_blocks(self) -> int:
        return room.free_in_blocks if (room := self.scarcest) else 0


class Evaluating:
    """Evaluates nodes one by one, between which others may change the ledger."""

    def __init__(
        self,
        tenant: Tenant,
        segment: Segment,
        specs: Sequence[AddressSpec],
        agents: Agents = NOT_KNOWN,
    ) -> None:
        """`specs`: what one endpoint wants, any addresses."""
        self._tenant = tenant
        self._segment = segment
        self._specs = specs
        self._agents = agents
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
            raise node_not_found(name, "nodes")
        agent = self._agents.presence(name)
        if node.cordoned:
            closed = cordoned(ledger, node, self._tenant, self._specs[0])
            return Evaluation(name, refusals=closed, agent=agent)
        owner = Owner(name, self._tenant, self._segment)
        rooms: list[AddressRoom] = []
        refusals: list[Refused] = []
        taken: dict[int, int] = {}
        for spec in self._specs:
            room, refused = self._room(ledger, node, owner, spec, now, taken)
            if room is None:
                refused += unusable(ledger, node, owner.tenant, spec)
                return Evaluation(name, rooms, refusals=refused, agent=agent)
            rooms.append(room)
            refusals += [each for each in refused if each not in refusals]
        return Evaluation(name, rooms, fits=True, refusals=refusals, agent=agent)

    def _room(
        self,
        ledger: Ledger,
        node: Node,
        owner: Owner,
        spec: AddressSpec,
        now: int,
        taken: dict[int, int],
    ) -> tuple[AddressRoom | None, list[Refused]]:
        """Where an address comes from, and why networks before that have none.

        `taken`: how many addresses those before take, by the area's id; this one is added.
        """
        refusals: list[Refused] = []
        for area in ledger.areas_for(node, owner.tenant, spec.network, spec.bits):
            before = taken.get(id(area), 0)
            holding = area.holdings.get(owner)
            held = sum(available(block, area, now) for block in holding.blocks) if holding else 0
            free = held + self._unheld(area) - before
            if free > 0:
                taken[id(area)] = before + 1
                in_blocks = max(held - before, 0)
                return AddressRoom(area.network.name, area.path, free, in_blocks), refusals
            refusals.append(refuse(area, owner, now))
        return None, refusals

    def _unheld(self, area: Area) -> int:
        free = self._free.get(id(area))
        if free is None:
            free = self._free[id(area)] = area.free()
            self._areas.append(area)
        return free


def best_first(found: list[Evaluation]) -> None:
    """Sorts: first nodes that fit and whose agent may be there; of them those with room in blocks
    that the owner holds, then those with most free addresses."""
    found.sort(key=_rank)


def _rank(item: Evaluation) -> tuple[bool, bool, bool, int, NodeName]:
    in_blocks = item.fits and all(each.free_in_blocks for each in item.rooms)
    away = item.agent is Presence.ABSENT
    return not item.fits, away, not in_blocks, -item.free, item.node


def available(block: Block, area: Area, now: int) -> int:
    """How many addresses of a block can be handed out at `now`."""
    rested = sum(
        item.time + area.delay <= now and not block.reserved >> item.offset & 1
        for item in block.rest or ()
    )
    return block.free.bit_count() + rested
