"""Groups that are made of owners' blocks, as sets of ranges in the table. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.intervals import Ranges, as_elements, bounds, union
from services.agent.kernel.nftables.table import Changes, Element, Elements, Shape
from services.common.model.network import Address, Prefix
from services.common.model.rules import GroupBlock, GroupId

SHAPES: Final[Mapping[int, Shape]] = {
    4: Shape(Element.ADDRESS_4, is_interval=True),
    6: Shape(Element.ADDRESS_6, is_interval=True),
}
LOOKED_AT: Final = 256
_LENGTHS: Final = {4: 4, 6: 16}

Blocks: TypeAlias = Mapping[tuple[GroupId, int], Ranges]
"""Ranges by group and version."""


def is_in_block(blocks: Blocks, group: GroupId, address: Address) -> bool:
    """Says whether an address is in a block of a group."""
    ranges = blocks.get((group, address.version), ())
    number = int(address)
    at = bisect_right(ranges, number, key=_first)
    return bool(at) and number <= ranges[at - 1][1]


@dataclass(frozen=True, slots=True)
class Moved:
    """A block that came or went, of a group that was in the table before."""

    group: GroupId
    block: Prefix

    @property
    def is_large(self) -> bool:
        """Says whether it has more addresses than are looked at one by one."""
        return self.block.num_addresses > LOOKED_AT

    def addresses(self) -> Iterator[Address]:
        """All of it, if it is not large."""
        if not self.is_large:
            yield from self.block


class BlockSets:
    """All groups of blocks that the node knows."""

    def __init__(self) -> None:
        self._blocks: dict[GroupId, dict[Prefix, tuple[int, int]]] = {}
        self._before: dict[GroupId, frozenset[Prefix]] = {}
        """What groups were that have changed since the last refresh."""
        self.in_force: Blocks = {}
        """Those in the table, as of the last refresh. Never changes: it is replaced."""

    def put(self, block: GroupBlock) -> None:
        """A group has a block."""
        self._note(block.group)
        self._blocks.setdefault(block.group, {})[block.cidr] = bounds(block.cidr)

    def drop(self, block: GroupBlock) -> None:
        """It has it not any more."""
        self._note(block.group)
        blocks = self._blocks[block.group]
        del blocks[block.cidr]
        if not blocks:
            del self._blocks[block.group]

    def _note(self, group: GroupId) -> None:
        if group not in self._before:
            self._before[group] = frozenset(self._blocks.get(group, ()))

    def elements(self) -> Iterator[tuple[str, Elements]]:
        """Of all sets in the table, as of the last refresh."""
        for (group, version), ranges in self.in_force.items():
            yield table_names.blocks(group, version), as_elements(ranges, _LENGTHS[version])

    def refresh(self, used: Iterable[GroupId], changes: Changes) -> list[Moved]:
        """Brings the sets of the groups that rules name up to date."""
        before, self._before = self._before, {}
        had, has = self.in_force, {}
        moved: list[Moved] = []
        for group in used:
            was_used = (group, 4) in had
            blocks = self._blocks.get(group, {})
            if was_used and group not in before:
                has.update({(group, version): had[group, version] for version in SHAPES})
                continue
            for version in SHAPES:
                ranges = union(span for block, span in blocks.items() if block.version == version)
                has[group, version] = ranges
                _replace(changes, group, version, had.get((group, version), []), ranges)
            if was_used:
                moved += [Moved(group, block) for block in before[group] ^ blocks.keys()]
        self.in_force = has
        return moved


def _replace(changes: Changes, group: GroupId, version: int, before: Ranges, after: Ranges) -> None:
    """Whole ranges only: the kernel takes no end without its beginning."""
    name, length = table_names.blocks(group, version), _LENGTHS[version]
    kept = {*before} & {*after}
    gone = as_elements([one for one in before if one not in kept], length)
    new = as_elements([one for one in after if one not in kept], length)
    if gone or new:
        changes.shapes[name] = SHAPES[version]
    if gone:
        changes.removed[name] = gone
    if new:
        changes.added[name] = new


def _first(span: tuple[int, int]) -> int:
    return span[0]
