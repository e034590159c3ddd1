"""How many nodes are in each leaf, and which leaf of a kind has the fewest.

The second is answered by a heap per kind that is only added to: an entry whose number is no longer
that of its leaf is dropped when it comes to the top. So a change costs the logarithm of the number
of leaves and nothing that grows with the number of nodes.
"""

from __future__ import annotations

import heapq

from services.common.model.names import GroupPath
from services.topology.layout.leaves import Kind, Leaf

_SPARE = 16
"""Entries, beside two per leaf, from which on a heap is made anew."""


class LeafCounts:
    """Numbers of nodes per leaf of one layout."""

    def __init__(self) -> None:
        self._numbers: dict[GroupPath, int] = {}
        self._heaps: dict[Kind, list[tuple[int, int]]] = {}
        """(number, Leaf.member); the kinds that were asked for."""

    def number(self, leaf: Leaf) -> int:
        return self._numbers.get(leaf.group.path, 0)

    def add(self, leaf: Leaf, number: int) -> None:
        """Counts so many more nodes in the leaf; fewer, if it is negative."""
        total = self.number(leaf) + number
        if total:
            self._numbers[leaf.group.path] = total
        else:
            self._numbers.pop(leaf.group.path, None)
        heap = self._heaps.get(leaf.kind)
        if heap is None:
            return
        if len(heap) >= 2 * len(leaf.kind.leaves) + _SPARE:
            del self._heaps[leaf.kind]
        else:
            heapq.heappush(heap, (total, leaf.member))

    def fewest(self, kind: Kind) -> Leaf:
        """The leaf with the fewest nodes, the first of them on a tie."""
        heap = self._heaps.get(kind)
        if heap is None:
            heap = [(self.number(leaf), leaf.member) for leaf in kind.leaves]
            heapq.heapify(heap)
            self._heaps[kind] = heap
        while True:
            number, member = heap[0]
            leaf = kind.leaves[member]
            if self.number(leaf) == number:
                return leaf
            heapq.heappop(heap)
