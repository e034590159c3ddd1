"""Where nodes are: on which networks, and in which group of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from services.common.model.names import GroupPath, NetworkName, NodeName, labels
from services.kubernetes.objects.nodes import GROUP_LABEL


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is."""

    groups: Mapping[NetworkName, GroupPath]
    """By the networks that it is on, in file order."""
    unplaced: frozenset[NetworkName] = frozenset()
    """Networks of which its labels fit no group."""
    cordoned: bool = False
    """It gets no new addresses."""

    @property
    def label(self) -> str | None:
        """Its group on the first of them, as a label's value; None: it has none, or one whose path
        is none, as names of groups may have blanks and colons."""
        group = next(iter(self.groups.values()), None)
        return None if group is None else _label(group)


@lru_cache(maxsize=4096)
def _label(group: GroupPath) -> str | None:
    text = group.replace("/", ".")
    return None if any(labels({GROUP_LABEL: text}, "")) else text


class Kinds:
    """Makes places, the same one for all nodes of a kind: who judges thousands of nodes judges each
    kind once."""

    def __init__(self) -> None:
        self._known: dict[object, Place] = {}

    def place(
        self,
        groups: Mapping[NetworkName, GroupPath],
        unplaced: frozenset[NetworkName] = frozenset(),
        *,
        cordoned: bool = False,
    ) -> Place:
        key = (tuple(groups.items()), unplaced, cordoned)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Place(groups, unplaced, cordoned)
        return known


@dataclass(frozen=True, slots=True)
class Places:
    """Of all nodes."""

    nodes: Mapping[NodeName, Place] = field(default_factory=dict)
