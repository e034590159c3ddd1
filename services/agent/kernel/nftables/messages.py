"""Messages to nf_tables, packed, and what it answers, read.

One transaction is a batch: a message that begins it, the operations, one that ends it. The kernel
does all of it or nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from services.agent.kernel import codec
from services.agent.kernel.codec import attribute, attributes, text
from services.agent.kernel.nftables.expressions import (
    GOTO,
    LIST_ELEMENT,
    encode,
    nested,
    number,
    verdict,
)
from services.agent.kernel.nftables.table import (
    Base,
    Chain,
    Element,
    Elements,
    Hook,
    Rule,
    Shape,
    TableName,
)

NETFILTER: Final = 12
"""NETLINK_NETFILTER."""
_SUBSYSTEM: Final = 10 << 8

NEW_TABLE, GET_TABLE, DELETE_TABLE = (_SUBSYSTEM | kind for kind in (0, 1, 2))
NEW_CHAIN, GET_CHAIN, DELETE_CHAIN = (_SUBSYSTEM | kind for kind in (3, 4, 5))
NEW_RULE, GET_RULE, DELETE_RULE = (_SUBSYSTEM | kind for kind in (6, 7, 8))
NEW_SET, GET_SET, DELETE_SET = (_SUBSYSTEM | kind for kind in (9, 10, 11))
NEW_ELEMENT, GET_ELEMENT, DELETE_ELEMENT = (_SUBSYSTEM | kind for kind in (12, 13, 14))
NEW_GENERATION, GET_GENERATION = (_SUBSYSTEM | kind for kind in (15, 16))
NEW_OBJECT, GET_OBJECT, DELETE_OBJECT = (_SUBSYSTEM | kind for kind in (18, 19, 20))
_BEGIN: Final = 16
_END: Final = 17

OWNER: Final = 2
PERSIST: Final = 4
"""Flags of a table: it is its maker's socket's alone, and stays when that is gone (Linux 6.9)."""

_APPEND: Final = 0x800
_COUNTER: Final = 1
_ELEMENTS_MOST: Final = 400
"""In a message: an attribute has at most 65,535 bytes."""
_INTERVAL, _MAP, _TIMEOUT, _EVAL = 4, 8, 0x10, 0x20
_BOUND_END: Final = 1
_VERDICT_TYPE: Final = 0xFFFFFF00
_NOTE_MOST: Final = 126

_TYPES: Final = {
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "inet_proto": (12, 4),
    "inet_service": (13, 4),
    "ifname": (41, 16),
    "ether_addr": (9, 8),
    "mark": (19, 4),
}
"""Numbers by which nft knows a type, and bytes in a concatenation."""


def _shape_type(element: Element) -> tuple[int, int]:
    """Number and length of a set's key."""
    parts = element.value.split(" . ")
    if element is Element.PORT:
        return _TYPES[parts[0]][0], 2
    kind = length = 0
    for part in parts:
        kind = kind << 6 | _TYPES[part][0]
        length += _TYPES[part][1]
    return kind, length


_BY_TYPE: Final = {_shape_type(element)[0]: element for element in Element}


def request(table: TableName, kind: int, body: bytes, flags: int = 0) -> bytes:
    """An operation on something in a table; its sequence number is set by `batch`."""
    return codec.message(kind, flags, 0, question(table, body))


def batch(operations: Iterable[bytes], first: int) -> tuple[bytearray, int]:
    """One transaction, and the sequence number of its last operation, which is to be acknowledged.

    What begins it has number `first`, the operations the following.
    """
    edge = struct.pack("!BBH", 0, 0, 10)
    data = bytearray(codec.message(_BEGIN, 0, first, edge))
    sequence, last = first, 0
    for operation in operations:
        sequence += 1
        last = len(data)
        data += operation
        struct.pack_into("=I", data, last + 8, sequence)
    flags = struct.unpack_from("=H", data, last + 6)[0]
    struct.pack_into("=H", data, last + 6, flags | codec.ACK)
    data += codec.message(_END, 0, sequence + 1, edge)
    return data, sequence


# Operations ---------------------------------------------------------------------------------------


def new_table(table: TableName, flags: int) -> bytes:
    """Makes the table, or takes over one that has no owner."""
    return request(table, NEW_TABLE, number(2, flags), codec.CREATE)


