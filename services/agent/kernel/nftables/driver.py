"""The driver of a table of ours: `inet romana`, or another.

Everything goes by one socket as packed messages, not by libnftables: that reads all elements of
every interval set of the namespace before it adds one (0.4 s when somebody else has 100,000), and a
table can belong to a socket, so that nobody else can change or flush it.

    owner, persist   Linux 6.9 and later: `nft flush ruleset` of another program leaves the table,
                     and so does our own end; the next agent takes it over
    neither          before that anybody may flush it; `nftables.watch` says so

A transaction of more than `PREPARED` bytes first fills sets that nothing refers to yet.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from services.agent.kernel.codec import attributes, messages, text
from services.agent.kernel.netlink import CAP_ACK, EXPLAIN, KernelUnavailable, Netlink, Problem
from services.agent.kernel.nftables import messages as nft
from services.agent.kernel.nftables.expressions import number
from services.agent.kernel.nftables.table import (
    RULES_TABLE,
    Changes,
    Element,
    Found,
    Shape,
    TableName,
)

PREPARED: Final = 4 * 1024 * 1024
"""Bytes in one message to the kernel, about; it needs the memory several times while it works."""
_SEND_BUFFER: Final = 256 * 1024 * 1024
_NO_TABLES: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""What a kernel without nf_tables says."""
_FIRST: Final = 1 << 20
"""Sequence numbers below are those of questions."""
_LAST: Final = 1 << 30


class NftRefused(KernelUnavailable):
    """The kernel does not take a change of the table; what it held before still holds."""


