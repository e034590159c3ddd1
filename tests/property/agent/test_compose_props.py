"""The table follows from the state, however that came about; changes lead from one to the next."""

from __future__ import annotations

import copy
import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.kernel.nftables.table import Changes, Found, Image
from services.agent.kernel.nftables.table_diff import diff
from services.agent.rules.compose import Composer, LocalInterface
from services.agent.rules.resources import NetworkRules, Resource
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName, NetworkName
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    EndpointRules,
    GroupId,
    GroupPage,
    Mode,
    Packet,
    PolicyName,
    PortMatch,
    Profile,
    Protocol,
    RuleSet,
    RuleSetId,
    Tier,
)

NAMES = [EndpointName(f"e{number}") for number in range(3)]
GROUPS = [GroupId("g1"), GroupId("g2")]
SETS = [RuleSetId(f"{direction}{number}") for direction in ("in", "out") for number in range(2)]


FIRST = ipaddress.ip_address("10.0.0.0")


def _local(number: int, address: int) -> LocalInterface:
    return LocalInterface(f"rom{number}", (FIRST + address,))


@st.composite
def _rule_set(draw: st.DrawFn, identity: RuleSetId) -> RuleSet:
    return RuleSet(
        identity,
        PolicyName(f"p-{identity}"),
        Direction.INGRESS if identity.startswith("in") else Direction.EGRESS,
        draw(st.sampled_from([Tier.ADMIN, Tier.BASELINE])),
        0,
        draw(st.sampled_from(Mode)),
        (
            CompiledRule(
                0,
                draw(st.sampled_from([Action.ALLOW, Action.DENY])),
                groups=tuple(draw(st.sets(st.sampled_from(GROUPS), min_size=1))),
                ports=(
                    PortMatch(Protocol.TCP, 80, draw(st.integers(80, 82))),
                    PortMatch(Protocol.TCP, 99, 99),
                ),
            ),
        ),
    )


@st.composite
def _step(draw: st.DrawFn) -> tuple[str, object, object]:
    kind = draw(st.sampled_from(["local", "shut", "gone", "endpoint", "set", "page", "network"]))
    number = draw(st.integers(0, 2))
    gone = draw(st.integers(0, 3)) == 0
    match kind:
        case "local":
            return kind, NAMES[number], _local(number, draw(st.integers(1, 3)) + 10 * number)
        case "shut" | "gone":
            return kind, NAMES[number], None
        case "endpoint":
            chosen = draw(st.lists(st.sampled_from(SETS), unique=True))
            profile = Profile(
                tuple(one for one in chosen if one.startswith("in")),
                tuple(one for one in chosen if one.startswith("out")),
            )
            known = draw(st.sampled_from(((1, 2, 3), (1, 2, 3), (1,))))
            addresses = tuple(FIRST + each + 10 * number for each in known)
            rules = None if gone else EndpointRules(NAMES[number], addresses, profile)
            return "resource", f"endpoint/{NAMES[number]}", rules
        case "set":
            identity = draw(st.sampled_from(SETS))
            return "resource", f"rules/{identity}", None if gone else draw(_rule_set(identity))
        case "page":
            group, base = draw(st.sampled_from(GROUPS)), 64 * draw(st.integers(0, 1))
            members = 0 if gone else draw(st.integers(1, 7))
            page = GroupPage(group, base, 32, members) if members else None
            return "resource", f"page/{group}/{base:x}", page
        case _:
            network = NetworkRules(
                NetworkName("n"), ipaddress.ip_network("10.0.0.0/8"), draw(st.booleans())
            )
            return "resource", "network/n", None if gone else network


class Kernel:
    """A table that does what it is told, and objects to what the kernel would object to."""

    def __init__(self) -> None:
        self.chains: dict[str, tuple[str, ...]] = {}
        self.image = Image()

    def apply(self, changes: Changes) -> None:
        image = self.image
        assert not changes.counters & image.counters
        image.counters |= changes.counters
        for name, shape in changes.sets.items():
            assert name not in image.sets
            image.sets[name], image.elements[name] = shape, {}
        for name, chain in changes.chains.items():
            assert (name in image.chains) != (name in changes.new_chains)
            image.chains[name] = chain
        for name, items in changes.removed.items():
            for key, chain_name in items.items():
                assert image.elements[name].pop(key) == chain_name
        for name, items in changes.added.items():
            for key, chain_name in items.items():
                assert key not in image.elements[name]
                assert not chain_name or chain_name in image.chains
                image.elements[name][key] = chain_name
        for name in changes.dropped_chains:
            del image.chains[name]
            assert not any(name in items.values() for items in image.elements.values())
        for name in changes.dropped_sets:
            del image.sets[name], image.elements[name]
        image.counters -= set(changes.dropped_counters)

    def found(self) -> Found:
        image = self.image
        return Found(
            {
                name: (chain.base, tuple(rule.tag for rule in chain.rules))
                for name, chain in image.chains.items()
            },
            dict(image.sets),
            frozenset(image.counters),
            image.elements,
        )