def delete_table(table: TableName) -> bytes:
    """Removes the table and all in it."""
    return request(table, DELETE_TABLE, b"")


def new_chain(table: TableName, name: str, base: Base | None) -> bytes:
    """Makes a chain, or does nothing if it is there."""
    body = text(3, name)
    if base is not None:
        body += nested(4, number(1, base.hook) + number(2, base.priority))
        body += number(5, 1)  # the policy: accept
        body += text(7, base.kind)
    return request(table, NEW_CHAIN, body, codec.CREATE)


def delete_chain(table: TableName, name: str) -> bytes:
    """Removes a chain, without its rules."""
    return request(table, DELETE_CHAIN, text(3, name))


def flush_chain(table: TableName, name: str) -> bytes:
    return request(table, DELETE_RULE, text(2, name))


def new_rules(table: TableName, name: str, chain: Chain) -> Iterator[bytes]:
    """Appends a chain's rules."""
    for rule in chain.rules:
        expressions = b"".join(encode(statement) for statement in rule.statements)
        yield request(
            table,
            NEW_RULE,
            text(2, name) + nested(4, expressions) + attribute(7, _comment(rule)),
            codec.CREATE | _APPEND,
        )


def _comment(rule: Rule) -> bytes:
    """As nft writes and lists comments: type 0, a length, a text with a closing zero."""
    words = f"{rule.tag} {rule.note}".strip().encode()[:_NOTE_MOST]
    return bytes((0, len(words) + 1)) + words + b"\0"


def _tag(comment: bytes) -> str:
    """The tag in a rule's comment; empty: none of ours."""
    if len(comment) < 18 or comment[0] != 0:
        return ""
    return comment[2:18].decode(errors="replace")


def new_counter(table: TableName, name: str) -> bytes:
    """Makes a counter, or does nothing if it is there."""
    return request(
        table, NEW_OBJECT, text(2, name) + number(3, _COUNTER) + nested(4, b""), codec.CREATE
    )


def delete_counter(table: TableName, name: str) -> bytes:
    return request(table, DELETE_OBJECT, text(2, name) + number(3, _COUNTER))


def new_set(table: TableName, name: str, shape: Shape, identity: int) -> bytes:
    """Makes a set; `identity` is unique in the batch."""
    kind, length = _shape_type(shape.element)
    flags = (
        (_INTERVAL if shape.is_interval else 0)
        | (_MAP if shape.is_map else 0)
        | (_TIMEOUT | _EVAL if shape.timeout else 0)
    )
    body = text(2, name) + number(3, flags) + number(4, kind) + number(5, length)
    if shape.is_map:
        body += number(6, _VERDICT_TYPE) + number(7, 0)
    if shape.size:
        body += nested(9, number(1, shape.size))
    body += number(10, identity)
    if shape.timeout:
        body += attribute(11, struct.pack("!Q", shape.timeout * 1000))
    if shape.element in {Element.INTERFACE, Element.PORT, Element.MARK}:
        # NFTNL_UDATA_SET_KEYBYTEORDER, so that nft lists it: 1 is the machine's, 2 the network's
        order = 2 if shape.element is Element.PORT else 1
        body += attribute(13, struct.pack("=BBI", 0, 4, order))
    return request(table, NEW_SET, body, codec.CREATE)


def delete_set(table: TableName, name: str) -> bytes:
    """Removes a set and what is in it."""
    return request(table, DELETE_SET, text(2, name))


def elements(
    table: TableName, kind: int, name: str, items: Elements, shape: Shape
) -> Iterator[bytes]:
    """Adds or removes elements, some hundreds in a message."""
    rest = iter(items.items())
    while part := list(islice(rest, _ELEMENTS_MOST)):
        if shape.is_map or shape.is_interval:
            packed = b"".join(_element(key, chain, shape) for key, chain in part)
        else:
            packed = _plain(part)
        yield request(table, kind, text(2, name) + nested(3, packed), codec.CREATE)


def _plain(part: list[tuple[bytes, str]]) -> bytes:
    """Elements of a hash set: most of all that is ever sent."""
    length = len(part[0][0])
    padding = bytes(-length % 4)
    size = length + len(padding)
    head = struct.pack("=HHHHHH", 12 + size, LIST_ELEMENT, 8 + size, 1 | 0x8000, 4 + length, 1)
    return b"".join([head + key + padding for key, _ in part])


