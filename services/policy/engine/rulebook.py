"""Policies, and the rule sets and groups that came of them: made when needed, dropped when idle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from services.common.model.names import NetworkName
from services.common.model.network import Prefix
from services.common.model.rules import CidrBlock, GroupId, PolicyName, RuleSetId
from services.policy.engine.blocks import BlockBook, BlockGroup, BlockSpec
from services.policy.engine.compile import PortName, compile_rules
from services.policy.engine.groups import Group, GroupSpec
from services.policy.engine.isolation import IsolatedBy, policy_of
from services.policy.engine.matching import EndpointMatcher, NodeMatcher
from services.policy.engine.records import PolicyRecord, RuleSetRecord, Side
from services.policy.engine.resources import Resource
from services.policy.engine.selections import EndpointSelection, NodeSelection, Selection
from services.policy.engine.selector import canonical_endpoints, canonical_nodes
from services.policy.engine.subjects import Subject
from services.policy.model import (
    EndpointSelector,
    NodeSelector,
    Policy,
    PolicyNetwork,
)


class RuleBook:
    """What is written, and what came of it."""

    def __init__(self, endpoints: EndpointMatcher, nodes: NodeMatcher, blocks: BlockBook) -> None:
        self.records: dict[PolicyName, PolicyRecord] = {}
        self.groups: dict[GroupId, Group | BlockGroup] = {}
        self.networks: Mapping[NetworkName, PolicyNetwork] = {}
        self.idle: set[RuleSetRecord] = set()
        """Rule sets that perhaps no node needs. Spans add to it."""
        self._endpoints = endpoints
        self._nodes = nodes
        self._blocks = blocks
        self._derived: dict[IsolatedBy, PolicyRecord] = {}
        self._by_network: dict[NetworkName, set[PolicyName]] = {}
        self._rule_sets: dict[RuleSetId, RuleSetRecord] = {}
        self._new: set[RuleSetRecord] = set()
        self._touched: set[Group] = set()
        self._touched_blocks: set[BlockGroup] = set()
        self._loose: set[Selection] = set()
        """Selections that perhaps nothing needs."""

    # Policies.

    def put(self, policy: Policy) -> Iterable[Subject]:
        """Adds or replaces a policy; returns whom it selects or did select."""
        concerned: set[Subject] = set()
        concerned.update(self.drop(policy.name))
        record = self.records[policy.name] = PolicyRecord(policy)
        for network in record.networks:
            self._by_network.setdefault(network, set()).add(policy.name)
        for target in policy.targets:
            selection = self._select(target)
            selection.policies.add(policy.name)
            record.selections.append(selection)
            concerned |= selection.members
        return concerned

    def drop(self, name: PolicyName) -> Iterable[Subject]:
        """Removes a policy, if there is one; returns whom it did select."""
        record = self.records.pop(name, None)
        if record is None:
            return ()
        self.invalidate(record)
        for network in record.networks:
            self._by_network[network].discard(name)
            if not self._by_network[network]:
                del self._by_network[network]
        concerned: set[Subject] = set()
        for selection in record.selections:
            selection.policies.discard(name)
            self._loose.add(selection)
            concerned |= selection.members
        return concerned

    def invalidate(self, record: PolicyRecord) -> None:
        """Has a policy compiled anew when its rules are asked for next."""
        for side in record.sides:
            side.variants.clear()
        self._release_splits(record)

    def naming(self, networks: Iterable[NetworkName]) -> set[PolicyName]:
        """Policies that depend on the CIDR of one of these networks."""
        return set().union(*(self._by_network.get(one, ()) for one in networks))

    def of_name(self, name: PolicyName) -> Iterator[PolicyRecord]:
        """A policy, or those that are derived under that name."""
        if name in self.records:
            yield self.records[name]
        else:
            for isolation, record in self._derived.items():
                if isolation.policy == name:
                    yield record

    # Rule sets.

    def rule_sets_for(self, subject: Subject, isolation: IsolatedBy | None) -> list[RuleSetRecord]:
        """The rule sets by which somebody is judged, of both directions, in their order."""
        names: set[PolicyName] = set()
        for selection in subject.selections:
            if selection.policies:
                names |= selection.policies
        found = []
        records = self.records
        for name in names:
            record = records[name]
            found += [self._rule_set(record, side, subject) for side in record.sides]
        if isolation is not None:
            record = self._derive(isolation)
            found += [self._rule_set(record, side, subject) for side in record.sides]
        if len(found) > 1:
            found.sort(key=_order)
        return found

    def _rule_set(self, record: PolicyRecord, side: Side, subject: Subject) -> RuleSetRecord:
        resolution = side.resolution(subject) if side.names else ()
        found = side.variants.get(resolution)
        if found is None:
            names = dict(zip(side.names, resolution, strict=True))
            around = _Surroundings(self, record)
            derived = record.derived_of is not None
            compiled = compile_rules(record.policy, side.direction, names, around, by_owner=derived)
            identity = compiled.rules.id
            found = self._rule_sets.get(identity)
            if found is None:
                groups = tuple(self._use(one, spec) for one, spec in compiled.groups.items())
                found = RuleSetRecord(compiled.rules, groups, record)
                self._rule_sets[identity] = found
                self._new.add(found)
            found.owner = record
            side.variants[resolution] = found
        return found

    def _derive(self, isolation: IsolatedBy) -> PolicyRecord:
        record = self._derived.get(isolation)
        if record is None:
            record = self._derived[isolation] = PolicyRecord(policy_of(isolation), isolation)
        return record

    # Groups and selections.

    def _use(self, identity: GroupId, spec: GroupSpec | BlockSpec) -> Group | BlockGroup:
        group = self.groups.get(identity)
        if group is None:
            group = self.groups[identity] = self._new_group(identity, spec)
        group.uses += 1
        return group

    def _new_group(self, identity: GroupId, spec: GroupSpec | BlockSpec) -> Group | BlockGroup:
        if isinstance(spec, BlockSpec):
            made = BlockGroup(spec, self._touched_blocks)
            self._blocks.attach(made)
            return made
        group = Group(identity, spec, self._touched)
        self._selection(spec.selector).attach(group)
        return group

    def split(self, record: PolicyRecord, spec: GroupSpec, name: PortName) -> Sequence[int]:
        """What numbers a name stands for; notes that the policy depends on it."""
        selection = self._selection(spec.selector)
        split = selection.split(spec.selector, spec.block, *name)
        split.users.add(record.policy.name)
        record.splits.append((selection, split))
        return split.numbers

    def _release_splits(self, record: PolicyRecord) -> None:
        for selection, split in record.splits:
            split.users.discard(record.policy.name)
            self._loose.add(selection)
        record.splits.clear()

    def _select(self, target: EndpointSelector | NodeSelector) -> Selection:
        if isinstance(target, NodeSelector):
            return self._nodes.acquire(canonical_nodes(target))
        return self._endpoints.acquire(canonical_endpoints(target))

    def _selection(self, selector: EndpointSelector | NodeSelector) -> Selection:
        """Of a selector in canonical form."""
        if isinstance(selector, NodeSelector):
            return self._nodes.acquire(selector)
        return self._endpoints.acquire(selector)

    # Publishing.

    def publish(
        self, put: Callable[[str, str, Resource], None], drop: Callable[[str, str], None]
    ) -> None:
        """Says what is new and different, and drops what nobody needs."""
        maybe = self.idle | self._new
        self.idle.clear()
        new, self._new = self._new, set()
        for one in maybe:
            if not one.nodes and self._rule_sets.get(one.rules.id) is one:
                self._forget(one, drop)
        for one in new:
            if one.nodes:
                one.is_published = True
                put(one.topic, one.topic, one.rules)
        self._settle_selections()
        touched: list[Group | BlockGroup] = [*self._touched, *self._touched_blocks]
        for group in touched:
            for part, value in group.changed_parts():
                if value is None:
                    drop(group.topic, part)
                else:
                    put(group.topic, part, value)
        self._touched.clear()
        self._touched_blocks.clear()

    def _settle_selections(self) -> None:
        for selection in self._loose:
            selection.drop_idle_splits()
            if isinstance(selection, EndpointSelection):
                self._endpoints.settle(selection)
            elif isinstance(selection, NodeSelection):
                self._nodes.settle(selection)
        self._loose.clear()

    def _forget(self, rules: RuleSetRecord, drop: Callable[[str, str], None]) -> None:
        del self._rule_sets[rules.rules.id]
        if rules.is_published:
            drop(rules.topic, rules.topic)
        owner = rules.owner
        for side in owner.sides:
            for resolution in [key for key, one in side.variants.items() if one is rules]:
                del side.variants[resolution]
        if not any(side.variants for side in owner.sides):
            self._release_splits(owner)
            if owner.derived_of is not None and self._derived.get(owner.derived_of) is owner:
                del self._derived[owner.derived_of]
        for group in rules.groups:
            group.uses -= 1
            if not group.uses:
                self._discard(group, drop)

    def _discard(self, group: Group | BlockGroup, drop: Callable[[str, str], None]) -> None:
        del self.groups[group.id]
        if isinstance(group, BlockGroup):
            self._touched_blocks.discard(group)
            self._blocks.detach(group)
        else:
            self._touched.discard(group)
            selection = self._selection(group.spec.selector)
            selection.groups = tuple(one for one in selection.groups if one is not group)
            self._loose.add(selection)
        for part in group.published_parts():
            drop(group.topic, part)


class _Surroundings:
    """What the rules of a policy depend on."""

    def __init__(self, book: RuleBook, record: PolicyRecord) -> None:
        self._book = book
        self._record = record

    def cidr_of(self, network: NetworkName) -> Prefix | None:
        """A network's CIDR; None: there is no such network."""
        there = self._book.networks.get(network)
        return None if there is None else there.cidr

    def numbers(
        self, selector: EndpointSelector, block: CidrBlock | None, name: PortName
    ) -> Sequence[int]:
        """What numbers a port's name stands for among endpoints, in order."""
        return self._book.split(self._record, GroupSpec(selector, block), name)


def _order(record: RuleSetRecord) -> tuple[int, int, str, str]:
    return record.order
