"""Commands that share one transaction, and those among them for which nothing has to be looked for.

Most of a decision is finding the block. Once a plain command of an owner got an address of a block,
the next plain command of that owner gets the next free address of it, as long as nothing but plain
commands came between: no other block can have got room, nothing was reserved, and no time passes
while a transaction is decided. Such a command costs a tenth of one that has to look.

A plain command that was refused is refused for the next one of its owner too, as long as nothing
but such commands came between. Finding out why nothing has room takes longer than all else.

Every address is entered as `execute` would have entered it; the property tests compare the two.
Only what undoes it is one step for all addresses that an owner got in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from services.common.errors import RomanaError
from services.ipam.deciding.commands import Allocate, Allocated, Command, Result, Terms
from services.ipam.deciding.execute import execute, is_alone, keys_most
from services.ipam.ledger.areas import Area
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import OFFSET_BITS
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.pages import page_of
from services.ipam.model import ANY, AllocatedAddress, NoAddress, Owner

COMMANDS_MOST: Final = 2000
"""How many commands are decided at once, so that the event loop is not kept from all else."""


def by_owner(commands: Sequence[Allocate]) -> Sequence[int] | None:
    """The order in which to decide commands so that those of an owner follow each other.

    None: as they are. That is so too if a name occurs twice, since then the first is to get it.
    """
    found: dict[Owner, list[int]] = {}
    for index, command in enumerate(commands):
        indexes = found.get(command.owner)
        if indexes is None:
            found[command.owner] = [index]
        else:
            indexes.append(index)
    if len(found) in {1, len(commands)}:
        return None
    if len({command.name for command in commands}) < len(commands):
        return None
    return [index for indexes in found.values() for index in indexes]


class _Run:
    """The block that an owner's last plain command got an address of."""

    __slots__ = ("area", "block", "code", "offsets", "page")

    def __init__(self, block: Block, area: Area, page: int, offsets: list[int]) -> None:
        self.block = block
        self.area = area
        self.page = page
        """Its own key in the transaction; an offset of another page ends the run."""
        self.offsets = offsets
        """Taken so far; they are undone together."""
        self.code = block.sequence << OFFSET_BITS


class Batch:
    def __init__(
        self,
        ledger: Ledger,
        terms: Terms,
        on_defect: Callable[[Command, Exception], RomanaError],
    ) -> None:
        """`on_defect` makes the result of a command that failed by a defect of ours."""
        self._ledger = ledger
        self._index = ledger.index
        self._terms = terms
        self._on_defect = on_defect
        self._count = 0
        self._full = False
        self._runs: dict[Owner, _Run] = {}
        self._refused: tuple[Owner, NoAddress] | None = None
        """The owner whose plain command was refused last."""

    def execute(self, commands: Sequence[Command], results: list[Result]) -> bool:
        """Executes the commands that have no result yet, as far as they fit; says if all did.

        The first command of a transaction always fits.
        """
        position, end = len(results), len(commands)
        while position < end:
            most = min(end, position + COMMANDS_MOST - self._count)
            stop = self._execute_plain(commands, position, most, results)
            self._count += stop - position
            position = stop
            if position == end:
                break
            command = commands[position]
            if not self._fits(command):
                return False
            results.append(self._execute_one(command))
            self._count += 1
            position += 1
        return True

    def _fits(self, command: Command) -> bool:
        if self._full:
            return False
        if is_alone(command):
            self._full = not self._count
            return self._full
        operations = self._ledger.unsaved.operations
        return not self._count or (
            self._count < COMMANDS_MOST and operations + keys_most(command) <= self._terms.keys_most
        )

    def _execute_one(self, command: Command) -> Result:
        try:
            result = execute(self._ledger, command, self._terms)
        except Exception as error:  # noqa: BLE001 - it is nobody else's
            result = self._on_defect(command, error)
        self._note(command, result)
        return result

    def _execute_plain(
        self, commands: Sequence[Command], first: int, end: int, results: list[Result]
    ) -> int:
        """Executes commands from `first` on, before `end`; returns that of the first that is left.

        What is executed here writes no page that was not written before.
        """
        codes, runs, stamp = self._index.codes, self._runs, self._terms.stamp
        at, allocated = first, 0
        while at < end:
            command = commands[at]
            if (
                type(command) is not Allocate
                or command.addresses is not ANY
                or command.bounds is not None
            ):
                break
            name, owner = command.name, command.owner
            if name in codes:
                break
            run = runs.get(owner)
            if run is None:
                if self._refused is None or self._refused[0] != owner:
                    break
                results.append(self._refused[1])
                at += 1
                continue
            block = run.block
            free = block.free
            offset = (free & -free).bit_length() - 1
            if offset < 0 or page_of(offset) != run.page:
                del runs[owner]
                break
            block.free = free & (free - 1)
            block.names[offset] = name
            block.times[offset] = stamp
            block.used += 1
            run.area.used += 1
            run.offsets.append(offset)
            codes[name] = run.code | offset
            address = AllocatedAddress(
                block.base + offset, block.bits, block.network, block.base, block.length, stamp
            )
            results.append(Allocated([address]))
            at += 1
            allocated += 1
        self._index.used += allocated
        return at

    def _note(self, command: Command, result: Result) -> None:
        """Says what was executed otherwise: a run begins, or all end."""
        self._refused = None
        is_plain = type(command) is Allocate and command.addresses is ANY and command.bounds is None
        if type(result) is not Allocated:
            self._runs.clear()
            if type(result) is NoAddress and type(command) is Allocate and is_plain:
                self._refused = command.owner, result
        elif not result.existed:
            if type(command) is not Allocate or not is_plain:
                self._runs.clear()
                return
            address = result.addresses[0]
            block = self._index.blocks[address.network, address.block_base]
            if block.free and block.area is not None:
                offsets = self._ledger.use_more(block)
                page = page_of(address.address - address.block_base)
                self._runs[command.owner] = _Run(block, block.area, page, offsets)
