"""Routes against longest-prefix match, a table built from scratch, and brute force."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ipam.routes.ortc import Changes, RouteTable
from services.ipam.routes.trie import Prefix

BITS = 6
NODES = ("a", "b", "c")
BASE, LENGTH = 0b010000, 2  # the network is 16 of the 64 addresses
SIZE = 1 << BITS - LENGTH

Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set"] * 6 + ["clear", "forbid", "allow", "flush", "keep", "keep"]),
        st.integers(0, SIZE - 1),
        st.integers(LENGTH, BITS),
        st.integers(0, len(NODES) - 1),
    ),
    max_size=40,
)


class Model:
    """The same state as plain sets."""

    def __init__(self) -> None:
        self.blocks: dict[Prefix, str] = {}
        self.forbidden: list[Prefix] = []
        self.kept: set[Prefix] = set()
        """Blocks that are forbidden, and in use despite that."""

    def owners(self) -> dict[int, str | None]:
        """For each address of the network its node; None if it is forbidden; absent if free."""
        found: dict[int, str | None] = {
            at: node for prefix, node in self.blocks.items() for at in addresses(prefix)
        }
        found.update((at, None) for prefix in self.forbidden for at in addresses(prefix))
        found.update((at, self.blocks[one]) for one in self.kept for at in addresses(one))
        return found

    def build(self) -> RouteTable:
        table = RouteTable(BASE, LENGTH, BITS)
        for prefix in sorted(self.forbidden, reverse=True):
            table.forbid(*prefix)
        for prefix, node in sorted(self.blocks.items(), reverse=True):
            table.set(*prefix, node, despite=prefix in self.kept)
        table.flush()
        return table


def addresses(prefix: Prefix) -> range:
    return range(prefix[0], prefix[0] + (1 << BITS - prefix[1]))


def overlap(one: Prefix, other: Prefix) -> bool:
    return bool(set(addresses(one)) & set(addresses(other)))


def play(table: RouteTable, model: Model, step: Step) -> None:
    what, offset, length, pick = step
    shift = BITS - length
    prefix = ((BASE + offset) >> shift << shift, length)
    match what:
        case "set":
            if all(prefix == other or not overlap(prefix, other) for other in model.blocks):
                table.set(*prefix, NODES[pick])
                model.blocks[prefix] = NODES[pick]
                model.kept.discard(prefix)
        case "keep" if model.blocks:
            known = sorted(model.blocks)[offset % len(model.blocks)]
            if _is_forbidden(model, known):
                table.set(*known, model.blocks[known], despite=True)
                model.kept.add(known)
        case "clear" if model.blocks:
            known = sorted(model.blocks)[offset % len(model.blocks)]
            table.clear(*known)
            del model.blocks[known]
            model.kept.discard(known)
        case "forbid":
            table.forbid(*prefix)
            model.forbidden.append(prefix)
        case "allow" if model.forbidden:
            table.allow(*model.forbidden.pop(offset % len(model.forbidden)))
            for known in [one for one in model.kept if not _is_forbidden(model, one)]:
                table.set(*known, model.blocks[known])
                model.kept.discard(known)


def _is_forbidden(model: Model, block: Prefix) -> bool:
    forbidden = {at for prefix in model.forbidden for at in addresses(prefix)}
    return forbidden.issuperset(addresses(block))


def longest_match(routes: Mapping[Prefix, str], address: int) -> str | None:
    """Where an address is sent, the slow and obvious way."""
    for length in range(BITS, -1, -1):
        shift = BITS - length
        node = routes.get((address >> shift << shift, length))
        if node is not None:
            return node
    return None


def apply(routes: dict[Prefix, str], changes: Changes) -> None:
    for prefix, node in changes.updated.items():
        assert routes.get(prefix) != node, "an update that changes nothing"
        routes[prefix] = node
    for prefix in changes.removed:
        del routes[prefix]


def check(table: RouteTable, model: Model) -> None:
    owners = model.owners()
    for at in range(1 << BITS):
        sent = longest_match(table.routes, at)
        if at not in addresses((BASE, LENGTH)):
            assert sent is None
        elif at in owners:
            assert sent == owners[at]
    for node in NODES:
        assert table.prefixes_of(node) == {at for at, to in table.routes.items() if to == node}


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_every_address_is_sent_to_its_node_and_forbidden_ones_nowhere(steps: list[Step]) -> None:
    table, model = RouteTable(BASE, LENGTH, BITS), Model()
    known: dict[Prefix, str] = {}
    for step in steps:
        play(table, model, step)
        if step[0] == "flush":
            apply(known, table.flush())
            check(table, model)
    apply(known, table.flush())
    check(table, model)
    assert known == table.routes
    assert not table.flush()


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_incremental_equals_from_scratch(steps: list[Step]) -> None:
    table, model = RouteTable(BASE, LENGTH, BITS), Model()
    for step in steps:
        play(table, model, step)
        if step[0] == "flush":
            table.flush()
    table.flush()
    assert table.routes == model.build().routes


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, more=STEPS)
def test_a_change_and_its_undo_give_the_same_routes(steps: list[Step], more: list[Step]) -> None:
    table, model = RouteTable(BASE, LENGTH, BITS), Model()
    for step in steps:
        play(table, model, step)
    table.flush()
    before = dict(table.routes)
    blocks, kept = dict(model.blocks), set(model.kept)
    for step in more:
        if step[0] in {"set", "clear", "flush"}:
            play(table, model, step)
            table.flush()
    for prefix in set(model.blocks) - set(blocks):
        table.clear(*prefix)
    for prefix, node in blocks.items():
        if model.blocks.get(prefix) != node or prefix in kept - model.kept:
            table.set(*prefix, node, despite=prefix in kept)
    table.flush()
    assert table.routes == before


@settings(max_examples=400, deadline=None)
@given(
    owners=st.lists(
        st.sampled_from(["a", "b", "c", "free", "free", "bad"]), min_size=16, max_size=16
    ),
)
def test_no_smaller_table_exists(owners: list[str]) -> None:
    table = RouteTable(0, 0, 4)
    for at, owner in enumerate(owners):
        if owner == "bad":
            table.forbid(at, 4)
        elif owner != "free":
            table.set(at, 4, owner)
    table.flush()
    assert len(table.routes) == fewest(tuple(owners))


def fewest(owners: tuple[str, ...]) -> int:
    """Tries a route to each node, and none, at every prefix, by what it inherits.

    That is all tables, since what is below a prefix sees what is above only as what it inherits.
    """
    bits = len(owners).bit_length() - 1

    @cache
    def cost(base: int, length: int, inherited: str) -> float:
        own = range(base, base + (1 << bits - length))
        allowed = all(owners[at] != "bad" for at in own)
        choices = [inherited]
        if allowed:
            choices += [node for node in NODES if node != inherited]
        return min((choice != inherited) + under(base, length, choice) for choice in choices)

    def under(base: int, length: int, node: str) -> float:
        if length < bits:
            half = 1 << bits - length - 1
            return cost(base, length + 1, node) + cost(base + half, length + 1, node)
        owner = owners[base]
        right = owner in ("free", node) or (owner == "bad" and not node)
        return 0 if right else float("inf")

    return int(cost(0, 0, ""))
