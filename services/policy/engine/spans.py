"""What each node needs of rule sets and of their groups."""

from __future__ import annotations

from collections.abc import Iterable

from services.common.model.names import NodeName
from services.policy.engine.blocks import BlockGroup
from services.policy.engine.groups import Group
from services.policy.engine.records import RuleSetRecord
from services.policy.engine.resources import NETWORKS, node_topic


class Span:
    """What a node needs, known or not."""

    __slots__ = (
        "_groups",
        "_idle",
        "_moved",
        "_rule_sets",
        "_topics",
        "endpoints",
        "name",
        "topic",
    )

    def __init__(self, name: NodeName, moved: set[Span], idle: set[RuleSetRecord]) -> None:
        """`moved`, `idle`: where it says that it has other topics, and what no node needs now."""
        self.name = name
        self.topic = node_topic(name)
        self.endpoints = 0
        """That are attached to it."""
        self._rule_sets: dict[RuleSetRecord, int] = {}
        """How many of its endpoints, and itself, are judged by them."""
        self._groups: dict[Group | BlockGroup, int] = {}
        """In how many of its rule sets they are."""
        self._topics = {NETWORKS, self.topic}
        self._moved = moved
        self._idle = idle

    @property
    def topics(self) -> frozenset[str]:
        """What it has to follow."""
        return frozenset(self._topics)

    @property
    def is_empty(self) -> bool:
        return not (self.endpoints or self._rule_sets)

    def needs(self, rule_sets: Iterable[RuleSetRecord]) -> bool:
        return any(one in self._rule_sets for one in rule_sets)

    def add(self, rule_sets: Iterable[RuleSetRecord]) -> None:
        """Somebody there is judged by these."""
        counts = self._rule_sets
        for one in rule_sets:
            count = counts.get(one, 0)
            counts[one] = count + 1
            if count:
                continue
            one.nodes += 1
            self._moved.add(self)
            self._topics.add(one.topic)
            for group in one.groups:
                there = self._groups.get(group, 0)
                self._groups[group] = there + 1
                if not there:
                    self._topics.add(group.topic)

    def remove(self, rule_sets: Iterable[RuleSetRecord]) -> None:
        """Somebody there is no longer judged by these."""
        counts = self._rule_sets
        for one in rule_sets:
            count = counts[one] - 1
            if count:
                counts[one] = count
                continue
            del counts[one]
            one.nodes -= 1
            if not one.nodes:
                self._idle.add(one)
            self._moved.add(self)
            self._topics.discard(one.topic)
            for group in one.groups:
                there = self._groups[group] - 1
                if there:
                    self._groups[group] = there
                else:
                    del self._groups[group]
                    self._topics.discard(group.topic)
