"""A path-compressed binary trie of prefixes, for `services.ipam.routes.ortc`.

There are vertices only at prefixes that carry something and where two of them branch: at most twice
as many as prefixes, however long an address is. The one idea: a vertex that carries nothing, other
than the root, has two kids. What a vertex carries and what is computed for it are plain fields;
their meaning is given in `services.ipam.routes.ortc`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

Prefix = tuple[int, int]
"""First address and prefix length."""


class Vertex:
    """A prefix that carries something, or where two such branch."""

    __slots__ = (
        "barred",
        "base",
        "despite",
        "dirty",
        "emitted",
        "forbidden",
        "holder",
        "kids",
        "length",
        "mask",
        "parent",
        "seen",
    )

    def __init__(self, base: int, length: int) -> None:
        self.base = base
        self.length = length
        self.parent: Vertex | None = None
        self.kids: list[Vertex | None] = [None, None]
        # What it carries.
        self.holder: str | None = None
        self.forbidden = 0
        self.despite = False
        # What is computed from it and from what is below.
        self.dirty = True
        self.barred = False
        self.mask = 0
        # What the last walk from above came with, and which routes it left here.
        self.seen: tuple[int, int] | None = None
        self.emitted: tuple[Prefix, ...] = ()

    @property
    def bare(self) -> bool:
        """Says whether it carries nothing."""
        return self.holder is None and not self.forbidden

    def below(self) -> Iterator[Vertex]:
        """The vertices below, itself excluded."""
        stack = [kid for kid in self.kids if kid is not None]
        while stack:
            vertex = stack.pop()
            yield vertex
            stack += [kid for kid in vertex.kids if kid is not None]


class Trie:
    """The vertices of one prefix; `removed` is told of each vertex that goes."""

    __slots__ = ("_bits", "_removed", "root")

    def __init__(
        self, base: int, length: int, bits: int, removed: Callable[[Vertex], None]
    ) -> None:
        if bits < length or length < 0 or base < 0 or base >> bits:
            raise ValueError(f"{base:#x}/{length} is not a prefix of {bits} bits")
        if base & ((1 << bits - length) - 1):
            raise ValueError(f"{base:#x}/{length} has host bits")
        self._bits = bits
        self._removed = removed
        self.root = Vertex(base, length)

    def find(self, base: int, length: int) -> Vertex | None:
        """The vertex of a prefix, if there is one."""
        vertex: Vertex | None = self.root
        while vertex is not None and vertex.length < length:
            vertex = vertex.kids[self.side(base, vertex.length)]
        return vertex if vertex and (vertex.base, vertex.length) == (base, length) else None

    def ensure(self, base: int, length: int) -> Vertex:
        """The vertex of a prefix, made if needed, and marked with all above as changed.

        The caller puts something on it, or calls `prune`. Raises ValueError for host bits and for a
        prefix that is not in the root's.
        """
        self._check(base, length)
        vertex = self.root
        while vertex.length < length:
            side = self.side(base, vertex.length)
            kid = vertex.kids[side]
            if kid is None:
                kid = self._hang(vertex, Vertex(base, length))
            else:
                common = min(self._bits - (kid.base ^ base).bit_length(), kid.length, length)
                if common < kid.length:
                    middle = Vertex(base >> self._bits - common << self._bits - common, common)
                    self._hang(vertex, middle)
                    self._hang(middle, kid)
                    kid = middle
            vertex = kid
        self.touch(vertex)
        return vertex

    def prune(self, vertex: Vertex) -> None:
        """Removes a vertex, and those above, that carry nothing and where nothing branches."""
        while vertex.parent is not None and vertex.bare:
            parent = vertex.parent
            kids = [kid for kid in vertex.kids if kid is not None]
            if len(kids) == 2:
                return
            self._removed(vertex)
            if kids:
                self._hang(parent, kids[0])
                return
            parent.kids[self.side(vertex.base, parent.length)] = None
            vertex = parent

    def touch(self, vertex: Vertex) -> None:
        """Marks a vertex and all above it as changed."""
        above: Vertex | None = vertex
        while above is not None:
            above.dirty = True
            above = above.parent

    def side(self, base: int, length: int) -> int:
        """Which kid of a vertex of this length an address is under."""
        return base >> (self._bits - 1 - length) & 1

    def _hang(self, parent: Vertex, kid: Vertex) -> Vertex:
        parent.kids[self.side(kid.base, parent.length)] = kid
        kid.parent = parent
        return kid

    def _check(self, base: int, length: int) -> None:
        root = self.root
        if not root.length <= length <= self._bits or (base ^ root.base) >> (
            self._bits - root.length
        ):
            raise ValueError(f"{base:#x}/{length} is not within {root.base:#x}/{root.length}")
        if base & ((1 << self._bits - length) - 1):
            raise ValueError(f"{base:#x}/{length} has host bits")
