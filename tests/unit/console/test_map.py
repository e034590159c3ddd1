"""The level of detail of the map, against counting one by one."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.picture.blocks import Block, NetworkBlocks
from services.console.picture.ranges import Range, Sums, merged, prefix_text, range_of, ranges_of
from services.console.picture.zoom import ROW_GROUPS, Group, Taken, is_small, view

CIDR = "10.0.0.0/16"
BASE = int(ipaddress.ip_address("10.0.0.0"))


def block(place: int, used: int = 0, *, stranded: bool = False) -> Block:
    """The /29 at a place in the network."""
    first = BASE + 8 * place
    where = Range(first, first + 7)
    return Block(prefix_text(first, 29, 4), where, "n1", "t", "", "g", used, 0, stranded)


def group(path: str, prefix: str, depth: int, nodes: int = 0) -> Group:
    return Group(path, prefix, range_of(prefix), depth, nodes, {})


@given(
    st.dictionaries(st.integers(0, 8191), st.integers(0, 8), max_size=40),
    st.integers(16, 29),
    st.integers(0, (1 << 16) - 1),
)
def test_a_part_has_what_its_blocks_have(used: dict[int, int], length: int, offset: int) -> None:
    blocks = NetworkBlocks()
    for place, number in used.items():
        blocks.put(block(place, number))
    size = 1 << (32 - length)
    first = BASE + offset // size * size
    usage = blocks.usage(Range(first, first + size - 1))
    inside = {place: n for place, n in used.items() if first <= BASE + 8 * place < first + size}
    assert usage.used == sum(inside.values())
    assert usage.held == 8 * len(inside)
    assert [each.where.first for each in blocks.within(Range(first, first + size - 1))] == [
        BASE + 8 * place for place in sorted(inside)
    ]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=20))
def test_merged_ranges_have_the_same_addresses(pairs: list[tuple[int, int]]) -> None:
    ranges = [Range(first, first + more) for first, more in pairs]
    made = merged(ranges)
    assert {n for each in made for n in range(each.first, each.last + 1)} == {
        n for each in ranges for n in range(each.first, each.last + 1)
    }
    assert all(one.last + 1 < two.first for one, two in itertools.pairwise(made))


def test_a_range_that_is_cut_counts_in_proportion() -> None:
    sums = Sums([Range(0, 99), Range(200, 299)], [50, 10])
    assert sums.over(Range(0, 49)) == 25
    assert sums.over(Range(50, 249)) == 30
    assert sums.over(Range(100, 199)) == 0
    assert sums.over(Range(10, 19)) == 5


def test_cells_and_blocks_of_a_network() -> None:
    blocks = NetworkBlocks()
    blocks.put(block(0, 3))
    blocks.put(block(32, 8, stranded=True))
    blocks.reserve([ranges_of("10.0.2.0-10.0.2.9")])
    made = view("net", CIDR, CIDR, blocks, [], {})
    assert len(made.cells) == 256
    assert [(cell.prefix, cell.usage.used) for cell in made.cells[:3]] == [
        ("10.0.0.0/24", 3),
        ("10.0.1.0/24", 8),
        ("10.0.2.0/24", 0),
    ]
    assert made.cells[1].usage.stranded == 8
    assert made.cells[2].usage.reserved == 10
    assert made.up == ""
    assert made.block_count == len(made.blocks) == 2
    assert not made.addresses


def test_a_small_part_shows_every_address_and_who_has_it() -> None:
    blocks = NetworkBlocks()
    blocks.put(block(1, 1))
    blocks.reserve([ranges_of("10.0.0.1")])
    taken = {BASE + 9: Taken("web", "n1", "t", "", "2026-01-01T00:00:00Z")}
    made = view("net", CIDR, "10.0.0.0/24", blocks, [group("t/a", "10.0.0.0/17", 0)], taken)
    states = {each.address: each.state for each in made.addresses}
    assert len(states) == 256
    assert states["10.0.0.1"] == "reserved"
    assert states["10.0.0.8"] == "held"
    assert states["10.0.0.9"] == "used"
    assert states["10.0.0.16"] == "free"
    assert made.addresses[9].name == "web"
    assert made.path == ["t/a"]
    assert made.up == CIDR


def test_thousands_of_groups_are_drawn_as_few_runs() -> None:
    groups = [
        group(f"t/g{number}", prefix_text(BASE + 16 * number, 28, 4), 0, 1)
        for number in range(4096)
    ]
    made = view("net", CIDR, CIDR, NetworkBlocks(), groups, {})
    assert len(made.areas) <= ROW_GROUPS * 4
    assert sum(area.groups for area in made.areas) == 4096
    assert sum(area.nodes for area in made.areas) == 4096
    assert all(not area.prefix for area in made.areas)
    closer = view("net", CIDR, "10.0.0.0/23", NetworkBlocks(), groups, {})
    assert [area.name for area in closer.areas] == [f"g{number}" for number in range(32)]


def test_ipv6_goes_as_deep() -> None:
    made = view("net", "fd00::/64", "fd00::/64", NetworkBlocks(), [], {})
    assert made.cells[1].prefix == "fd00::100:0:0:0/72"
    assert is_small("fd00::/120")
    assert view("net", "fd00::/64", "fd00::/120", NetworkBlocks(), [], {}).up == "fd00::/112"


@pytest.mark.parametrize("prefix", ["192.0.2.0/24", "10.0.0.0/8", "nonsense", "fd00::/64", ""])
def test_what_is_no_part_of_the_network_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        view("net", CIDR, prefix, NetworkBlocks(), [], {})


def test_a_block_that_is_not_told_of_again_is_gone() -> None:
    blocks = NetworkBlocks()
    assert blocks.put(block(0)) is None
    assert blocks.put(block(0, 2)) == block(0)
    blocks.put(block(5, 1))
    assert [each.used for each in blocks.keep_only({BASE})] == [1]
    assert blocks.usage(range_of(CIDR)).used == 2
    assert blocks.drop(range_of("10.0.0.0/29")) == block(0, 2)
    assert len(blocks) == 0
