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


@dataclass(frozen=True, slots=True)
class Places:
    """Of all nodes."""

    nodes: Mapping[NodeName, Place] = field(default_factory=dict)
