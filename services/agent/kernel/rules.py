"""Rules of policy routing with our protocol number and priorities."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast

from pyroute2 import IPRoute

from services.agent.kernel import marks
from services.agent.kernel.diff import KindChange
from services.agent.kernel.driver import Problems
from services.agent.kernel.iproute import Routing
from services.agent.kernel.netlink import Problem
from services.agent.kernel.numbers import PROTOCOL, our_priority
from services.agent.kernel.state import Action, Key, Kind, Rule, Value
from services.common.model.network import Prefix

_ACTIONS: Final = {
    Action.LOOKUP: "to_tbl",
    Action.GOTO: "goto",
    Action.NOP: "nop",
    Action.UNREACHABLE: "unreachable",
}
_ACTION_OF: Final = {
    1: Action.LOOKUP,
    2: Action.GOTO,
    3: Action.NOP,
    7: Action.UNREACHABLE,
}
_INVERT: Final = 2
"""FIB_RULE_INVERT, a flag."""
_NO_SUPPRESS: Final = 0xFFFFFFFF
_SUPPRESSED: Final = frozenset({0, 31, 127, _NO_SUPPRESS})
"""Default routes; all but those to a host."""
_KNOWN: Final = frozenset(
    f"FRA_{name}"
    for name in (
        *("DST", "SRC", "IIFNAME", "GOTO", "PRIORITY", "FWMARK", "FWMASK", "SUPPRESS_PREFIXLEN"),
        *("TABLE", "PROTOCOL"),
    )
)
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def owns(priority: int, protocol: int) -> bool:
    return protocol == PROTOCOL and our_priority(priority)


class Rules:
    """The driver."""

    kind = Kind.RULE

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    def read(self) -> Mapping[Key, Value]:
        found: dict[Key, Value] = {}
        for version, family in _FAMILIES.items():
            messages = self._routing.ask(partial(_dump, family))
            rules = (_rule(version, message) for message in messages)
            found.update((rule, None) for rule in rules if rule is not None)
        return found

    def apply(self, step: KindChange) -> Problems:
        """A rule has no value, so there is nothing to replace.

        What others go to is made before them and removed after them: a GOTO without its target
        does nothing.
        """
        removals = sorted(cast("Mapping[Rule, None]", step.removals), key=_priority)
        additions = sorted(cast("Mapping[Rule, None]", step.additions), key=_priority, reverse=True)
        problems: dict[Key, Problem] = {}
        for command, rules, harmless in (
            ("del", removals, errno.ENOENT),
            ("add", additions, errno.EEXIST),
        ):
            for rule in rules:
                problem = self._routing.attempt(partial(_perform, command, rule))
                if problem is not None and problem.number != harmless:
                    problems[rule] = problem
        return problems


def _dump(family: int, ip: IPRoute) -> list[Mapping[str, Any]]:
    return list(ip.get_rules(family))


def _perform(command: str, rule: Rule, ip: IPRoute) -> None:
    options: dict[str, object] = {}
    if rule.action is Action.LOOKUP:
        options["table"] = rule.table
    elif rule.action is Action.GOTO:
        options["goto"] = rule.target
    for name, prefix in (("dst", rule.destination), ("src", rule.source)):
        if prefix is not None:
            options |= {name: str(prefix.network_address), f"{name}_len": prefix.prefixlen}
    if rule.interface:
        options["iifname"] = rule.interface
    if rule.suppressed is not None:
        options["suppress_prefixlen"] = rule.suppressed
    if rule.mask:
        options |= {"fwmark": rule.mark, "fwmask": rule.mask}
    ip.rule(
        command,
        family=_FAMILIES[rule.family],
        priority=rule.priority,
        protocol=PROTOCOL,
        action=_ACTIONS[rule.action],
        **options,
    )


def _rule(version: int, message: Mapping[str, Any]) -> Rule | None:
    """None: it is not ours. Whoever's it is, it is none that we make if it asks for more."""
    found = dict(message["attrs"])
    priority = found.get("FRA_PRIORITY", 0)
    if not owns(priority, found.get("FRA_PROTOCOL", 0)):
        return None
    suppress = found.get("FRA_SUPPRESS_PREFIXLEN", _NO_SUPPRESS)
    mask = found.get("FRA_FWMASK", 0)
    if (
        found.keys() - _KNOWN
        or message["tos"]
        or message["action"] not in _ACTION_OF
        or message["flags"] & _INVERT
        or suppress not in _SUPPRESSED
        or mask & ~marks.OURS
    ):
        return None
    try:
        return Rule(
            version,
            priority,
            found.get("FRA_TABLE", message["table"]),
            _prefix(found.get("FRA_SRC"), message["src_len"]),
            _prefix(found.get("FRA_DST"), message["dst_len"]),
            found.get("FRA_IIFNAME", ""),
            None if suppress == _NO_SUPPRESS else suppress,
            _ACTION_OF[message["action"]],
            found.get("FRA_GOTO", 0),
            found.get("FRA_FWMARK", 0),
            mask,
        )
    except ValueError:  # bits beyond a prefix
        return None


def _prefix(address: str | None, length: int) -> Prefix | None:
    return None if address is None else ipaddress.ip_network((address, length))


def _priority(rule: Rule) -> int:
    return rule.priority
