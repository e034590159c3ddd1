"""Rules of policy routing with our protocol number and priorities. Formats: linux/fib_rules.h."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final, cast

from services.agent.kernel import marks, netlink
from services.agent.kernel.diff import Step
from services.agent.kernel.driver import Problems, run
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.numbers import PROTOCOL, our_priority
from services.agent.kernel.state import Action, Key, Kind, Rule, Value
from services.common.model.network import Prefix

NEW: Final = 32
DELETE: Final = 33
GET: Final = 34

_DST, _SRC, _IIFNAME, _GOTO, _PRIORITY, _MARK = 1, 2, 3, 4, 6, 10
_SUPPRESS, _TABLE, _MASK, _PROTOCOL = 14, 15, 16, 21
_ACTIONS: Final = {Action.LOOKUP: 1, Action.GOTO: 2, Action.NOP: 3, Action.UNREACHABLE: 7}
_ACTION_OF: Final = {number: action for action, number in _ACTIONS.items()}
_INVERT: Final = 2
_NO_SUPPRESS: Final = 0xFFFFFFFF
_SUPPRESSED: Final = frozenset({0, 31, 127, _NO_SUPPRESS})
"""Default routes; all but those to a host."""
_KNOWN: Final = frozenset(
    {_DST, _SRC, _IIFNAME, _GOTO, _PRIORITY, _MARK, _SUPPRESS, _TABLE, _MASK, _PROTOCOL}
)
_MESSAGE = struct.Struct("=BBBBBBBBI")
"""fib_rule_hdr: family, destination and source length, tos, table, two reserved, action, flags."""
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSIONS: Final = {family: version for version, family in _FAMILIES.items()}
_GONE: Final = frozenset({errno.ENOENT})
_THERE: Final = frozenset({errno.EEXIST})


def owns(priority: int, protocol: int) -> bool:
    """Whether a rule is ours."""
    return protocol == PROTOCOL and our_priority(priority)


class Rules:
    """The driver."""

    kind = Kind.RULE

    def __init__(self, socket_: Netlink) -> None:
        self._netlink = socket_

    def read(self) -> Mapping[Key, Value]:
        """All that are ours. IPv6's are absent from a kernel without it."""
        found: dict[Key, Value] = {}
        for family in _FAMILIES.values():
            for data in self._netlink.dump(GET, _MESSAGE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
                found.update((rule, None) for rule in _parse(data))
        return found

    def apply(self, step: Step) -> Problems:
        """A rule has no value, so there is nothing to replace.

        What others go to is made before them and removed after them: a GOTO without its target
        does nothing.
        """
        removals = sorted(cast("Mapping[Rule, None]", step.removals), key=_priority)
        additions = sorted(cast("Mapping[Rule, None]", step.additions), key=_priority, reverse=True)
        problems = run(
            self._netlink,
            list[Key](removals),
            [_message(DELETE, 0, index, rule) for index, rule in enumerate(removals)],
            harmless=_GONE,
        )
        flags = netlink.CREATE | netlink.EXCLUSIVE
        messages = [_message(NEW, flags, index, rule) for index, rule in enumerate(additions)]
        problems.update(run(self._netlink, list[Key](additions), messages, harmless=_THERE))
        return problems


def _message(kind: int, flags: int, sequence: int, rule: Rule) -> bytes:
    lengths = [prefix.prefixlen if prefix else 0 for prefix in (rule.destination, rule.source)]
    action = _ACTIONS[rule.action]
    body = _MESSAGE.pack(_FAMILIES[rule.family], *lengths, 0, 0, 0, 0, action, 0)
    body += netlink.number(_PRIORITY, rule.priority)
    body += netlink.attribute(_PROTOCOL, bytes([PROTOCOL]))
    if rule.action is Action.LOOKUP:
        body += netlink.number(_TABLE, rule.table)
    elif rule.action is Action.GOTO:
        body += netlink.number(_GOTO, rule.target)
    if rule.destination is not None:
        body += netlink.attribute(_DST, rule.destination.network_address.packed)
    if rule.source is not None:
        body += netlink.attribute(_SRC, rule.source.network_address.packed)
    if rule.interface:
        body += netlink.text(_IIFNAME, rule.interface)
    if rule.suppressed is not None:
        body += netlink.number(_SUPPRESS, rule.suppressed)
    if rule.mask:
        body += netlink.number(_MARK, rule.mark) + netlink.number(_MASK, rule.mask)
    return netlink.message(kind, flags, sequence, body)


def _parse(data: bytes) -> Iterator[Rule]:
    for kind, _, start, end in netlink.messages(data):
        if kind == NEW:
            rule = _rule(data, start, end)
            if rule is not None:
                yield rule


def _rule(data: bytes, start: int, end: int) -> Rule | None:
    """None: it is not ours. Whoever's it is, it is none that we make if it asks for more."""
    family, destination, source, tos, table, _, _, number, flags = _MESSAGE.unpack_from(data, start)
    found = netlink.attributes(data, start + _MESSAGE.size, end)
    priority = int.from_bytes(found.get(_PRIORITY, b""), "little")
    if not owns(priority, found.get(_PROTOCOL, b"\0")[0]) or family not in _VERSIONS:
        return None
    suppress = int.from_bytes(found.get(_SUPPRESS, b"\xff" * 4), "little")
    mask = int.from_bytes(found.get(_MASK, b""), "little")
    if (
        found.keys() - _KNOWN
        or tos
        or number not in _ACTION_OF
        or flags & _INVERT
        or suppress not in _SUPPRESSED
        or mask & ~marks.OURS
    ):
        return None
    try:
        return Rule(
            _VERSIONS[family],
            priority,
            int.from_bytes(found[_TABLE], "little") if _TABLE in found else table,
            _prefix(found.get(_SRC), source),
            _prefix(found.get(_DST), destination),
            found.get(_IIFNAME, b"").rstrip(b"\0").decode(),
            None if suppress == _NO_SUPPRESS else suppress,
            _ACTION_OF[number],
            int.from_bytes(found.get(_GOTO, b""), "little"),
            int.from_bytes(found.get(_MARK, b""), "little"),
            mask,
        )
    except ValueError:  # bits beyond a prefix, or a name that is no text
        return None


def _prefix(address: bytes | None, length: int) -> Prefix | None:
    return None if address is None else ipaddress.ip_network((address, length))


def _priority(rule: Rule) -> int:
    return rule.priority
