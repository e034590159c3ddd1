"""Policies as the engine keeps them, with the rule sets that came of them."""

from __future__ import annotations

from services.common.model.rules import Direction, RuleSet
from services.policy.engine.blocks import BlockGroup
from services.policy.engine.compile import PortName, Resolution, networks_in, port_names
from services.policy.engine.groups import Group, Split
from services.policy.engine.isolation import IsolatedBy
from services.policy.engine.selections import Selection
from services.policy.engine.subjects import Subject
from services.policy.model import Policy, Rule


class RuleSetRecord:
    """A rule set, the policy that it came of, and who needs it."""

    __slots__ = ("groups", "is_published", "nodes", "order", "owner", "rules", "topic")

    def __init__(
        self, rules: RuleSet, groups: tuple[Group | BlockGroup, ...], owner: PolicyRecord
    ) -> None:
        self.rules = rules
        self.groups = groups
        self.owner = owner
        self.topic = f"rules/{rules.id}"
        self.order = rules.order
        self.nodes = 0
        """That need it."""
        self.is_published = False
        """It was handed out."""


class Side:
    """A direction that a policy governs."""

    __slots__ = ("direction", "is_ingress", "names", "variants")

    def __init__(self, direction: Direction, rules: tuple[Rule, ...]) -> None:
        self.direction = direction
        self.is_ingress = direction is Direction.INGRESS
        self.names: tuple[PortName, ...] = port_names(rules) if self.is_ingress else ()
        """Port names that are resolved by the target's ports."""
        self.variants: dict[Resolution, RuleSetRecord] = {}
        """Those in use, by what the names stand for."""

    def resolution(self, subject: Subject) -> Resolution:
        """What the names stand for where the target is this one."""
        if not self.names:
            return ()
        return tuple(tuple(subject.numbers(protocol, name)) for protocol, name in self.names)


class PolicyRecord:
    """A policy, as written or derived."""

    __slots__ = ("derived_of", "networks", "policy", "selections", "sides", "splits")

    def __init__(self, policy: Policy, derived_of: IsolatedBy | None = None) -> None:
        self.policy = policy
        self.derived_of = derived_of
        self.sides = tuple(Side(direction, rules) for direction, rules in policy.rules.items())
        self.networks = networks_in(policy)
        self.selections: list[Selection] = []
        """Of its targets."""
        self.splits: list[tuple[Selection, Split]] = []
        """On which its rules depend."""

    @property
    def rule_sets(self) -> set[RuleSetRecord]:
        """All that came of it and are in use."""
        return {one for side in self.sides for one in side.variants.values()}
