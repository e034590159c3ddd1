"""Gives sibling groups their slots: integers only, no prefixes.

A level is divided into a power of two of equal slots. A group takes an aligned run of them. Groups
keep the slots they have; when slots run out, all are divided in two, so that every group keeps the
start of its prefix, and only when there is no room for that do groups move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.topology.model.spec import power_of_two


@dataclass(frozen=True, slots=True)
class Extent:
    """A part of the parent's prefix that is taken otherwise, in addresses from its start."""

    first: int
    last: int
    bits: int
    """Host bits of the parent's prefix."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one group asks for."""

    width: int = 1
    """Slots, a power of two."""
    slot: int | None = None
    """Where it wants to be."""
    held: int | None = None
    """Where it is."""
    held_width: int = 1
    avoid: tuple[Extent, ...] = ()


@dataclass(frozen=True, slots=True)
class Places:
    """The first slot of each group, in order."""

    slots: int
    first: tuple[int, ...]


def assign(shares: Sequence[Share], *, asked: int, held: int, limit: int) -> Places | None:
    """Places all shares, or none: then there is no room.

    `asked` is the number of slots asked for (0: not said), `held` the number there is (0: none),
    `limit` the most there can be. What they ask for is possible in itself, see `clashes`.
    """
    ends = [share.slot + share.width for share in shares if share.slot is not None]
    least = power_of_two(max([sum(share.width for share in shares), *ends]))
    persists = held > 0 and any(share.held is not None for share in shares)
    for keep in (True, False) if persists else (False,):
        count = asked or (max(least, held) if keep else least)
        while count <= limit:
            first = _place(shares, count, held if keep else 0)
            if first is not None:
                return Places(count, tuple(first))
            if asked:
                break
            count *= 2
    return None


def clashes(shares: Sequence[Share], asked: int) -> list[tuple[int, str]]:
    """What is impossible about the slots that are asked for: the share's number, and why."""
    found: list[tuple[int, str]] = []
    taken: dict[int, int] = {}
    for number, share in enumerate(shares):
        if share.slot is None:
            continue
        run = range(share.slot, share.slot + share.width)
        if asked and run.stop > asked:
            found.append((number, f"slot {share.slot} is not among the {asked} slots there are"))
        elif share.slot % share.width:
            found.append(
                (number, f"slot {share.slot} is not a multiple of the {share.width} slots it takes")
            )
        elif any(slot in taken for slot in run):
            found.append((number, f"slot {share.slot} is taken by another group"))
        else:
            taken.update(dict.fromkeys(run, number))
    return found


def _place(shares: Sequence[Share], count: int, held: int) -> list[int] | None:
    """Explicit slots first, then what is there already, then the rest in order."""
    board = _Board(shares, count)
    for number, share in enumerate(shares):
        if share.slot is not None and not board.take(number, share.slot):
            return None
    # A group that was resized must not push aside one that was not.
    for number in sorted(board.waiting(), key=lambda n: shares[n].held_width != shares[n].width):
        slot = shares[number].held
        if held and slot is not None and slot * count % held == 0:
            board.take(number, slot * count // held)
    for number in board.waiting():
        found = _first_free(board.taken, board.blocked(shares[number]), shares[number].width)
        if found is None:
            return None
        board.take(number, found)
    return board.first


class _Board:
    """A level with `count` slots while it fills."""

    def __init__(self, shares: Sequence[Share], count: int) -> None:
        self.taken = bytearray(count)
        self.first = [-1] * len(shares)
        self._shares = shares
        self._blocked: dict[int, bytearray] = {}

    def waiting(self) -> list[int]:
        return [number for number, slot in enumerate(self.first) if slot < 0]

    def take(self, number: int, slot: int) -> bool:
        """Gives the share that place, if it is free."""
        share = self._shares[number]
        end = slot + share.width
        if slot % share.width or end > len(self.taken):
            return False
        if any(self.taken[slot:end]) or any(self.blocked(share)[slot:end]):
            return False
        self.taken[slot:end] = b"\x01" * share.width
        self.first[number] = slot
        return True

    def blocked(self, share: Share) -> bytearray:
        """Which slots it must avoid; shares with the same extents have the very same tuple."""
        key = id(share.avoid)
        if key not in self._blocked:
            count = len(self.taken)
            slots = self._blocked[key] = bytearray(count)
            for extent in share.avoid:
                shift = extent.bits - (count.bit_length() - 1)
                first, last = (
                    (extent.first >> shift, extent.last >> shift) if shift >= 0 else (0, count - 1)
                )
                slots[first : last + 1] = b"\x01" * (last - first + 1)
        return self._blocked[key]


def _first_free(taken: bytearray, blocked: bytearray, width: int) -> int | None:
    """The lowest aligned run of zeros in both; `find` skips over what is taken."""
    slot = 0
    while slot + width <= len(taken):
        for used in (taken, blocked):
            busy = used.rfind(1, slot, slot + width)
            if busy >= 0:
                free = used.find(0, busy)
                if free < 0:
                    return None
                slot = -(-free // width) * width
                break
        else:
            return slot
    return None
