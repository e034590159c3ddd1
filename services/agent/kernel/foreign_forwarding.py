"""Chains of others that drop what they do not accept, on the way that forwarded packets take.

Docker sets the policy of its FORWARD chain to drop, and so do firewalls: then packets of endpoints
are dropped unless a rule there accepts them, whatever our own table says. It is not ours to change,
and what its rules accept is not ours to judge: so such chains are only named.

Of nf_tables by a dump; of the older xtables by its two getsockopt calls, and only where it is in
use in this namespace, since the call would bring it into use. Formats:
linux/netfilter/nf_tables.h, linux/netfilter_ipv4/ip_tables.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.agent.kernel import codec
from services.agent.kernel.netlink import CAP_ACK, KernelUnavailable, Netlink
from services.agent.kernel.nftables.messages import (
    GET_CHAIN,
    GET_TABLE,
    NETFILTER,
    NEW_CHAIN,
    NEW_TABLE,
)
from services.agent.kernel.nftables.table import TABLE

_TABLE, _NAME, _HOOK, _POLICY, _HOOK_NUMBER = 1, 3, 4, 5, 1
_FORWARD: Final = 2
"""Of the hooks, in both."""
_DROP: Final = 0
_FAMILIES: Final = {1: "inet", 2: "ip", 10: "ip6"}

_INFO: Final = struct.Struct("=32sI5I5III")
"""Name, valid hooks, entries and underflows of hooks, number and size of entries."""
_ENTRIES: Final = struct.Struct("=32sI4x")
"""Name and size; the entries follow."""
_TABLE_OF: Final = b"filter"
_GET_INFO, _GET_ENTRIES = 64, 65
_TARGET: Final = struct.Struct("=H")
_TARGET_HEAD: Final = 32
_VERDICT: Final = struct.Struct("=i")
_DROPS: Final = -1
"""A verdict: -NF_DROP - 1."""


@dataclass(frozen=True, slots=True)
class _Xtables:
    """One family's."""

    names: str
    """File below /proc/net with the tables in use."""
    family: str
    domain: int
    level: int
    target: int
    """Where in an entry it says where its target is."""


_XTABLES: Final = (
    _Xtables("ip_tables_names", "ip", socket.AF_INET, socket.IPPROTO_IP, 88),
    _Xtables("ip6_tables_names", "ip6", socket.AF_INET6, socket.IPPROTO_IPV6, 140),
)
_libc = ctypes.CDLL(None, use_errno=True)


def closed_chains() -> list[str]:
    """Their names, such as "FORWARD of table ip filter"; for the thread of the namespace."""
    found = [*_of_nftables(), *_of_xtables()]
    return [f"{chain} of table {family} {table}" for family, table, chain in found]


def tables() -> list[str]:
    """Names of all tables of nf_tables, such as "ip nat"; raises KernelUnavailable."""
    with Netlink(NETFILTER, options=(CAP_ACK,)) as asking:
        answers = asking.dump(GET_TABLE, struct.pack("!BBH", 0, 0, 0))
    return [
        f"{_FAMILIES[data[start]]} {_text(codec.attributes(data, start + 4, end)[_TABLE])}"
        for data in answers
        for kind, _, start, end in codec.messages(data)
        if kind == NEW_TABLE and data[start] in _FAMILIES
    ]


def _of_nftables() -> Iterator[tuple[str, str, str]]:
    with contextlib.suppress(KernelUnavailable):
        with Netlink(NETFILTER, options=(CAP_ACK,)) as asking:
            answers = asking.dump(GET_CHAIN, struct.pack("!BBH", 0, 0, 0))
        for data in answers:
            for kind, _, start, end in codec.messages(data):
                found = codec.attributes(data, start + 4, end)
                hook = found.get(_HOOK, b"")
                number = codec.attributes(hook, 0, len(hook)).get(_HOOK_NUMBER)
                if (
                    kind == NEW_CHAIN
                    and data[start] in _FAMILIES
                    and number is not None
                    and int.from_bytes(number) == _FORWARD
                    and int.from_bytes(found.get(_POLICY, b"\1")) == _DROP
                    and _text(found[_TABLE]) != TABLE
                ):
                    yield _FAMILIES[data[start]], _text(found[_TABLE]), _text(found[_NAME])


def _of_xtables() -> Iterator[tuple[str, str, str]]:
    for kind in _XTABLES:
        with contextlib.suppress(OSError):
            in_use = Path("/proc/thread-self/net", kind.names).read_text().split()
            if _TABLE_OF.decode() in in_use and _drops(kind):
                yield kind.family, _TABLE_OF.decode(), "FORWARD"


def _drops(kind: _Xtables) -> bool:
    """Whether the chain's policy, the last of its entries, is to drop."""
    with socket.socket(kind.domain, socket.SOCK_RAW, socket.IPPROTO_RAW) as asking:
        info = _asked(asking, kind, _GET_INFO, _TABLE_OF.ljust(_INFO.size, b"\0"))
        *_, size = _INFO.unpack(info)
        policy = _INFO.unpack(info)[7 + _FORWARD]
        head = _ENTRIES.pack(_TABLE_OF, size)
        answer = _asked(asking, kind, _GET_ENTRIES, head + bytes(size))
    entry = answer[_ENTRIES.size + policy :]
    (target,) = _TARGET.unpack_from(entry, kind.target)
    (verdict,) = _VERDICT.unpack_from(entry, target + _TARGET_HEAD)
    return bool(verdict == _DROPS)


def _asked(asking: socket.socket, kind: _Xtables, option: int, question: bytes) -> bytes:
    """An option that is told what it is asked for, which the socket module does not do."""
    buffer = ctypes.create_string_buffer(question, len(question))
    length = ctypes.c_uint32(len(question))
    if _libc.getsockopt(asking.fileno(), kind.level, option, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "getsockopt")
    return buffer.raw


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