def _do(
    composer: Composer,
    resources: dict[str, Resource],
    locals_: dict[EndpointName, LocalInterface],
    kind: str,
    name: str,
    value: object,
) -> None:
    endpoint = EndpointName(name)
    if kind == "local":
        assert isinstance(value, LocalInterface)
        composer.put_local(endpoint, value)
        locals_[endpoint] = value
    elif kind == "shut":
        composer.shut_local(endpoint)
        if endpoint in locals_:
            locals_[endpoint] = LocalInterface(locals_[endpoint].interface)
    elif kind == "gone":
        composer.drop_local(endpoint)
        locals_.pop(endpoint, None)
    elif value is None:
        composer.update({}, [name])
        resources.pop(name, None)
    else:
        composer.update({name: value}, ())  # type: ignore[dict-item]
        resources[name] = value  # type: ignore[assignment]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(_step(), st.just(("refresh", None, None))), max_size=40))
def test_changes_lead_to_what_a_fresh_start_would_make(
    steps: list[tuple[str, object, object]],
) -> None:
    composer, kernel = Composer(Failsafe(), None), Kernel()
    resources: dict[str, Resource] = {}
    locals_: dict[EndpointName, LocalInterface] = {}
    for kind, name, value in [*steps, ("refresh", None, None)]:
        if kind == "refresh":
            kernel.apply(composer.refresh().changes)
        else:
            _do(composer, resources, locals_, kind, str(name), value)
    fresh = Composer(Failsafe(), None)
    fresh.update(resources, ())
    for one, local in locals_.items():
        fresh.put_local(one, local)
    fresh.refresh()
    assert composer.image() == fresh.image()
    assert kernel.image == fresh.image()
    assert not diff(fresh.image(), kernel.found())


@st.composite
def _shared_step(draw: st.DrawFn) -> tuple[str, object, object]:
    """Of endpoints that may have addresses of others, all with the same rules."""
    number = draw(st.integers(0, 2))
    kind = draw(st.sampled_from(["local", "local", "shut", "gone", "endpoint"]))
    if kind == "local":
        return kind, NAMES[number], _local(number, draw(st.integers(1, 2)))
    if kind != "endpoint":
        return kind, NAMES[number], None
    known = tuple(FIRST + each for each in (1, 2))
    rules = None if draw(st.integers(0, 3)) == 0 else EndpointRules(NAMES[number], known, Profile())
    return "resource", f"endpoint/{NAMES[number]}", rules


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(_shared_step(), st.just(("refresh", None, None))), max_size=30))
def test_an_address_is_of_one_of_those_who_have_it(
    steps: list[tuple[str, object, object]],
) -> None:
    composer, kernel = Composer(Failsafe(), None), Kernel()
    resources: dict[str, Resource] = {}
    locals_: dict[EndpointName, LocalInterface] = {}
    for kind, name, value in [*steps, ("refresh", None, None)]:
        if kind == "refresh":
            kernel.apply(composer.refresh().changes)
            assert kernel.image == composer.image()
        else:
            _do(composer, resources, locals_, kind, str(name), value)
    fresh = Composer(Failsafe(), None)
    fresh.update(resources, ())
    for one, local in locals_.items():
        fresh.put_local(one, local)
    fresh.refresh()
    assert composer.image() == fresh.image()  # whose it is makes no difference here


@settings(max_examples=150, deadline=None)
@given(st.lists(_step(), max_size=30), st.lists(_step(), max_size=10))
def test_a_view_is_of_the_last_refresh_whatever_has_come_since(
    before: list[tuple[str, object, object]], after: list[tuple[str, object, object]]
) -> None:
    composer = Composer(Failsafe(), None)
    resources: dict[str, Resource] = {}
    locals_: dict[EndpointName, LocalInterface] = {}
    for kind, name, value in before:
        _do(composer, resources, locals_, kind, str(name), value)
    composer.refresh()
    view = composer.judge()
    expected = copy.deepcopy((view.endpoints, view.rule_sets, view.pages))
    for kind, name, value in after:
        _do(composer, resources, locals_, kind, str(name), value)
    later = composer.judge()
    assert (view.endpoints, view.rule_sets, view.pages) == expected
    assert (later.endpoints, later.rule_sets, later.pages) == expected
    for address in view.endpoints:
        later.denies(Packet(FIRST, address, Protocol.TCP, 80))
        later.denies(Packet(address, FIRST, Protocol.TCP, 80))
