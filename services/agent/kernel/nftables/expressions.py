"""Statements of rules in the kernel's terms: nf_tables expressions, packed.

A statement becomes loads into registers and a comparison. Numbers are those of
linux/netfilter/nf_tables.h; they go over the wire in network order, but for what the kernel
compares in its own: the mark and the state of a connection.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from services.agent.kernel.codec import attribute, text
from services.agent.kernel.marks import ALL, native
from services.agent.kernel.nftables.table import (
    SHARES,
    Between,
    Count,
    Dispatch,
    Duplicate,
    Goto,
    In,
    Is,
    Jump,
    Key,
    Limit,
    Log,
    Mark,
    MarkConnection,
    Masquerade,
    Renew,
    Statement,
    Verdict,
)

NESTED: Final = 0x8000
LIST_ELEMENT: Final = 1 | NESTED

_VERDICT_REGISTER: Final = 0
_REGISTER: Final = 8
"""NFT_REG32_00: the first of sixteen of four bytes each."""
_OTHER: Final = 12
"""Where a masked value goes: no masked value is longer than an address."""

ACCEPT: Final = 1
DROP: Final = 0
JUMP: Final = -3
GOTO: Final = -4
RETURN: Final = -5

_LINK, _NETWORK, _TRANSPORT = 0, 1, 2
_EQUAL, _UNEQUAL, _LEAST, _MOST = 0, 1, 5, 3
_UPDATE: Final = 1
_INVERTED: Final = 1
_META_MARK, _META_INPUT, _META_OUTPUT, _META_FAMILY, _META_PROTOCOL = 3, 6, 7, 15, 16


def number(kind: int, value: int) -> bytes:
    """A 32-bit attribute in network order."""
    return struct.pack("=HH", 8, kind) + struct.pack("!i" if value < 0 else "!I", value)


def nested(kind: int, value: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | NESTED, value)


def verdict(code: int, chain: str = "") -> bytes:
    """Value of a register or an element that is a verdict: the inside of it."""
    return nested(2, number(1, code) + (text(2, chain) if chain else b""))


def _expression(name: str, data: bytes) -> bytes:
    return attribute(LIST_ELEMENT, text(1, name) + nested(2, data))


def _meta(key: int, register: int) -> bytes:
    return _expression("meta", number(1, register) + number(2, key))


def _connection(key: int, register: int) -> bytes:
    return _expression("ct", number(1, register) + number(2, key))


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    return _expression(
        "payload", number(1, register) + number(2, base) + number(3, offset) + number(4, length)
    )


_META: Final[Mapping[Key, int]] = {
    Key.FAMILY: _META_FAMILY,
    Key.PROTOCOL: _META_PROTOCOL,
    Key.MARK: _META_MARK,
    Key.INPUT: _META_INPUT,
    Key.OUTPUT: _META_OUTPUT,
}
_CONNECTION: Final[Mapping[Key, int]] = {
    Key.CONNECTION_STATE: 0,
    Key.CONNECTION_DIRECTION: 1,
    Key.CONNECTION_STATUS: 2,
    Key.CONNECTION_MARK: 3,
}
_FIB_KIND, _FIB_DESTINATION = 3, 2
_FIELDS: Final[Mapping[Key, tuple[int, int, int]]] = {
    Key.SOURCE_4: (_NETWORK, 12, 4),
    Key.DESTINATION_4: (_NETWORK, 16, 4),
    Key.SOURCE_6: (_NETWORK, 8, 16),
    Key.DESTINATION_6: (_NETWORK, 24, 16),
    Key.HOP_LIMIT: (_NETWORK, 7, 1),
    Key.PORT: (_TRANSPORT, 2, 2),
    Key.SOURCE_PORT: (_TRANSPORT, 0, 2),
    Key.TCP_FLAGS: (_TRANSPORT, 13, 1),
    Key.SCTP_CHUNK: (_TRANSPORT, 12, 1),
    Key.ICMP_TYPE: (_TRANSPORT, 0, 1),
    Key.ICMP_CODE: (_TRANSPORT, 1, 1),
}
"""Base, offset and length in bytes."""
_SOURCE_PORT: Final = (_TRANSPORT, 0, 2)
_ETHER_SOURCE: Final = (_LINK, 6, 6)
_NEXTHOPS: Final = {Key.NEXTHOP_4: 1, Key.NEXTHOP_6: 2}
_SHARES: Final = {
    Key.SHARE_4: (Key.SOURCE_4, Key.DESTINATION_4),
    Key.SHARE_6: (Key.SOURCE_6, Key.DESTINATION_6),
    Key.SHARE_BACK_4: (Key.DESTINATION_4, Key.SOURCE_4),
    Key.SHARE_BACK_6: (Key.DESTINATION_6, Key.SOURCE_6),
}
_SEED: Final = 114
"""Of the hash: the same on all nodes."""


def _load(key: Key) -> bytes:
    """Loads what a key stands for, from the first register on."""
    if key in _META:
        return _meta(_META[key], _REGISTER)
    if key in _FIELDS:
        return _payload(*_FIELDS[key], _REGISTER)
    if key in _CONNECTION:
        return _connection(_CONNECTION[key], _REGISTER)
    if key is Key.DESTINATION_KIND:
        asked = number(2, _FIB_KIND) + number(3, _FIB_DESTINATION)
        return _expression("fib", number(1, _REGISTER) + asked)
    if key in _NEXTHOPS:
        return _expression("rt", number(1, _REGISTER) + number(2, _NEXTHOPS[key]))
    if key in _SHARES:
        return _share(*_SHARES[key])
    if key is Key.INPUT_ETHER:
        return _meta(_META_INPUT, _REGISTER) + _payload(*_ETHER_SOURCE, _REGISTER + 4)
    if key in {Key.INPUT_SOURCE_4, Key.INPUT_SOURCE_6}:
        source = Key.SOURCE_4 if key is Key.INPUT_SOURCE_4 else Key.SOURCE_6
        return _meta(_META_INPUT, _REGISTER) + _payload(*_FIELDS[source], _REGISTER + 4)
    if key is Key.THROUGH:
        return _meta(_META_INPUT, _REGISTER) + _meta(_META_OUTPUT, _REGISTER + 4)
    return _flow(key)


def _share(first: Key, second: Key) -> bytes:
    """Jenkins' hash of two addresses and, in their order, what of ports is beside them."""
    length = _FIELDS[first][2]
    words, data = length // 4, _REGISTER + 4
    ports = [_SOURCE_PORT, _FIELDS[Key.PORT]]
    if first in {Key.DESTINATION_4, Key.DESTINATION_6}:
        ports.reverse()
    return (
        _payload(*_FIELDS[first], data)
        + _payload(*_FIELDS[second], data + words)
        + _payload(*ports[0], data + 2 * words)
        + _payload(*ports[1], data + 2 * words + 1)
        + _expression(
            "hash",
            number(1, data)
            + number(2, _REGISTER)
            + number(3, 2 * length + 8)
            + number(4, SHARES)
            + number(5, _SEED)
            + number(7, 0),
        )
    )