def _element(key: bytes, chain: str, shape: Shape) -> bytes:
    end = shape.is_interval and key[-1]
    if shape.is_interval:
        key = key[:-1]
    body = nested(1, attribute(1, key))
    if chain:
        body += nested(2, verdict(GOTO, chain))
    if end:
        body += number(3, _BOUND_END)
    return attribute(LIST_ELEMENT, body)


# Answers ------------------------------------------------------------------------------------------


def question(table: TableName, body: bytes = b"") -> bytes:
    """Body of a question about all objects of a kind in a table."""
    return struct.pack("!BBH", table.family, 0, 0) + text(1, table.name) + body


def parts(table: TableName, data: bytes, kind: int) -> Iterator[dict[int, bytes]]:
    """Attributes of each message of a kind that is about a table."""
    for found, _, start, end in codec.messages(data):
        if found != kind or data[start] != table.family:
            continue
        read = attributes(data, start + 4, end)
        if read.get(1, b"").rstrip(b"\0") == table.name.encode():
            yield read


def integer(value: bytes) -> int:
    """Of an attribute in network order."""
    return int.from_bytes(value, "big")


def parse_chain(found: Mapping[int, bytes]) -> tuple[str, Base | None]:
    """Name, and what makes it a base chain."""
    name = found[3].rstrip(b"\0").decode(errors="replace")
    if 4 not in found:
        return name, None
    hook = attributes(found[4], 0, len(found[4]))
    kind = found.get(7, b"filter").rstrip(b"\0").decode()
    (priority,) = struct.unpack("!i", hook[2])
    try:
        return name, Base(Hook(integer(hook[1])), priority, kind)
    except ValueError:  # a hook that we never use
        return name, Base(Hook.PREROUTING, priority, f"{kind} {integer(hook[1])}")


def parse_rule(found: Mapping[int, bytes]) -> tuple[str, str]:
    """Chain and tag."""
    return found[2].rstrip(b"\0").decode(errors="replace"), _tag(found.get(7, b""))


def parse_set(found: Mapping[int, bytes]) -> tuple[str, Shape | None] | None:
    """Name and shape; no shape: of no kind that we make. None: an anonymous one."""
    name = found[2].rstrip(b"\0").decode(errors="replace")
    flags = integer(found.get(3, b""))
    if flags & 1:
        return None
    element = _BY_TYPE.get(integer(found.get(4, b"")))
    if element is None:
        return name, None
    timeout = integer(found.get(11, b"")) // 1000
    described = attributes(found.get(9, b""), 0, len(found.get(9, b"")))
    return name, Shape(
        element,
        is_map=bool(flags & _MAP),
        is_interval=bool(flags & _INTERVAL),
        timeout=timeout,
        size=integer(described.get(1, b"")),
    )


def parse_elements(found: Mapping[int, bytes], shape: Shape) -> Iterator[tuple[bytes, str]]:
    """Elements of one message of a dump."""
    data = found.get(3, b"")
    start, end = 0, len(data)
    while start + 4 <= end:
        (length,) = struct.unpack_from("=H", data, start)
        if length < 4:
            break
        read = attributes(data, start + 4, start + length)
        key = attributes(read[1], 0, len(read[1]))[1]
        chain = ""
        if shape.is_map:
            inside = attributes(read.get(2, b""), 0, len(read.get(2, b"")))
            told = attributes(inside.get(2, b""), 0, len(inside.get(2, b"")))
            chain = told.get(2, b"\0").rstrip(b"\0").decode(errors="replace") or "?"
        if shape.is_interval:
            key += bytes((integer(read.get(3, b"")) & _BOUND_END,))
        yield key, chain
        start += (length + 3) & ~3


def parse_counter(found: Mapping[int, bytes]) -> tuple[str, int, int]:
    """Name, packets and bytes."""
    name = found[2].rstrip(b"\0").decode(errors="replace")
    inside = attributes(found.get(4, b""), 0, len(found.get(4, b"")))
    return name, integer(inside.get(2, b"")), integer(inside.get(1, b""))