def lacks_tables(error: KernelUnavailable) -> bool:
    """Whether it was raised since the kernel has no nf_tables."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_TABLES


@dataclass(frozen=True, slots=True)
class CounterValue:
    """What a counter says."""

    packets: int
    size: int
    """Bytes."""


class Nft:
    """The table, in the namespace of the thread that makes this; all methods block."""

    def __init__(self, table: TableName = RULES_TABLE) -> None:
        """Opens the socket.

        Raises:
            KernelUnavailable: There is no nf_tables.
        """
        self._table = table
        self._netlink = Netlink(nft.NETFILTER, options=(CAP_ACK, EXPLAIN))
        try:
            self._netlink.force_send_buffer(_SEND_BUFFER)
        except PermissionError as error:
            self._netlink.close()
            raise KernelUnavailable("nf_tables: the agent needs CAP_NET_ADMIN") from error
        self._sequence = _FIRST
        self._flags: int | None = None
        self._done = 0
        """Transactions."""

    @property
    def port(self) -> int:
        """Of the socket: notifications of what it did carry this."""
        return self._netlink.port

    def close(self) -> None:
        """Closes the socket; the table stays."""
        self._netlink.close()

    def others(self) -> int:
        """A number that is another one when somebody else has changed any table.

        Raises:
            KernelUnavailable: The kernel does not say.
        """
        return self._generation() - self._done & 0xFFFFFFFF

    def _generation(self) -> int:
        """A number that every transaction in this namespace makes larger by one, anybody's."""
        data = self._netlink.ask(nft.GET_GENERATION, struct.pack("!BBH", 0, 0, 0))
        for _, _, start, end in messages(data):
            return nft.integer(attributes(data, start + 4, end).get(1, b""))
        raise KernelUnavailable("nf_tables: no generation")

    # Reading ------------------------------------------------------------------------------------

    def read(self) -> Found | None:
        """What there is; None: no table.

        Raises:
            KernelUnavailable: The kernel does not say.
        """
        if self._table_flags() is None:
            return None
        chains = {}
        for found in self._all(nft.GET_CHAIN, nft.NEW_CHAIN):
            name, base = nft.parse_chain(found)
            chains[name] = base
        rules: dict[str, list[str]] = {name: [] for name in chains}
        for found in self._all(nft.GET_RULE, nft.NEW_RULE):
            name, tag = nft.parse_rule(found)
            rules.setdefault(name, []).append(tag)
        shapes: dict[str, Shape] = {}
        elements: dict[str, dict[bytes, str]] = {}
        for found in self._all(nft.GET_SET, nft.NEW_SET):
            parsed = nft.parse_set(found)
            if parsed is None:
                continue
            name, shape = parsed
            # one of another kind is like none of ours
            shapes[name] = shape or Shape(Element.PORT, is_map=True, size=1)
            if shape is not None and not shape.timeout:
                elements[name] = self.elements(name, shape)
        return Found(
            {name: (base, tuple(rules[name])) for name, base in chains.items()},
            shapes,
            frozenset(self.counters()),
            elements,
        )

    def counters(self) -> dict[str, CounterValue]:
        """All counters by name; none if there is no table."""
        body = nft.question(self._table) + number(3, 1)
        return {
            name: CounterValue(packets, size)
            for data in self._netlink.dump(nft.GET_OBJECT, body)
            for name, packets, size in map(
                nft.parse_counter, nft.parts(self._table, data, nft.NEW_OBJECT)
            )
        }

    def _all(self, ask: int, answer: int) -> Iterator[dict[int, bytes]]:
        for data in self._netlink.dump(ask, nft.question(self._table)):
            yield from nft.parts(self._table, data, answer)

    def elements(self, name: str, shape: Shape) -> dict[bytes, str]:
        """Those of a set with the chains that they lead to; raises KernelUnavailable."""
        found: dict[bytes, str] = {}
        for data in self._netlink.dump(nft.GET_ELEMENT, nft.question(self._table, text(2, name))):
            for part in nft.parts(self._table, data, nft.NEW_ELEMENT):
                found.update(nft.parse_elements(part, shape))
        return found

    def _table_flags(self) -> int | None:
        """Flags of the table; None: there is none."""
        for data in self._netlink.dump(
            nft.GET_TABLE, struct.pack("!BBH", self._table.family, 0, 0)
        ):
            for found in nft.parts(self._table, data, nft.NEW_TABLE):
                return nft.integer(found.get(2, b""))
        return None

    # Writing ------------------------------------------------------------------------------------

    def apply(self, changes: Changes) -> None:
        """Does all of it, or, if it raises, nothing that counts.

        Raises:
            NftRefused: The kernel does not take it.
            KernelUnavailable: The socket does not work.
        """
        operations = _operations(self._table, changes)
        own = self._own()
        if changes.remake:
            self._transact([*own, nft.delete_table(self._table), *own, *operations])
            return
        if sum(map(len, operations)) > PREPARED:
            for part in _preparations(self._table, changes):
                self._transact([*own, *part])
            operations = _operations(self._table, changes, prepared=True)
        self._transact([*own, *operations])

    def add(self, name: str, keys: Iterable[bytes], shape: Shape) -> None:
        """Adds elements to a plain set, in which some may be already; raises NftRefused."""
        self._transact(
            list(nft.elements(self._table, nft.NEW_ELEMENT, name, dict.fromkeys(keys, ""), shape))
        )

    def forget(self, name: str, keys: Iterable[bytes], shape: Shape) -> None:
        """Removes elements of a plain set, of which some may be gone; raises NftRefused."""
        items = dict.fromkeys(keys, "")
        self._transact(
            [
                # what is not there cannot be removed
                *nft.elements(self._table, nft.NEW_ELEMENT, name, items, shape),
                *nft.elements(self._table, nft.DELETE_ELEMENT, name, items, shape),
            ]
        )

    def remove(self) -> bool:
        """Removes the table; says whether there was one.

        Raises:
            NftRefused: The kernel does not take it.
            KernelUnavailable: The socket does not work.
        """
        there = self._exists()
        if there:
            self._transact([nft.delete_table(self._table)])
        self._flags = None
        return there

    def _exists(self) -> bool:
        try:
            return self._table_flags() is not None
        except KernelUnavailable as error:
            if lacks_tables(error):
                return False
            raise

    def _own(self) -> list[bytes]:
        """Takes the table over, if somebody left it; what makes it or is harmless if it is ours."""
        if self._flags is None:
            there = self._table_flags()
            flags = nft.OWNER | nft.PERSIST
            if there is None:
                flags = flags if self._takes(flags) else 0
            elif there & nft.PERSIST:
                # alone: with it the kernel takes no base chains
                self._transact([nft.new_table(self._table, flags)])
            else:
                flags = 0  # what it was made without cannot be added to it
            self._flags = flags
        return [nft.new_table(self._table, self._flags)]

    def _takes(self, flags: int) -> bool:
        """Whether this kernel knows these flags of tables."""
        problems = self._send([nft.new_table(self._table, flags), nft.delete_table(self._table)])
        return not any(
            problem.number in {errno.EOPNOTSUPP, errno.EINVAL} for problem in problems.values()
        )

    def _transact(self, operations: list[bytes]) -> None:
        if not operations:
            return
        problems = self._send(operations)
        if problems:
            place, problem = min(problems.items())
            self._flags = None
            raise NftRefused(_why(self._table, operations, place, problem))

    def _send(self, operations: list[bytes]) -> dict[int, Problem]:
        """What was refused, by place in the list; -1: the whole."""
        first = self._sequence
        data, last = nft.batch(operations, first)
        self._sequence = last + 2 if last < _LAST else _FIRST
        problems: dict[int, Problem] = {}
        self._netlink.exchange(data, last, problems, first)
        ours = {
            sequence - first - 1: problem
            for sequence, problem in problems.items()
            if first <= sequence <= last
        }
        if not ours:
            self._done += 1
        return ours


