"""Reads which rules of a ClusterNetworkPolicy concern devices: annotations of it.

    romana.io/via: firewalls                      # every rule with Accept
    romana.io/via: web=firewalls, db=inspection   # rules by their names
    romana.io/via: firewalls, db=inspection       # these, and the others
    romana.io/mirror: taps                        # copies, said in the same way

The API has no fields for it, and its rules have names. An annotation fails closed, as rules do:
what an Accept should lead through devices, or have copied, must not go directly or unseen because
somebody mistyped a name. So if an annotation is not understood no Accept of the policy matches
anything, and one whose group does not exist matches nothing; both are among the warnings.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from services.common.document.fields import Fields
from services.common.errors import Violation
from services.common.model.devices import DeviceGroupName
from services.policy.model import Rule

_PREFIX: Final = "romana.io/"
_VIA, _MIRROR = "via", "mirror"
_FIELDS: Final = (_VIA, _MIRROR)
"""Of rules; annotations are called like them."""


@dataclass(frozen=True, slots=True)
class _Named:
    """What an annotation says."""

    at: str = ""
    """Its field path."""
    others: DeviceGroupName | None = None
    """The group of rules that are not named."""
    by_name: Mapping[str, DeviceGroupName] = field(default_factory=dict)
    problem: str = ""
    """Why it is not understood."""

    def group_of(self, rule: str) -> DeviceGroupName | None:
        """The group of rules of that name."""
        return self.by_name.get(rule, self.others) if rule else self.others


@dataclass(frozen=True, slots=True)
class DeviceAnnotations:
    """What a policy's annotations say of its rules with Accept."""

    named: Mapping[str, _Named] = field(default_factory=dict)
    """By the field of rules."""
    groups: Container[str] | None = None
    """Those that exist; None: that is looked at elsewhere."""

    @property
    def problems(self) -> list[Violation]:
        """Why no Accept may match anything."""
        return [
            Violation(one.at, f"{one.problem}: no Accept matches anything")
            for one in self.named.values()
            if one.problem
        ]

    def refusals(self, rule: str, at: str) -> list[Violation]:
        """Why the Accept of that name at that place must match nothing."""
        return [
            Violation(
                one.at,
                f"there is no group of devices {group[:80]!r}: rule {rule or at} matches nothing",
            )
            for one in self.named.values()
            if self.groups is not None
            and (group := one.group_of(rule)) is not None
            and group not in self.groups
        ]

    def concern(self, rule: Rule, name: str) -> Rule:
        """The Accept of that name with its groups."""
        groups = {key: one.group_of(name) for key, one in self.named.items()}
        return replace(rule, via=groups.get(_VIA), mirror=groups.get(_MIRROR))

    def places(self, api: str) -> dict[str, str]:
        """The annotations' field paths, by those of a rule in the API."""
        return {f"{api}.{key}": one.at for key, one in self.named.items()}


def annotations_there(metadata: Fields) -> Iterator[tuple[str, str, str]]:
    """Those that an object has, by the field of rules, with their field paths and texts."""
    found = metadata.mapping("annotations")
    for key in _FIELDS:
        name = f"{_PREFIX}{key}"
        if name in found:
            yield key, metadata.key_path("annotations", name), found[name]


def read_annotations(
    metadata: Fields, rules: Collection[str], groups: Container[str] | None
) -> DeviceAnnotations:
    """Reads them; `rules`: names of the policy's rules with Accept."""
    named = {key: _read(text, at, rules) for key, at, text in annotations_there(metadata)}
    return DeviceAnnotations(named, groups)


def _read(text: str, at: str, rules: Collection[str]) -> _Named:
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
    return _Named(at, others[0] if others else None, by_name, problem)