def _flow(key: Key) -> bytes:
    is_4 = key in {Key.FLOW_4, Key.BACK_4}
    source, destination = (
        (Key.SOURCE_4, Key.DESTINATION_4) if is_4 else (Key.SOURCE_6, Key.DESTINATION_6)
    )
    sides = [(_FIELDS[source], _SOURCE_PORT), (_FIELDS[destination], _FIELDS[Key.PORT])]
    if key in {Key.BACK_4, Key.BACK_6}:
        sides.reverse()
    (first, first_port), (second, second_port) = sides
    words = 1 if is_4 else 4
    return (
        _payload(*first, _REGISTER)
        + _payload(*second, _REGISTER + words)
        + _meta(_META_PROTOCOL, _REGISTER + 2 * words)
        + _payload(*first_port, _REGISTER + 2 * words + 1)
        + _payload(*second_port, _REGISTER + 2 * words + 2)
    )


def _value(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def _compare(register: int, operator: int, value: bytes) -> bytes:
    return _expression("cmp", number(1, register) + number(2, operator) + _value(3, value))


def _is(statement: Is) -> bytes:
    operator = _UNEQUAL if statement.inverted else _EQUAL
    if not statement.mask:
        return _load(statement.key) + _compare(_REGISTER, operator, statement.value)
    length = len(statement.mask)
    masked = _bitwise(_OTHER, statement.mask, bytes(length))
    return _load(statement.key) + masked + _compare(_OTHER, operator, statement.value)


def _bitwise(target: int, keep: bytes, flip: bytes) -> bytes:
    """Of what is in the first register keeps some bits, and turns some round."""
    return _expression(
        "bitwise",
        number(1, _REGISTER)
        + number(2, target)
        + number(3, len(keep))
        + _value(4, keep)
        + _value(5, flip),
    )


def _set_bits(key: Key, value: int, mask: int) -> bytes:
    """Loads a mark, sets some bits of it, and stores it."""
    changed = _bitwise(_REGISTER, native(ALL & ~mask), native(value))
    stored = (
        _expression("meta", number(2, _META_MARK) + number(3, _REGISTER))
        if key is Key.MARK
        else _expression("ct", number(2, _CONNECTION[key]) + number(4, _REGISTER))
    )
    return _load(key) + changed + stored


def _go(code: int, chain: str = "") -> bytes:
    return _expression("immediate", number(1, _VERDICT_REGISTER) + nested(2, verdict(code, chain)))


_VERDICTS: Final = {Verdict.ACCEPT: ACCEPT, Verdict.DROP: DROP, Verdict.RETURN: RETURN}


def encode(statement: Statement) -> bytes:
    """A statement as expressions of a rule."""
    match statement:
        case Is():
            return _is(statement)
        case Between(key, first, last):
            return (
                _load(key) + _compare(_REGISTER, _LEAST, first) + _compare(_REGISTER, _MOST, last)
            )
        case In(key, name, inverted):
            flags = number(5, _INVERTED) if inverted else b""
            return _load(key) + _expression("lookup", text(1, name) + number(2, _REGISTER) + flags)
        case Renew(key, name):
            return _load(key) + _expression(
                "dynset", text(1, name) + number(3, _UPDATE) + number(4, _REGISTER)
            )
        case Dispatch(key, name, mask):
            return (
                _load(key)
                + (_bitwise(_REGISTER, mask, bytes(len(mask))) if mask else b"")
                + _expression(
                    "lookup", text(1, name) + number(2, _REGISTER) + number(3, _VERDICT_REGISTER)
                )
            )
        case Duplicate(address):
            return _expression("immediate", number(1, _REGISTER) + _value(2, address)) + (
                _expression("dup", number(1, _REGISTER))
            )
        case _:
            return _action(statement)


def _action(
    statement: Count | Limit | Log | Verdict | Jump | Goto | Masquerade | Mark | MarkConnection,
) -> bytes:
    match statement:
        case Count(name):
            return _expression("objref", number(1, 1) + text(2, name))
        case Limit(rate, burst):
            second = struct.pack("!Q", 1)
            return _expression(
                "limit",
                attribute(1, struct.pack("!Q", rate)) + attribute(2, second) + number(3, burst),
            )
        case Log(group, prefix):
            return _expression(
                "log", attribute(1, struct.pack("!H", group)) + text(2, prefix[:126])
            )
        case Verdict():
            return _go(_VERDICTS[statement])
        case Jump(chain):
            return _go(JUMP, chain)
        case Goto(chain):
            return _go(GOTO, chain)
        case Masquerade():
            return _expression("masq", b"")
        case Mark(value, mask):
            return _set_bits(Key.MARK, value, mask)
        case MarkConnection(value, mask):
            return _set_bits(Key.CONNECTION_MARK, value, mask)
