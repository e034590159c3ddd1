"""Where nodes are: on which networks, and in which group of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.common.model.names import GroupPath, NetworkName, NodeName

LABEL_MOST: Final = 63
"""Characters of a label's value."""


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
        is too long for that."""
        group = next(iter(self.groups.values()), None)
        text = None if group is None else group.replace("/", ".")
        return None if text is None or len(text) > LABEL_MOST else text


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
