"""The engine: what one change touches, and what is handed out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from services.common.model.judging import judge
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Isolation
from services.common.model.rules import (
    MAX_PRIORITY,
    Action,
    Direction,
    EndpointRules,
    GroupPage,
    Packet,
    PolicyName,
    PortMatch,
    Protocol,
    RuleSet,
    Tier,
)
from services.policy.engine.engine import Engine
from services.policy.engine.selections import EndpointSelection
from services.policy.model import (
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NamedPort,
    NetworkPeer,
    NodeSelector,
    Operator,
    Policy,
    PolicyNetwork,
    PolicyNode,
    Requirement,
    Rule,
    TenantRecord,
)

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS


def labelled(**labels: str) -> LabelSelector:
    return LabelSelector(
        tuple(Requirement(key, Operator.IN, (value,)) for key, value in labels.items())
    )


def those(
    tenant: str = "", tenant_labels: Mapping[str, str] = {}, **labels: str
) -> EndpointSelector:
    return EndpointSelector(
        tenants=(Tenant(tenant),) if tenant else (),
        labels=labelled(**labels),
        tenant_labels=labelled(**tenant_labels),
    )


def endpoint(
    number: int, tenant: str = "t", node: str | None = "h1", segment: str = "", **labels: str
) -> Endpoint:
    return Endpoint(
        EndpointName(f"e{number}"),
        Tenant(tenant),
        Segment(segment),
        labels,
        (),
        NodeName(node) if node else None,
        (ip_address("10.0.0.0") + number,) if node else (),
    )


def policy(
    name: str, target: EndpointSelector | NodeSelector, *rules: Rule, direction: Direction = INGRESS
) -> Policy:
    return Policy(PolicyName(name), Tier.TENANT, (target,), {direction: rules})


def node(name: str, **labels: str) -> PolicyNode:
    return PolicyNode(NodeName(name), labels, (ip_address("192.0.2.1"),))


def network(name: str, cidr: str, isolation: Isolation = Isolation.NONE) -> PolicyNetwork:
    return PolicyNetwork(NetworkName(name), ip_network(cidr), isolation)


@pytest.fixture
def engine() -> Engine:
    made = Engine()
    made.put_node(node("h1"))
    made.put_node(node("h2"))
    return made


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Pairs of selector and endpoint that were compared."""
    found: list[object] = []
    selects = EndpointSelection.selects

    def count(self: EndpointSelection, entry: object) -> bool:
        found.append((self.selector, entry))
        return selects(self, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(EndpointSelection, "selects", count)
    return found


def allowed(
    engine: Engine, direction: Direction, source: int, destination: int, port: int = 80
) -> bool:
    base = ip_address("10.0.0.0")
    packet = Packet(base + source, base + destination, Protocol.TCP, port)
    own = destination if direction is INGRESS else source
    sets = engine.rule_sets(EndpointName(f"e{own}"), direction)
    return judge(sets, packet, engine.is_member).action is Action.ALLOW


def test_a_changed_label_is_one_page_of_a_group(engine: Engine) -> None:
    for number in range(1, 200):
        engine.put_endpoint(endpoint(number, app="web" if number < 100 else "db"))
    engine.put_policy(policy("p", those(app="db"), Rule(peers=(those(app="web"),))))
    engine.drain_changes()
    engine.put_endpoint(endpoint(1, app="other"))
    changes = engine.drain_changes()
    ((topic, _, page),) = changes.put
    assert isinstance(page, GroupPage)
    assert topic == f"group/{page.group}"
    assert (changes.dropped, changes.spans) == ([], {})


def test_a_changed_endpoint_is_compared_with_selectors_that_ask_for_what_it_has(
    engine: Engine, looked_at: list[object]
) -> None:
    for number in range(100):
        engine.put_policy(policy(f"tenant{number}", those(f"t{number}", app="web")))
        engine.put_policy(policy(f"label{number}", those(app=f"app{number}", zone="z")))
        engine.put_policy(policy(f"labels{number}", those(tenant_labels={"of": f"t{number}"})))
        engine.put_tenant(TenantRecord(Tenant(f"t{number}"), {"of": f"t{number}"}))
    engine.put_endpoint(endpoint(1, "t7", app="web", zone="z"))
    engine.drain_changes()
    looked_at.clear()
    engine.put_endpoint(endpoint(1, "t7", app="app9", zone="z"))
    engine.drain_changes()
    assert {selector for selector, _ in looked_at} == {  # type: ignore[has-type]
        those(app="app9", zone="z"),
        those(tenant_labels={"of": "t7"}),
    }


def test_a_new_selector_is_compared_with_endpoints_that_have_what_it_asks_for(
    engine: Engine, looked_at: list[object]
) -> None:
    for number in range(200):
        engine.put_endpoint(endpoint(number, f"t{number % 20}", app=f"app{number % 10}"))
    looked_at.clear()
    engine.put_policy(policy("p", those("t3", app="app3")))
    assert len(looked_at) == 10


def test_a_tenant_label_concerns_its_endpoints_and_selectors_of_tenant_labels(
    engine: Engine, looked_at: list[object]
) -> None:
    for number in range(100):
        engine.put_endpoint(endpoint(number, f"t{number % 10}", app="web"))
        engine.put_policy(
            policy(f"p{number}", those(app="web"), Rule(peers=(those(f"t{number}"),)))
        )
    engine.put_policy(policy("q", those(tenant_labels={"env": "prod"}), Rule()))
    engine.drain_changes()
    looked_at.clear()
    engine.put_tenant(TenantRecord(Tenant("t3"), {"env": "prod"}))
    engine.drain_changes()
    assert len(looked_at) == 10
    assert engine.rule_sets(EndpointName("e3"), INGRESS)[-1].policy == "q"


def test_groups_that_no_node_needs_are_not_kept(engine: Engine) -> None:
    engine.put_endpoint(endpoint(1, app="web"))
    engine.put_policy(policy("p", those(app="nobody"), Rule(peers=(those(app="web"),))))
    assert not [topic for topic, _, _ in engine.drain_changes().put if topic.startswith("group/")]


def test_a_node_follows_what_its_own_endpoints_need(engine: Engine) -> None:
    engine.put_endpoint(endpoint(1, node="h1", app="a"))
    engine.put_endpoint(endpoint(2, node="h2", app="b"))
    engine.put_policy(policy("p", those(app="a"), Rule(peers=(those(app="b"),))))
    spans = engine.drain_changes().spans
    assert spans["h2"] == {"networks", "node/h2"}  # type: ignore[index]
    assert len(spans["h1"] or ()) == 4  # type: ignore[index]
    assert engine.nodes_needing(PolicyName("p")) == {"h1"}


def test_endpoints_that_are_judged_alike_share_rule_sets(engine: Engine) -> None:
    for number in range(3):
        engine.put_endpoint(endpoint(number, app="a"))
    engine.put_policy(policy("p", those(app="a"), Rule(peers=(those(app="a"),))))
    put = engine.drain_changes().put
    assert len([value for _, _, value in put if isinstance(value, RuleSet)]) == 1
    assert len({value.profile for _, _, value in put if isinstance(value, EndpointRules)}) == 1


def test_an_endpoint_that_is_not_attached_has_no_topic_but_is_judged(engine: Engine) -> None:
    engine.put_endpoint(endpoint(1, node=None, app="a"))
    engine.put_policy(policy("p", those(app="a")))
    assert "node/h1" not in {topic for topic, _, _ in engine.drain_changes().put}
    assert [one.policy for one in engine.rule_sets(EndpointName("e1"), INGRESS)] == ["p"]


def test_an_endpoint_that_moves_leaves_its_node(engine: Engine) -> None:
    engine.put_endpoint(endpoint(1, node="h1"))
    engine.drain_changes()
    engine.put_endpoint(endpoint(1, node="h2"))
    changes = engine.drain_changes()
    assert changes.dropped == [("node/h1", "endpoint/e1")]
    assert [(topic, name) for topic, name, _ in changes.put] == [("node/h2", "endpoint/e1")]


def test_a_node_that_is_gone_has_no_span(engine: Engine) -> None:
    engine.drain_changes()
    engine.drop_node(NodeName("h1"))
    assert engine.drain_changes().spans == {"h1": None}


def test_the_same_again_changes_nothing(engine: Engine) -> None:
    def tell() -> None:
        engine.put_tenant(TenantRecord(Tenant("t"), {"a": "b"}))
        engine.put_endpoint(endpoint(1, app="a"))
        engine.put_policy(policy("p", those(app="a"), Rule(peers=(those(app="a"),))))
        engine.set_networks({NetworkName("n"): network("n", "10.0.0.0/24")})
        engine.put_node(node("h1"))

    tell()
    engine.drain_changes()
    tell()
    again = engine.drain_changes()
    assert (again.put, again.dropped, again.spans) == ([], [], {})


def test_two_that_have_an_address_for_a_moment_are_both_members(engine: Engine) -> None:
    first, second = endpoint(1, app="a"), replace(endpoint(1, app="a"), name=EndpointName("e9"))
    engine.put_endpoint(endpoint(2, app="b"))
    engine.put_policy(policy("p", those(app="b"), Rule(peers=(those(app="a"),))))
    engine.put_endpoint(first)
    engine.put_endpoint(second)
    engine.drain_changes()
    engine.drop_endpoint(first.name)
    assert allowed(engine, INGRESS, 1, 2)
    assert engine.endpoint_at(first.addresses[0]) == second
    engine.drop_endpoint(second.name)
    assert not allowed(engine, INGRESS, 1, 2)
    assert engine.endpoint_at(first.addresses[0]) is None


def test_a_port_name_is_the_targets_on_ingress(engine: Engine) -> None:
    web = PortMatch(Protocol.TCP, name="web")
    engine.put_policy(policy("p", those(), Rule(ports=(web,))))
    engine.put_endpoint(replace(endpoint(1), ports=(NamedPort("web", Protocol.TCP, 80),)))
    engine.put_endpoint(replace(endpoint(2), ports=(NamedPort("web", Protocol.TCP, 81),)))
    engine.put_endpoint(endpoint(3))
    found = [[allowed(engine, INGRESS, 9, to, port) for port in (80, 81)] for to in (1, 2, 3)]
    assert found == [[True, False], [False, True], [False, False]]


def test_a_port_name_is_the_peers_on_egress(engine: Engine) -> None:
    web = PortMatch(Protocol.TCP, name="web")
    engine.put_policy(policy("p", those(), Rule(ports=(web,)), direction=EGRESS))
    engine.put_endpoint(endpoint(9))
    engine.put_endpoint(replace(endpoint(1), ports=(NamedPort("web", Protocol.TCP, 80),)))
    engine.drain_changes()
    engine.put_endpoint(replace(endpoint(2), ports=(NamedPort("web", Protocol.TCP, 81),)))
    found = [[allowed(engine, EGRESS, 9, to, port) for port in (80, 81)] for to in (1, 2)]
    assert found == [[True, False], [False, True]]


def test_a_network_that_moves_takes_its_peers_along(engine: Engine) -> None:
    engine.put_policy(policy("p", those(), Rule(peers=(NetworkPeer(NetworkName("n")),))))
    engine.put_endpoint(endpoint(1))
    assert not allowed(engine, INGRESS, 9, 1)
    engine.set_networks({NetworkName("n"): network("n", "10.0.0.0/24")})
    assert allowed(engine, INGRESS, 9, 1)
    engine.set_networks({NetworkName("n"): network("n", "10.9.0.0/24")})
    assert not allowed(engine, INGRESS, 9, 1)


def isolated(engine: Engine, isolation: Isolation) -> None:
    engine.set_networks({NetworkName("n"): network("n", "10.0.0.0/24", isolation)})
    engine.put_endpoint(endpoint(1, "t", segment="s"))
    engine.put_endpoint(endpoint(2, "t", segment="s"))
    engine.put_endpoint(endpoint(3, "t", segment="other"))
    engine.put_endpoint(endpoint(4, "other", segment="s"))


@pytest.mark.parametrize(
    ("isolation", "reach"),
    [
        (Isolation.NONE, [True, True, True, True]),
        (Isolation.TENANT, [True, True, False, True]),
        (Isolation.SEGMENT, [True, False, False, True]),
    ],
)
def test_isolation_keeps_apart_endpoints_and_nobody_else(
    engine: Engine, isolation: Isolation, reach: list[bool]
) -> None:
    isolated(engine, isolation)
    assert [allowed(engine, INGRESS, source, 1) for source in (2, 3, 4, 99)] == reach


@pytest.mark.parametrize("isolation", [Isolation.NONE, Isolation.TENANT])
def test_what_a_tenant_says_goes_before_its_network(engine: Engine, isolation: Isolation) -> None:
    isolated(engine, Isolation.SEGMENT)
    engine.put_tenant(TenantRecord(Tenant("t"), isolation=isolation))
    assert allowed(engine, INGRESS, 3, 1)
    assert allowed(engine, INGRESS, 4, 1) is (isolation is Isolation.NONE)
    engine.drop_tenant(Tenant("t"))
    assert not allowed(engine, INGRESS, 3, 1)


def test_of_several_networks_the_strictest_isolates(engine: Engine) -> None:
    isolated(engine, Isolation.NONE)
    both = {"n": network("n", "10.0.0.0/24"), "m": network("m", "10.9.0.0/24", Isolation.TENANT)}
    engine.set_networks({NetworkName(name): one for name, one in both.items()})
    assert allowed(engine, INGRESS, 4, 1)
    there = endpoint(1, "t", segment="s")
    there = replace(there, addresses=(*there.addresses, ip_address("10.9.0.1")))
    engine.put_endpoint(there)
    assert not allowed(engine, INGRESS, 4, 1)


def test_a_tenant_label_counts_for_selectors_that_name_the_tenant_too(engine: Engine) -> None:
    engine.put_endpoint(endpoint(1))
    engine.put_policy(policy("p", those("t", tenant_labels={"env": "prod"})))
    engine.drain_changes()
    engine.put_tenant(TenantRecord(Tenant("t"), {"env": "prod"}))
    assert [one.policy for one in engine.rule_sets(EndpointName("e1"), INGRESS)] == ["p"]
    engine.put_tenant(TenantRecord(Tenant("t"), {"env": "qa"}))
    assert engine.rule_sets(EndpointName("e1"), INGRESS) == []


def test_isolation_decides_after_every_written_baseline_policy(engine: Engine) -> None:
    isolated(engine, Isolation.TENANT)
    last = replace(
        policy("z", those("t"), Rule(Action.DENY, (those("t"),)), Rule(Action.ALLOW, (those(),))),
        tier=Tier.BASELINE,
        priority=MAX_PRIORITY,
    )
    engine.put_policy(last)
    assert not allowed(engine, INGRESS, 2, 1)
    assert allowed(engine, INGRESS, 4, 1)


def test_isolation_is_found_by_the_name_of_who_says_so(engine: Engine) -> None:
    isolated(engine, Isolation.TENANT)
    assert engine.nodes_needing(PolicyName("isolation/network/n")) == {"h1"}
    assert "isolation/network/n" not in engine.policies


def test_a_policy_for_nodes_opens_no_endpoint(engine: Engine) -> None:
    engine.put_endpoint(endpoint(1))
    engine.put_policy(policy("p", NodeSelector((NodeName("h1"),))))
    assert engine.rule_sets(EndpointName("e1"), INGRESS) == []
    assert [one.policy for one in engine.node_rule_sets(NodeName("h1"), INGRESS)] == ["p"]
    assert [name for topic, name, _ in engine.drain_changes().put if topic == "node/h1"] == [
        "endpoint/e1",
        "node/h1",
    ]
    assert engine.node_rule_sets(NodeName("h2"), INGRESS) == []
