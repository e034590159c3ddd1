"""Keeps what nodes enforce equal to what is written and known: pure and incremental.

A change does little at once: it is noted whom it concerns. `take`, and every question, then
recomputes that, and `take` hands out what is different. What it has handed out in all is a function
of the state alone, whatever came before: ids are hashes of content, and what nobody needs is
dropped by the next `take`.

One change costs as much as what it concerns: the endpoints whose rules it changes, the selectors
that may select an endpoint that changed, and the pages of groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.model.devices import DeviceGroupName, DeviceRules
from services.common.model.judging import IsMember
from services.common.model.names import EndpointName, NetworkName, NodeName, Tenant
from services.common.model.network import Address, Isolation, Prefix
from services.common.model.rules import (
    Direction,
    EndpointRules,
    GroupId,
    NodeRules,
    PolicyName,
    Profile,
    RuleSet,
)
from services.policy.engine.addresses import NetworkMap, key_of
from services.policy.engine.blocks import BlockBook, OwnedBlock
from services.policy.engine.isolation import IsolatedBy, isolated_by
from services.policy.engine.matching import Effects, EndpointMatcher, NodeMatcher
from services.policy.engine.records import RuleSetRecord
from services.policy.engine.resources import (
    NETWORKS,
    Changes,
    Resource,
    WantedEndpoint,
    node_topic,
)
from services.policy.engine.rulebook import RuleBook
from services.policy.engine.spans import Span
from services.policy.engine.subjects import EndpointEntry, NodeEntry, Subject
from services.policy.model import Endpoint, Policy, PolicyNetwork, PolicyNode, TenantRecord

_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Held:
    """What an endpoint has its node hold."""

    span: Span
    """The node's."""
    rule_sets: tuple[RuleSetRecord, ...]
    """Both directions'."""


