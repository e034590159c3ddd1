"""The engine: agrees with a naive interpreter, and what it says depends on the state alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.common.model.judging import judge
from services.common.model.names import NodeName
from services.common.model.network import Address, Prefix
from services.common.model.rules import (
    Action,
    Direction,
    EndpointRules,
    GroupBlock,
    GroupId,
    GroupPage,
    NodeRules,
    Packet,
    Profile,
    RuleSet,
)
from services.policy.engine.blocks import OwnedBlock
from services.policy.engine.engine import Engine
from services.policy.engine.resources import Changes, Resource
from services.policy.model import Endpoint, Policy, PolicyNode, TenantRecord
from tests.support import policy_worlds as worlds
from tests.support.policy_naive import World


@dataclass(slots=True)
class Told:
    """What a source of topics has, and what a node sees of it."""

    topics: dict[str, dict[str, Resource]] = field(default_factory=dict)
    spans: dict[NodeName, frozenset[str]] = field(default_factory=dict)

    def apply(self, changes: Changes) -> None:
        assert not {one[:2] for one in changes.put} & set(changes.dropped)
        for topic, identity in changes.dropped:
            del self.topics[topic][identity]  # was there
            if not self.topics[topic]:
                del self.topics[topic]
        for topic, identity, value in changes.put:
            self.topics.setdefault(topic, {})[identity] = value
        for node, topics in changes.spans.items():
            if topics is None:
                self.spans.pop(node, None)
            else:
                self.spans[node] = topics

    def seen_by(self, node: NodeName) -> NodeView:
        found: dict[str, Resource] = {}
        for topic in self.spans[node]:
            found.update(self.topics.get(topic, {}))
        return NodeView(found)


@dataclass(frozen=True, slots=True)
class NodeView:
    """Judges by the resources that a node has, as its agent does."""

    resources: Mapping[str, Resource]

    def is_allowed(self, identity: str, direction: Direction, packet: Packet) -> bool:
        there = self.resources.get(identity)
        assert isinstance(there, EndpointRules | NodeRules) or there is None
        profile = Profile() if there is None else there.profile
        asked = [self.rule_set(one) for one in profile.of(direction)]
        assert asked == sorted(asked, key=lambda one: one.order)
        return judge(asked, packet, self.is_member).action is Action.ALLOW

    def rule_set(self, identity: str) -> RuleSet:
        found = self.resources[f"rules/{identity}"]
        assert isinstance(found, RuleSet)
        return found

    def is_member(self, group: GroupId, address: Address) -> bool:
        if any(
            isinstance(one, GroupBlock) and one.group == group and address in one.cidr
            for one in self.resources.values()
        ):
            return True
        base, bits = int(address) >> 6 << 6, address.max_prefixlen
        page = self.resources.get(f"page/{group}/{base:0{bits // 4}x}")
        assert isinstance(page, GroupPage | None)
        if page is None:
            return False
        assert (page.group, page.base, page.bits) == (group, base, bits)
        assert 0 < page.members < 1 << 64
        return bool(page.members >> (int(address) - base) & 1)


class Run:
    """A world and an engine that is told of every change to it."""

    def __init__(self) -> None:
        self.world = World()
        self.engine = Engine()
        self.told = Told()

    def take(self) -> None:
        self.told.apply(self.engine.drain_changes())

    def check_nobody_else_matters(self) -> None:
        """What was said in all is what an engine says that has only seen the end."""
        self.take()
        fresh = Told()
        fresh.apply(built(self.world).drain_changes())
        assert self.told.topics == fresh.topics
        assert self.told.spans == fresh.spans

    def check_nothing_is_left(self) -> None:
        """Once all is dropped nothing is kept of it."""
        for kind, plural in _PLURAL.items():
            for name in list(getattr(self.world, plural)):
                drop(kind, name, self)
        set_networks({}, self)
        for cidr in list(self.world.blocks):
            set_block(cidr, None, self)
        self.take()
        assert (self.told.topics, self.told.spans) == ({}, {})
        kept = {
            f"{type(part).__name__}.{name}": value
            for part in parts_of(self.engine)
            for name, value in vars(part).items()
            if isinstance(value, dict | set)
        }
        assert not any(kept.values()), kept

    def check(self, packet: Packet) -> None:
        """Every node and the engine's own answers agree with the interpreter."""
        self.take()
        views = {node: self.told.seen_by(node) for node in self.told.spans}
        for direction in Direction:
            own = packet.destination if direction is Direction.INGRESS else packet.source
            subject: Endpoint | PolicyNode
            for subject in self.world.endpoints.values():
                if own in subject.addresses:
                    wanted = self.world.is_allowed(subject, direction, packet)
                    asked = self.engine.rule_sets(subject.name, direction)
                    assert self._judge(asked, packet) is wanted
                    if subject.node in views:
                        view = views[subject.node]
                        identity = f"endpoint/{subject.name}"
                        assert identity in view.resources
                        assert view.is_allowed(identity, direction, packet) is wanted
            for subject in self.world.nodes.values():
                if own in subject.addresses:
                    wanted = self.world.is_allowed(subject, direction, packet)
                    asked = self.engine.node_rule_sets(subject.name, direction)
                    assert self._judge(asked, packet) is wanted
                    view = views[subject.name]
                    assert view.is_allowed(f"node/{subject.name}", direction, packet) is wanted

    def _judge(self, asked: Iterable[RuleSet], packet: Packet) -> bool:
        return judge(asked, packet, self.engine.is_member).action is Action.ALLOW