def _operations(table: TableName, changes: Changes, *, prepared: bool = False) -> list[bytes]:
    """In the order of dependencies. `prepared`: plain sets that are new are there and filled."""
    operations = [nft.new_counter(table, name) for name in sorted(changes.counters)]
    plain = {name for name, shape in changes.sets.items() if prepared and not shape.is_map}
    operations += [
        nft.new_set(table, name, shape, identity)
        for identity, (name, shape) in enumerate(changes.sets.items(), 1)
        if name not in plain
    ]
    operations += [
        nft.new_chain(table, name, changes.chains[name].base)
        for name in changes.chains
        if name in changes.new_chains
    ]
    for name, chain in changes.chains.items():
        if name not in changes.new_chains:
            operations.append(nft.flush_chain(table, name))
        operations += nft.new_rules(table, name, chain)
    for name, items in changes.removed.items():
        operations += nft.elements(table, nft.DELETE_ELEMENT, name, items, changes.shapes[name])
    for name, items in changes.added.items():
        if name not in plain:
            operations += nft.elements(table, nft.NEW_ELEMENT, name, items, changes.shapes[name])
    operations += [nft.flush_chain(table, name) for name in changes.dropped_chains]
    operations += [nft.delete_chain(table, name) for name in changes.dropped_chains]
    operations += [nft.delete_set(table, name) for name in changes.dropped_sets]
    operations += [nft.delete_counter(table, name) for name in changes.dropped_counters]
    return operations


def _preparations(table: TableName, changes: Changes) -> Iterator[list[bytes]]:
    """New plain sets and their elements, in parts."""
    part: list[bytes] = []
    size = 0
    for identity, (name, shape) in enumerate(changes.sets.items(), 1):
        if shape.is_map:
            continue
        for operation in (
            nft.new_set(table, name, shape, identity),
            *nft.elements(table, nft.NEW_ELEMENT, name, changes.added.get(name, {}), shape),
        ):
            part.append(operation)
            size += len(operation)
            if size > PREPARED:
                yield part
                part, size = [], 0
    if part:
        yield part


def _why(table: TableName, operations: list[bytes], place: int, problem: Problem) -> str:
    """For people: what of the table the kernel did not take, and why."""
    if problem.number == errno.EPERM and place <= 0:
        return (
            f"nf_tables: the table {table} belongs to another process, or the agent lacks "
            "CAP_NET_ADMIN"
        )
    what = "the transaction"
    if 0 <= place < len(operations):
        (kind,) = struct.unpack_from("=H", operations[place], 4)
        found = attributes(operations[place], 20, len(operations[place]))
        names = [
            value.rstrip(b"\0").decode(errors="replace")
            for key, value in sorted(found.items())
            if key in {2, 3} and value.isascii() and value.endswith(b"\0")
        ]
        what = f"{_KINDS.get(kind & 0xFF, kind)} {' '.join(names[:1])}".strip()
    return f"nf_tables refuses {what}: {problem}"


_KINDS: Final = {
    0: "the table", 2: "to remove the table", 3: "chain", 5: "to remove chain", 6: "a rule of",
    8: "to flush chain", 9: "set", 11: "to remove set", 12: "elements of",
    14: "to remove elements of", 18: "counter", 20: "to remove counter",
}  # fmt: skip