class Engine:
    """Policies, tenants, endpoints, networks and nodes, and what comes of them."""

    def __init__(self) -> None:
        self._effects = Effects()
        self._endpoints = EndpointMatcher(self._effects)
        self._nodes = NodeMatcher(self._effects)
        self._blocks = BlockBook(self._labels_of)
        self._book = RuleBook(self._endpoints, self._nodes, self._blocks)
        self._tenants: dict[Tenant, TenantRecord] = {}
        self._networks: Mapping[NetworkName, PolicyNetwork] = {}
        self._devices: Mapping[DeviceGroupName, DeviceRules] = {}
        self._isolates = False
        """Some network keeps endpoints apart."""
        self._spans: dict[NodeName, Span] = {}
        self._held: dict[EndpointEntry, Mapping[NodeName, _Held]] = {}
        self._held_by_nodes: dict[NodeEntry, tuple[RuleSetRecord, ...]] = {}
        self._moved: set[Span] = set()
        self._published: dict[tuple[str, str], Resource] = {}
        """Endpoints, nodes, networks and devices that were handed out, by topic and id."""
        self._new: dict[tuple[str, str], Resource | None] = {}
        """What they are now, since the last `drain_changes`; None: they are not there."""
        self._wanted: dict[EndpointName, str] = {}
        """Topics of what is to be attached."""

    # What changes.

    def put_policy(self, policy: Policy) -> None:
        had = self._book.records.get(policy.name)
        if had is None or had.policy != policy:
            self._concern(self._book.put(policy))

    def drop_policy(self, name: PolicyName) -> None:
        """Removes a policy, if there is one."""
        self._concern(self._book.drop(name))

    def put_tenant(self, tenant: TenantRecord) -> None:
        """Adds or replaces what is known of a tenant."""
        if self._tenants.get(tenant.name) != tenant:
            self._tenants[tenant.name] = tenant
            self._endpoints.put_tenant(tenant)
            self._blocks.tenant_changed(tenant.name)

    def drop_tenant(self, name: Tenant) -> None:
        """Forgets what is known of a tenant, if anything is. Its endpoints stay."""
        if self._tenants.pop(name, None) is not None:
            self._endpoints.put_tenant(TenantRecord(name))
            self._blocks.tenant_changed(name)

    def put_endpoint(self, endpoint: Endpoint) -> None:
        """Adds or replaces an endpoint; without addresses it is not attached."""
        had = self._endpoints.entries.get(endpoint.name)
        if had is None or had.endpoint != endpoint:
            self._want(endpoint.name, endpoint)
            self._endpoints.put(endpoint)

    def drop_endpoint(self, name: EndpointName) -> None:
        """Removes an endpoint, if there is one."""
        if name in self._endpoints.entries:
            self._want(name, None)
            self._retire(self._endpoints.drop(name))

    def set_block(self, cidr: Prefix, owned: OwnedBlock | None) -> None:
        """Says whose a block is; None: nobody's."""
        if owned is None:
            self._blocks.drop(cidr)
        else:
            self._blocks.put(owned)

    def set_networks(self, networks: Mapping[NetworkName, PolicyNetwork]) -> None:
        """Says which networks there are. They do not overlap. Costs as much as all endpoints."""
        had = self._networks
        other = [name for name in {*had, *networks} if had.get(name) != networks.get(name)]
        if not other:
            return
        self._networks = self._book.networks = dict(networks)
        for name in other:
            network = networks.get(name)
            self._new[NETWORKS, f"network/{name}"] = network
        self._endpoints.set_networks(NetworkMap({one.name: one.cidr for one in networks.values()}))
        self._effects.outdated |= self._book.naming(other)
        isolated = self._isolates
        self._isolates = any(one.isolation is not Isolation.NONE for one in networks.values())
        if isolated or self._isolates:
            self._effects.endpoints.update(self._endpoints.entries.values())

    def set_devices(self, devices: Mapping[DeviceGroupName, DeviceRules]) -> None:
        """Says which groups of devices there are, and how they are."""
        had, self._devices = self._devices, dict(devices)
        for name in {*had, *devices}:
            group = devices.get(name)
            if had.get(name) != group:
                self._new[NETWORKS, f"device/{name}"] = group

    def put_node(self, node: PolicyNode) -> None:
        had = self._nodes.entries.get(node.name)
        if had is None or had.node != node:
            self._nodes.put(node)
            if had is None:
                self._moved.add(self._span(node.name))

    def drop_node(self, name: NodeName) -> None:
        """Removes a node, if there is one. Its endpoints stay."""
        if name in self._nodes.entries:
            entry = self._nodes.drop(name)
            span = self._span(name)
            span.remove(self._held_by_nodes.pop(entry, ()))
            self._moved.add(span)
            self._new[span.topic, f"node/{name}"] = None

    def drain_changes(self) -> Changes:
        """What topics hold now, as far as it is different since the last time."""
        self._settle()
        put: list[tuple[str, str, Resource]] = []
        dropped: list[tuple[str, str]] = []
        for key, now in self._new.items():
            if now == self._published.get(key):
                continue
            if now is None:
                del self._published[key]
                dropped.append(key)
            else:
                self._published[key] = now
                put.append((*key, now))
        self._new.clear()
        self._book.publish(
            lambda topic, identity, value: put.append((topic, identity, value)),
            lambda topic, identity: dropped.append((topic, identity)),
        )
        spans: dict[NodeName, frozenset[str] | None] = {}
        for span in self._moved:
            known = span.name in self._nodes.entries
            spans[span.name] = span.topics if known else None
            if not known and span.is_empty:
                del self._spans[span.name]
        self._moved.clear()
        return Changes(put, dropped, spans)

    # Questions.

    @property
    def policies(self) -> Mapping[PolicyName, Policy]:
        """What is written, by name."""
        return _Values(self._book.records, lambda record: record.policy)

    @property
    def tenants(self) -> Mapping[Tenant, TenantRecord]:
        """What was said of tenants, by name."""
        return self._tenants

    @property
    def endpoints(self) -> Mapping[EndpointName, Endpoint]:
        """Endpoints, attached or not, by name."""
        return _Values(self._endpoints.entries, lambda entry: entry.endpoint)

    @property
    def networks(self) -> Mapping[NetworkName, PolicyNetwork]:
        return self._networks

    @property
    def devices(self) -> Mapping[DeviceGroupName, DeviceRules]:
        """Groups of devices as nodes use them, by name."""
        return self._devices

    @property
    def nodes(self) -> Mapping[NodeName, PolicyNode]:
        return _Values(self._nodes.entries, lambda entry: entry.node)

    def endpoint_at(self, address: Address) -> Endpoint | None:
        """The endpoint that has an address; of several the first by name."""
        return min(
            (
                entry.endpoint
                for entry in self._endpoints.holders.of(key_of(address))
                if isinstance(entry, EndpointEntry)
            ),
            key=lambda endpoint: endpoint.name,
            default=None,
        )

    def rule_sets(self, endpoint: EndpointName, direction: Direction) -> Sequence[RuleSet]:
        """The rule sets by which an endpoint is judged, attached or not, in their order; audited
        ones too. None if it is not known."""
        self._settle()
        entry = self._endpoints.entries.get(endpoint)
        rule_sets = (
            () if entry is None else self._book.rule_sets_for(entry, self._isolated_by(entry))
        )
        return [one.rules for one in rule_sets if one.rules.direction is direction]

    def node_rule_sets(self, node: NodeName, direction: Direction) -> Sequence[RuleSet]:
        """The same of a node itself."""
        self._settle()
        entry = self._nodes.entries.get(node)
        rule_sets = () if entry is None else self._book.rule_sets_for(entry, None)
        return [one.rules for one in rule_sets if one.rules.direction is direction]

    def is_member(self, group: GroupId, address: Address) -> bool:
        """Says whether an address is in a group that a rule set of the answers above names."""
        self._settle()
        there = self._book.groups.get(group)
        return there is not None and key_of(address) in there

    def members_of(self, rule_sets: Iterable[RuleSet]) -> IsMember:
        """The same of all groups that these name, as they are now: for another thread."""
        self._settle()
        named = {name for one in rule_sets for rule in one.rules for name in rule.named_groups}
        groups = self._book.groups
        known = {name: groups[name].as_it_is() for name in named if name in groups}
        return lambda group, address: group in known and known[group](key_of(address))

    def nodes_needing(self, policy: PolicyName) -> set[NodeName]:
        """Known nodes that enforce something that came of a policy. Asks every node."""
        self._settle()
        rule_sets = {one for record in self._book.of_name(policy) for one in record.rule_sets}
        return {
            name
            for name, span in self._spans.items()
            if name in self._nodes.entries and span.needs(rule_sets)
        }

    # How it is done.

    def _labels_of(self, tenant: Tenant) -> Mapping[str, str]:
        known = self._tenants.get(tenant)
        return known.labels if known is not None else {}

    def _concern(self, subjects: Iterable[Subject]) -> None:
        for subject in subjects:
            if isinstance(subject, EndpointEntry):
                self._effects.endpoints.add(subject)
            elif isinstance(subject, NodeEntry):
                self._effects.nodes.add(subject)

    def _settle(self) -> None:
        effects = self._effects
        for name in effects.outdated:
            record = self._book.records.get(name)
            if record is not None:
                self._book.invalidate(record)
                for selection in record.selections:
                    self._concern(selection.members)
        effects.outdated.clear()
        if effects.endpoints:
            endpoints, effects.endpoints = effects.endpoints, set()
            for entry in endpoints:
                self._judge_endpoint(entry)
        if effects.nodes:
            nodes, effects.nodes = effects.nodes, set()
            for node in nodes:
                self._judge_node(node)

    def _judge_endpoint(self, entry: EndpointEntry) -> None:
        endpoint = entry.endpoint
        if endpoint.node is None or not endpoint.addresses:
            self._retire(entry)
            return
        rule_sets = tuple(self._book.rule_sets_for(entry, self._isolated_by(entry)))
        instances = {**dict(endpoint.arriving), endpoint.node: endpoint.instance}
        now = {node: _Held(self._span(node), rule_sets) for node in instances}
        if now != self._held.get(entry):
            for held in now.values():
                held.span.add(rule_sets)
                held.span.endpoints += 1
            self._leave_spans(entry)
            self._held[entry] = now
        profile = _profile(rule_sets)
        for node, instance in instances.items():
            rules = EndpointRules(endpoint.name, endpoint.addresses, profile, instance)
            self._new[now[node].span.topic, f"endpoint/{endpoint.name}"] = rules

    def _want(self, name: EndpointName, endpoint: Endpoint | None) -> None:
        """Tells a node what it is to attach, and one that is not to any more."""
        identity = f"wanted/{name}"
        wanted = None if endpoint is None else endpoint.wanted
        if endpoint is not None and wanted is not None:
            said = WantedEndpoint(name, endpoint.tenant, endpoint.segment, endpoint.labels, wanted)
            topic = node_topic(wanted.node)
            self._new[topic, identity] = said
            before = self._wanted.get(name)
            self._wanted[name] = topic
        else:
            topic = ""
            before = self._wanted.pop(name, None)
        if before is not None and before != topic:
            self._new[before, identity] = None

    def _retire(self, entry: EndpointEntry) -> None:
        """Takes the rules of an endpoint that is not attached any more from its nodes."""
        self._leave_spans(entry)

    def _leave_spans(self, entry: EndpointEntry) -> None:
        for held in self._held.pop(entry, {}).values():
            self._new[held.span.topic, f"endpoint/{entry.endpoint.name}"] = None
            held.span.endpoints -= 1
            held.span.remove(held.rule_sets)
            if held.span.is_empty:
                self._moved.add(held.span)  # an unknown node is forgotten

    def _judge_node(self, entry: NodeEntry) -> None:
        rule_sets = tuple(self._book.rule_sets_for(entry, None))
        span = self._span(entry.name)
        held = self._held_by_nodes.get(entry, ())
        if rule_sets != held:
            span.add(rule_sets)
            span.remove(held)
            self._held_by_nodes[entry] = rule_sets
        identity = f"node/{entry.name}"
        rules = NodeRules(entry.name, _profile(rule_sets))
        self._new[span.topic, identity] = rules if rule_sets else None

    def _isolated_by(self, entry: EndpointEntry) -> IsolatedBy | None:
        tenant = entry.tenant.record
        if tenant.isolation is None and not self._isolates:
            return None
        networks = [self._networks[name] for name in set(entry.networks) if name is not None]
        return isolated_by(tenant, entry.endpoint.segment, networks)

    def _span(self, node: NodeName) -> Span:
        span = self._spans.get(node)
        if span is None:
            span = self._spans[node] = Span(node, self._moved, self._book.idle)
        return span


def _profile(rule_sets: Sequence[RuleSetRecord]) -> Profile:
    return Profile(
        tuple(one.rules.id for one in rule_sets if one.rules.direction is Direction.INGRESS),
        tuple(one.rules.id for one in rule_sets if one.rules.direction is Direction.EGRESS),
    )


class _Values(Mapping[_Key, _Value], Generic[_Key, _Kept, _Value]):
    """What is kept, seen as what was put."""

    def __init__(self, kept: Mapping[_Key, _Kept], value: Callable[[_Kept], _Value]) -> None:
        self._kept = kept
        self._value = value

    def __getitem__(self, key: _Key) -> _Value:
        return self._value(self._kept[key])

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)