def parts_of(engine: Engine) -> list[object]:
    endpoints = engine._endpoints
    return [engine, engine._book, engine._blocks, endpoints, endpoints.tenants, engine._nodes]


def built(world: World) -> Engine:
    """An engine that is told all at once, in another order than most runs."""
    engine = Engine()
    for policy in world.policies.values():
        engine.put_policy(policy)
    for endpoint in world.endpoints.values():
        engine.put_endpoint(endpoint)
    for tenant in world.tenants.values():
        engine.put_tenant(tenant)
    for node in world.nodes.values():
        engine.put_node(node)
    for cidr, owned in world.blocks.items():
        engine.set_block(cidr, owned)
    engine.set_networks(world.networks)
    return engine


Step = Callable[[Run], None]


def put(kind: str, value: object, run: Run) -> None:
    getattr(run.world, _PLURAL[kind])[value.name] = value  # type: ignore[attr-defined]
    getattr(run.engine, f"put_{kind}")(value)


def drop(kind: str, name: str, run: Run) -> None:
    getattr(run.world, _PLURAL[kind]).pop(name, None)
    getattr(run.engine, f"drop_{kind}")(name)


_PLURAL = {"policy": "policies", "tenant": "tenants", "endpoint": "endpoints", "node": "nodes"}


def set_networks(networks: dict[object, object], run: Run) -> None:
    run.world.networks = networks  # type: ignore[assignment]
    run.engine.set_networks(networks)  # type: ignore[arg-type]


def set_block(cidr: Prefix, owned: OwnedBlock | None, run: Run) -> None:
    if owned is None:
        run.world.blocks.pop(cidr, None)
    else:
        run.world.blocks[cidr] = owned
    run.engine.set_block(cidr, owned)


def ask(endpoint: str, run: Run) -> None:
    """Between two `take`s, so that there are rule sets which no node ever needs."""
    run.engine.rule_sets(endpoint, Direction.INGRESS)  # type: ignore[arg-type]


def puts() -> list[st.SearchStrategy[Step]]:
    return [
        st.builds(lambda value, kind=kind: partial(put, kind, value), values)
        for kind, values in (
            ("policy", worlds.policies()),
            ("endpoint", worlds.endpoints),
            ("endpoint", worlds.endpoints),
            ("tenant", worlds.tenants),
            ("node", worlds.nodes),
        )
    ]


def steps() -> st.SearchStrategy[Step]:
    return st.one_of(
        *puts(),
        *(
            st.builds(lambda name, kind=kind: partial(drop, kind, name), st.sampled_from(names))
            for kind, names in (
                ("policy", worlds.POLICIES),
                ("endpoint", worlds.ENDPOINTS),
                ("tenant", worlds.TENANTS),
                ("node", worlds.NODES),
            )
        ),
        worlds.networks().map(lambda those: partial(set_networks, those)),
        worlds.owned_blocks.map(lambda one: partial(set_block, one.cidr, one)),
        st.sampled_from(worlds.OWNED).map(lambda cidr: partial(set_block, cidr, None)),
        st.sampled_from(worlds.ENDPOINTS).map(lambda name: partial(ask, name)),
        st.just(Run.take),
    )


@st.composite
def started(draw: st.DrawFn) -> Run:
    """A world with something in it."""
    run = Run()
    set_networks(draw(worlds.networks()), run)  # type: ignore[arg-type]
    for kind, values, most in (
        ("node", worlds.nodes, 3),
        ("endpoint", worlds.endpoints, 6),
        ("tenant", worlds.tenants, 3),
        ("policy", worlds.policies(), 4),
    ):
        for value in draw(st.lists(values, max_size=most)):
            put(kind, value, run)
    for owned in draw(st.lists(worlds.owned_blocks, max_size=4)):
        set_block(owned.cidr, owned, run)
    return run


_SLOW = settings(
    deadline=None,
    max_examples=100,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_SLOW
@given(started(), st.lists(worlds.packets(), min_size=20, max_size=20))
def test_rules_agree_with_a_naive_interpreter(run: Run, packets: list[Packet]) -> None:
    for packet in packets:
        run.check(packet)


@_SLOW
@given(
    worlds.networks(),
    st.lists(worlds.endpoints, min_size=1, max_size=3),
    st.lists(worlds.tenants, max_size=2),
    st.lists(worlds.owned_blocks, min_size=2, max_size=5),
    worlds.denying_policies,
    st.lists(worlds.packets(), min_size=40, max_size=40),
)
def test_whom_nobody_has_told_of_is_denied_like_those_who_may_be_there(
    networks: dict[object, object],
    endpoints: list[Endpoint],
    tenants: list[TenantRecord],
    blocks: list[OwnedBlock],
    policy: Policy,
    packets: list[Packet],
) -> None:
    run = Run()
    set_networks(networks, run)
    for one in blocks:
        set_block(one.cidr, one, run)
    for kind, values in (("tenant", tenants), ("endpoint", endpoints), ("policy", [policy])):
        for value in values:
            put(kind, value, run)
    for packet in packets:
        run.check(packet)


@_SLOW
@given(started(), st.lists(steps(), max_size=25), st.lists(worlds.packets(), max_size=5))
def test_what_is_said_depends_on_the_state_alone(
    run: Run, taken: list[Step], packets: list[Packet]
) -> None:
    run.take()
    for step in taken:
        step(run)
    run.check_nobody_else_matters()
    for packet in packets:
        run.check(packet)
    run.check_nothing_is_left()
