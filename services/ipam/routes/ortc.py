"""The fewest prefixes that lead every block's addresses to the block's node.

This is ORTC (Draves, King, Venkatachary, Zill: "Constructing optimal IP routing tables", INFOCOM
1999) with two additions: free space may go anywhere, and some addresses must not be covered at all.
From the leaves up, each prefix gets the set of nodes that a route for it could lead to at no extra
cost: what both halves have in common, else what either has. From the root down, a route is needed
where what is inherited from above is not in that set.

- Free space has all nodes in its set, and so never appears: the trie has vertices at blocks and
  branches only, and a route sits at the top of the edge above its vertex. It covers the free space
  beside the blocks, and stays as it is while a node grows into it.
- A prefix that has a forbidden address in it is *barred*: it has no route, its halves are solved
  apart. A block that is forbidden and in use *despite* that has a route of its own, no wider.
- Where the halves have nothing in common, a route for the whole and one for a half cost the same
  as one for each half. We take the former: a node that starts in the free space of another then
  adds one route, where it would add two and remove one. This moves a third as many routes.

**Determinism against stability.** The table depends on the current blocks alone, so that replicas
and a restarted service agree. Of several nodes that cost the same, the one of the lowest address in
the subtree is chosen, a rule that only looks below: a change can only alter routes in or beside
the prefixes whose sets it changes, and blocks come and go at the left end least often.
`tests.bench.aggregate` measures how many move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.ipam.routes.trie import Prefix, Trie, Vertex

_SILENT = -1
"""Instead of a length: below a forbidden prefix, where no route is."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a flush changed. To go from before to after: set what is set, then remove the rest."""

    updated: Mapping[Prefix, str]
    """New routes, and those that lead to another node than before."""
    removed: frozenset[Prefix]

    def __bool__(self) -> bool:
        return bool(self.updated or self.removed)


