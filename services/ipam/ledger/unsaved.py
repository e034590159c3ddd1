"""What decisions changed in the ledger, and so what the next transaction writes and demands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.model.names import NodeName
from services.common.records.blocks import BlockPage
from services.ipam.ledger.areas import Area
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.index import Place


@dataclass(frozen=True, slots=True)
class NodeRelease:
    """What is in use on a node that is gone will be released."""

    noticed: int
    """Unix time in seconds."""
    due: int
    """The same: not before."""
    asked: bool
    """Somebody removed the node by force."""


@dataclass(frozen=True, slots=True)
class PageChange:
    """A page that decisions changed, as it is to be stored."""

    place: Place
    bits: int
    page: int
    record: BlockPage | None
    """None: it is gone."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What a transaction writes, and under which conditions."""

    pages: Sequence[PageChange]
    reservations: Mapping[str, Reservation | None]
    """None: it is gone."""
    releases: Mapping[NodeName, NodeRelease | None]
    """The same."""
    areas: Sequence[Area]
    """Where blocks came into use; see claims in `services.common.etcd.keys`."""
    nodes: Sequence[NodeName]
    """Whose blocks came into use, or where something visits."""
    absent: Sequence[NodeName]
    """Nodes that must not be there."""
    forgotten: Sequence[NodeName]
    """Of these, those on which nothing will come into use by these names."""
    takes: bool
    """Addresses come into use."""


class Unsaved:
    """Collects what decisions change.

    Pages of what was undone stay among them: they are written as they are then.
    """

    def __init__(self) -> None:
        self.pages: dict[Place, tuple[int, set[int]]] = {}
        """The family's number of bits, and which pages, by block."""
        self.reservations: dict[str, Reservation | None] = {}
        self.releases: dict[NodeName, NodeRelease | None] = {}
        self.absent: set[NodeName] = set()
        self.forgotten: set[NodeName] = set()
        self.takes = False
        self._areas: dict[int, Area] = {}
        self._nodes: dict[NodeName, None] = {}
        self._last: Block | None = None
        self._last_page = 0
        """What was touched last: often the same again."""
        self._count = 0

    @property
    def operations(self) -> int:
        """How many keys are to be written."""
        records = len(self.reservations) + len(self.releases) + len(self.forgotten)
        return self._count + len(self._areas) + len(self._nodes) + records

    @property
    def areas(self) -> Sequence[Area]:
        return tuple(self._areas.values())

    @property
    def nodes(self) -> Sequence[NodeName]:
        return tuple(self._nodes)

    def touch(self, block: Block, page: int) -> None:
        """Says that a page of a block changed."""
        if block is self._last and page == self._last_page:
            return
        self._last, self._last_page = block, page
        touched = self.pages.get(block.place)
        if touched is None:
            self.pages[block.place] = (block.bits, {page})
            self._count += 1
        elif page not in touched[1]:
            touched[1].add(page)
            self._count += 1

    def claim(self, block: Block, area: Area) -> None:
        """Says that a block of an area came into use."""
        self._areas[id(area)] = area
        self._nodes[block.node] = None

    def claim_node(self, node: NodeName) -> None:
        """Says that something of another node's block is on this one, or about to be."""
        self._nodes[node] = None

    def forget_node(self, node: NodeName) -> None:
        """Says that a node is gone, and that its claim means nothing any more."""
        self.absent.add(node)
        self.forgotten.add(node)

    def clear(self) -> None:
        self.pages.clear()
        self.reservations.clear()
        self.releases.clear()
        self.absent.clear()
        self.forgotten.clear()
        self.takes = False
        self._areas.clear()
        self._nodes.clear()
        self._last = None
        self._count = 0
