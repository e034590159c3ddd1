"""Reads which rules of a ClusterNetworkPolicy lead through devices: its annotation `romana.io/via`.

    romana.io/via: firewalls                      # every rule with Accept
    romana.io/via: web=firewalls, db=inspection   # rules by their names
    romana.io/via: firewalls, db=inspection       # these, and the others

The API has no field for it, and its rules have names. An annotation fails closed, as rules do: what
an Accept should lead through devices must not go directly because somebody mistyped a name. So if
the annotation is not understood no Accept of the policy matches anything, and one whose group does
not exist matches nothing; both are among the warnings.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass, field
from typing import Final

from services.common.model.devices import DeviceGroupName

VIA: Final = "romana.io/via"


@dataclass(frozen=True, slots=True)
class Led:
    """What the annotation says."""

    at: str = ""
    """Its field path."""
    others: DeviceGroupName | None = None
    """The group of rules that are not named."""
    by_name: dict[str, DeviceGroupName] = field(default_factory=dict)
    problem: str = ""
    """Why it is not understood."""
    groups: Container[str] | None = None
    """Those that exist; None: that is looked at elsewhere."""

    def group_of(self, rule: str) -> DeviceGroupName | None:
        """The group that a rule of that name leads through."""
        return self.by_name.get(rule, self.others) if rule else self.others

    def refusal(self, rule: str) -> str:
        """Why an Accept of that name must match nothing; empty: it may."""
        if self.problem:
            return self.problem
        group = self.group_of(rule)
        if group is None or self.groups is None or group in self.groups:
            return ""
        return f"there is no group of devices {group[:80]!r}"


def read_led(text: str, at: str, rules: Collection[str], groups: Container[str] | None) -> Led:
    """Reads the annotation; `rules`: names of the policy's rules with Accept."""
    others: list[DeviceGroupName] = []
    by_name: dict[str, DeviceGroupName] = {}
    problem = ""
    for item in text.split(","):
        name, is_named, group = item.strip().rpartition("=")
        name, group = name.strip(), group.strip()
        if not group or (is_named and not name):
            problem = f"{item.strip()[:80]!r} is neither GROUP nor RULE=GROUP"
        elif not is_named:
            others.append(DeviceGroupName(group))
        elif name not in rules:
            problem = f"no rule with Accept is called {name[:80]!r}"
        elif name in by_name:
            problem = f"rule {name[:80]!r} is there twice"
        else:
            by_name[name] = DeviceGroupName(group)
    if len(others) > 1:
        problem = "names more than one group for all rules"
    return Led(at, others[0] if others else None, by_name, problem, groups)