class RouteTable:
    """The routes of one network, or of one prefix group's part of it.

    Blocks do not overlap. Mutations are cheap and change nothing visible; `flush` computes the
    routes anew where something changed, at the cost of the paths from there to the root and of the
    routes that really change.
    """

    def __init__(self, cidr_base: int, cidr_length: int, bits: int) -> None:
        self._bits = bits
        self._trie = Trie(cidr_base, cidr_length, bits, self._forget)
        self._nodes = _Numbers()
        self._routes: dict[Prefix, str] = {}
        self._by_node: dict[str, set[Prefix]] = {}
        self._gone: set[Prefix] = set()
        self._fresh: dict[Prefix, str] = {}

    @property
    def routes(self) -> Mapping[Prefix, str]:
        """The routes as of the last flush; a live view."""
        return MappingProxyType(self._routes)

    def prefixes_of(self, node: str) -> frozenset[Prefix]:
        """The prefixes that led to a node at the last flush."""
        return frozenset(self._by_node.get(node, ()))

    def counts(self) -> Iterator[tuple[str, int]]:
        """Nodes to which prefixes led at the last flush, and how many."""
        return ((node, len(prefixes)) for node, prefixes in self._by_node.items())

    def set(self, base: int, length: int, node: str, *, despite: bool = False) -> None:
        """Adds a block, or gives a known one to another node.

        `despite`: all of it is forbidden, and leads to the node all the same. Raises ValueError if
        it is not in the network, has host bits or overlaps another block.
        """
        vertex = self._trie.ensure(base, length)
        if vertex.holder == node and vertex.despite == despite:
            return
        if vertex.holder is None:
            if self._overlaps(vertex):
                self._trie.prune(vertex)
                raise ValueError(f"{base:#x}/{length} overlaps another block")
        else:
            self._nodes.drop(vertex.holder)
        vertex.holder, vertex.despite = node, despite
        self._nodes.add(node)

    def clear(self, base: int, length: int) -> None:
        """Removes a block; does nothing if there is none of exactly this prefix."""
        vertex = self._trie.find(base, length)
        if vertex is not None and vertex.holder is not None:
            self._nodes.drop(vertex.holder)
            vertex.holder, vertex.despite = None, False
            self._lighten(vertex)

    def forbid(self, base: int, length: int) -> None:
        """No route covers these addresses until `allow` was called as often as `forbid`.

        They may be part of a block, whose other addresses keep their routes, or contain blocks.
        """
        self._trie.ensure(base, length).forbidden += 1

    def allow(self, base: int, length: int) -> None:
        """Undoes one `forbid` of exactly this prefix; ValueError if there was none."""
        vertex = self._trie.find(base, length)
        if vertex is None or not vertex.forbidden:
            raise ValueError(f"{base:#x}/{length} was not forbidden")
        vertex.forbidden -= 1
        self._lighten(vertex)

    def flush(self) -> Changes:
        """Brings the routes up to date and returns what changed since the last flush."""
        root = self._trie.root
        if not root.dirty:
            return Changes({}, frozenset())
        self._refresh(root)
        self._walk(root, root.length, 0)
        gone, fresh = self._gone, self._fresh
        self._gone, self._fresh = set(), {}
        updated = {at: node for at, node in fresh.items() if self._routes.get(at) != node}
        removed = frozenset(gone - fresh.keys())
        for at in removed:
            self._unlink(at, self._routes.pop(at))
        for at, node in updated.items():
            if at in self._routes:
                self._unlink(at, self._routes[at])
            self._routes[at] = node
            self._by_node.setdefault(node, set()).add(at)
        return Changes(updated, removed)

    def _unlink(self, at: Prefix, node: str) -> None:
        prefixes = self._by_node[node]
        prefixes.remove(at)
        if not prefixes:
            del self._by_node[node]

    def _lighten(self, vertex: Vertex) -> None:
        self._trie.touch(vertex)
        self._trie.prune(vertex)

    def _forget(self, vertex: Vertex) -> None:
        self._gone.update(vertex.emitted)

    @staticmethod
    def _overlaps(vertex: Vertex) -> bool:
        above = vertex.parent
        while above is not None:
            if above.holder is not None:
                return True
            above = above.parent
        return any(below.holder is not None for below in vertex.below())

    def _refresh(self, vertex: Vertex) -> None:
        """From the leaves up: what is barred, and the set of nodes (as bits) of what is not."""
        vertex.seen = None
        vertex.dirty = False
        vertex.barred = vertex.forbidden > 0
        common = either = 0
        for kid in vertex.kids:
            if kid is None:
                continue
            if kid.dirty:
                self._refresh(kid)
            if kid.barred:
                vertex.barred = True
            common = either & kid.mask
            either |= kid.mask
        if vertex.holder is not None:
            vertex.mask = self._nodes.bit(vertex.holder)
        else:
            vertex.mask = common or either

    def _walk(self, vertex: Vertex, top: int, inherited: int) -> None:
        """From the root down: `top` is the length of the widest prefix a route may have here."""
        if not inherited & vertex.mask:
            inherited = 0  # none of what is below can use it: it makes no difference which it is
        if vertex.forbidden:
            top = _SILENT
        if vertex.seen == (top, inherited):
            return
        vertex.seen = (top, inherited)
        self._gone.update(vertex.emitted)
        vertex.emitted = ()
        below, inherited = self._place(vertex, top, inherited)
        for kid in vertex.kids:
            if kid is not None:
                self._walk(kid, below, inherited)

    def _place(self, vertex: Vertex, top: int, inherited: int) -> tuple[int, int]:
        """Places the routes of one vertex; returns what the walk takes along to its kids."""
        if vertex.holder is not None and vertex.despite and (top == _SILENT or vertex.barred):
            self._emit(vertex, vertex.base, vertex.length, vertex.holder)
            return _SILENT, 0
        if top == _SILENT:
            return _SILENT, 0
        if vertex.barred:
            if vertex.holder is not None:
                for part in self._allowed_parts(vertex):
                    self._emit(vertex, *part, vertex.holder)
            return vertex.length + 1, 0
        left, right = vertex.kids
        if vertex.mask and not inherited:
            node = self._first(vertex)
            self._emit(vertex, vertex.base, top, node)
            inherited = self._nodes.bit(node)
        # With one kid it is the root or confines, and the kid's edge goes on to its top.
        return (vertex.length + 1 if left and right else top), inherited

    def _emit(self, vertex: Vertex, base: int, length: int, node: str) -> None:
        shift = self._bits - length
        at = (base >> shift << shift, length)
        vertex.emitted += (at,)
        self._fresh[at] = node

    def _first(self, vertex: Vertex) -> str:
        """Of the nodes in a vertex's set, the one of the lowest address."""
        wanted = vertex.mask
        while vertex.holder is None:
            left, right = vertex.kids
            kid = left if left and left.mask & wanted else right
            assert kid is not None
            vertex, wanted = kid, wanted & kid.mask
        return vertex.holder

    def _allowed_parts(self, block: Vertex) -> Iterator[Prefix]:
        """The fewest prefixes of a block without its forbidden addresses."""
        stack: list[tuple[int, int, Vertex | None]] = [(block.base, block.length, block)]
        while stack:
            base, length, vertex = stack.pop()
            if vertex is None or (vertex.length == length and vertex.kids == [None, None]):
                if vertex is None or not vertex.forbidden:
                    yield base, length
                continue
            if vertex.length == length and vertex.forbidden:
                continue
            kids = vertex.kids
            if vertex.length > length:
                kids = [None, None]
                kids[self._trie.side(vertex.base, length)] = vertex
            half = 1 << self._bits - length - 1
            stack += [(base, length + 1, kids[0]), (base + half, length + 1, kids[1])]


class _Numbers:
    """Gives each node with blocks a bit, so that a set of nodes is an int."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._blocks: dict[str, int] = {}
        self._spare: list[int] = []

    def bit(self, node: str) -> int:
        return self._bits[node]

    def add(self, node: str) -> None:
        if node not in self._bits:
            self._bits[node] = self._spare.pop() if self._spare else 1 << len(self._bits)
            self._blocks[node] = 0
        self._blocks[node] += 1

    def drop(self, node: str) -> None:
        self._blocks[node] -= 1
        if not self._blocks[node]:
            # Safe to use again before a flush: whatever had this bit in its set has changed.
            self._spare.append(self._bits.pop(node))
            del self._blocks[node]
