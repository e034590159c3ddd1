"""What is in use, by block: as much of ipam's data as topology needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.common.model.names import NetworkName, NodeName


@dataclass(frozen=True, slots=True)
class BlockUse:
    """A block with addresses in use."""

    network: NetworkName
    base: int
    """Its first address."""
    length: int
    """Its prefix length."""
    node: NodeName
    used: int


@dataclass(frozen=True, slots=True)
class PageUse:
    """What one page of a block says."""

    length: int
    node: NodeName
    used: int


class Usage:
    """Sums up pages into blocks and nodes; one update costs the same however many there are."""

    def __init__(self) -> None:
        self._pages: dict[tuple[NetworkName, int], dict[int, PageUse]] = {}
        self._nodes: dict[NodeName, int] = {}

    def put(self, network: NetworkName, base: int, page: int, use: PageUse | None) -> None:
        """Replaces what a page says; None or nothing in use: it says nothing any more."""
        key = (network, base)
        before = self._pages.get(key, {}).pop(page, None)
        if before is not None:
            self._count(before.node, -before.used)
            if not self._pages[key]:
                del self._pages[key]
        if use is not None and use.used:
            self._pages.setdefault(key, {})[page] = use
            self._count(use.node, use.used)

    def clear(self) -> None:
        """Forgets everything."""
        self._pages.clear()
        self._nodes.clear()

    def blocks(self) -> Iterator[BlockUse]:
        """Every block with addresses in use."""
        for (network, base), pages in self._pages.items():
            first = next(iter(pages.values()))
            yield BlockUse(
                network, base, first.length, first.node, sum(page.used for page in pages.values())
            )

    def of_node(self, node: NodeName) -> int:
        """Addresses in use on the node."""
        return self._nodes.get(node, 0)

    def _count(self, node: NodeName, number: int) -> None:
        total = self._nodes.get(node, 0) + number
        if total:
            self._nodes[node] = total
        else:
            self._nodes.pop(node, None)
