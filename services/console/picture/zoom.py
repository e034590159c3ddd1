"""A part of a network as it is drawn: the level of detail is decided here, not in the browser.

A view has at most `CELLS` cells of equal size, the groups as rows of a tree, each row with at most
`ROW_GROUPS` of them, and, when it is small enough, every address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.console.picture.blocks import Block, NetworkBlocks, Usage
from services.console.picture.ranges import Range, address_text, prefix_text, range_of

CELL_BITS: Final = 8
"""A view is divided into 256 cells, so that a click goes eight bits deeper."""
ADDRESSES_MOST: Final = 256
"""Up to which every address is shown."""
ROW_GROUPS: Final = 64
"""In a row; more of them are drawn as runs."""
BLOCKS_MOST: Final = 64
"""Of which a view names nodes and owners."""


@dataclass(frozen=True, slots=True)
class Group:
    """A prefix group on one network."""

    path: str
    prefix: str
    where: Range
    depth: int
    nodes: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """An equal share of the view."""

    prefix: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Area:
    """A group, or a run of neighbours that are too narrow to be told apart."""

    name: str
    path: str
    prefix: str
    """Empty: a run."""
    depth: int
    groups: int
    nodes: int
    begin: float
    """Where it is in the view, from 0 to 1."""
    end: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class AddressView:
    """One address."""

    address: str
    state: str
    """used, reserved, held (in somebody's block, not in use), stranded or free."""
    name: str = ""
    node: str = ""
    tenant: str = ""
    segment: str = ""
    since: str = ""
    block: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """An allocation."""

    name: str
    node: str
    tenant: str
    segment: str
    since: str


@dataclass(frozen=True, slots=True)
class View:
    """What is drawn of a prefix."""

    network: str
    prefix: str
    up: str
    """Of the prefix that contains it, eight bits up; empty at the top."""
    usage: Usage
    path: Sequence[str]
    """The groups that contain all of it, from the top."""
    cells: Sequence[Cell]
    areas: Sequence[Area]
    blocks: Sequence[Block]
    """Empty if there are more than are named."""
    block_count: int
    addresses: Sequence[AddressView]


def view(
    network: str,
    cidr: str,
    prefix: str,
    blocks: NetworkBlocks,
    groups: Sequence[Group],
    taken: Mapping[int, Taken],
) -> View:
    """Draws a prefix of a network.

    Args:
        network: Its name.
        cidr: All of it.
        prefix: The part, inside of it.
        blocks: Its blocks.
        groups: Its prefix groups, parents before children.
        taken: What is allocated in the part, if that is small.

    Raises:
        ValueError: No prefix, or one outside of the network.
    """
    whole, where = range_of(cidr), range_of(prefix)
    if not whole.contains(where):
        raise ValueError(f"{prefix} is not in {cidr}")
    length, version = int(prefix.partition("/")[2] or _bits(prefix)), _version(cidr)
    top = int(cidr.partition("/")[2])
    inside = blocks.within(where)
    small = where.size <= ADDRESSES_MOST
    up = max(top, length - CELL_BITS)
    return View(
        network=network,
        prefix=prefix_text(where.first, length, version),
        up="" if length == top else prefix_text(_aligned(where.first, up, version), up, version),
        usage=blocks.usage(where),
        path=[group.path for group in groups if group.where.contains(where)],
        cells=[] if small else _cells(blocks, where, length, version),
        areas=_areas(blocks, groups, where),
        blocks=inside if len(inside) <= BLOCKS_MOST else (),
        block_count=len(inside),
        addresses=_addresses(blocks, inside, where, version, taken) if small else (),
    )


def is_small(prefix: str) -> bool:
    """Says whether every address of a prefix is shown; ValueError if it is none."""
    return range_of(prefix).size <= ADDRESSES_MOST


def _cells(blocks: NetworkBlocks, where: Range, length: int, version: int) -> list[Cell]:
    bits = min(CELL_BITS, (32 if version == 4 else 128) - length)
    size = where.size >> bits
    made = []
    for first in range(where.first, where.last + 1, size):
        each = Range(first, first + size - 1)
        made.append(Cell(prefix_text(first, length + bits, version), blocks.usage(each)))
    return made


def _areas(blocks: NetworkBlocks, groups: Sequence[Group], where: Range) -> list[Area]:
    """Groups that are not wider than the view, row by row."""
    rows: dict[int, list[Group]] = {}
    for group in groups:
        if group.where.overlaps(where) and where.contains(group.where):
            rows.setdefault(group.depth, []).append(group)
    made: list[Area] = []
    for depth, row in sorted(rows.items()):
        row.sort(key=lambda group: group.where)
        narrow = where.size // (ROW_GROUPS * 4)
        run: list[Group] = []
        for group in row:
            if len(row) <= ROW_GROUPS or group.where.size > narrow:
                if run:
                    made.append(_run(blocks, run, where, depth))
                    run = []
                made.append(_area(blocks, group, where))
                continue
            if run and group.where.last - run[0].where.first > narrow * 4:
                made.append(_run(blocks, run, where, depth))
                run = []
            run.append(group)
        if run:
            made.append(_run(blocks, run, where, depth))
    return made


def _area(blocks: NetworkBlocks, group: Group, where: Range) -> Area:
    return Area(
        name=group.path.rpartition("/")[2],
        path=group.path,
        prefix=group.prefix,
        depth=group.depth,
        groups=1,
        nodes=group.nodes,
        begin=(group.where.first - where.first) / where.size,
        end=(group.where.last + 1 - where.first) / where.size,
        usage=blocks.usage(group.where),
    )


def _run(blocks: NetworkBlocks, run: Sequence[Group], where: Range, depth: int) -> Area:
    if len(run) == 1:
        return _area(blocks, run[0], where)
    usages = [blocks.usage(group.where) for group in run]
    return Area(
        name=f"{len(run)} groups",
        path=run[0].path,
        prefix="",
        depth=depth,
        groups=len(run),
        nodes=sum(group.nodes for group in run),
        begin=(run[0].where.first - where.first) / where.size,
        end=(run[-1].where.last + 1 - where.first) / where.size,
        usage=Usage(
            size=sum(each.size for each in usages),
            used=sum(each.used for each in usages),
            resting=sum(each.resting for each in usages),
            reserved=sum(each.reserved for each in usages),
            held=sum(each.held for each in usages),
            stranded=sum(each.stranded for each in usages),
        ),
    )


def _addresses(
    blocks: NetworkBlocks,
    inside: Sequence[Block],
    where: Range,
    version: int,
    taken: Mapping[int, Taken],
) -> list[AddressView]:
    made = []
    places = iter(inside)
    block = next(places, None)
    for number in range(where.first, where.last + 1):
        while block is not None and block.where.last < number:
            block = next(places, None)
        holder = block if block is not None and block.where.first <= number else None
        allocation = taken.get(number)
        text = address_text(number, version)
        if allocation is not None:
            made.append(
                AddressView(
                    text,
                    "stranded" if holder is not None and holder.stranded else "used",
                    allocation.name,
                    allocation.node,
                    allocation.tenant,
                    allocation.segment,
                    allocation.since,
                    holder.prefix if holder is not None else "",
                )
            )
            continue
        state = "held" if holder is not None else "free"
        if blocks.is_reserved(number):
            state = "reserved"
        made.append(
            AddressView(
                text,
                state,
                node=holder.node if holder is not None else "",
                tenant=holder.tenant if holder is not None else "",
                segment=holder.segment if holder is not None else "",
                block=holder.prefix if holder is not None else "",
            )
        )
    return made


def _version(cidr: str) -> int:
    return 6 if ":" in cidr else 4


def _bits(cidr: str) -> int:
    return 128 if ":" in cidr else 32


def _aligned(first: int, length: int, version: int) -> int:
    shift = (32 if version == 4 else 128) - length
    return first >> shift << shift
