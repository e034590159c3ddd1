"""The table follows from the state, however that came about; changes lead from one to the next."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.kernel.nftables.table import Changes, Found, Image
from services.agent.rules.compose import Composer, Local
from services.agent.rules.diff import diff
from services.agent.rules.failsafe import Failsafe
from services.agent.rules.resources import NetworkRules, Resource
from services.common.model.names import EndpointName, NetworkName
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    EndpointRules,
    GroupId,
    GroupPage,
    Mode,
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


def _local(number: int, address: int) -> Local:
    return Local(f"rom{number}", (FIRST + address,))


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


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(_step(), st.just(("refresh", None, None))), max_size=40))
def test_changes_lead_to_what_a_fresh_start_would_make(
    steps: list[tuple[str, object, object]],
) -> None:
    composer, kernel = Composer(Failsafe(), None), Kernel()
    resources: dict[str, Resource] = {}
    locals_: dict[EndpointName, Local] = {}
    for kind, name, value in [*steps, ("refresh", None, None)]:
        if kind == "refresh":
            kernel.apply(composer.refresh().changes)
        elif kind == "local":
            assert isinstance(value, Local)
            composer.put_local(EndpointName(str(name)), value)
            locals_[EndpointName(str(name))] = value
        elif kind == "shut":
            composer.shut_local(EndpointName(str(name)))
            if EndpointName(str(name)) in locals_:
                before = locals_[EndpointName(str(name))]
                locals_[EndpointName(str(name))] = Local(before.interface)
        elif kind == "gone":
            composer.drop_local(EndpointName(str(name)))
            locals_.pop(EndpointName(str(name)), None)
        elif value is None:
            composer.update({}, [str(name)])
            resources.pop(str(name), None)
        else:
            composer.update({str(name): value}, ())  # type: ignore[dict-item]
            resources[str(name)] = value  # type: ignore[assignment]
    fresh = Composer(Failsafe(), None)
    fresh.update(resources, ())
    for one, local in locals_.items():
        fresh.put_local(one, local)
    fresh.refresh()
    assert composer.image() == fresh.image()
    assert kernel.image == fresh.image()
    assert not diff(fresh.image(), kernel.found())
