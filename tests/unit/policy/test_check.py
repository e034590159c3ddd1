"""What is wrong with policies, with the field path of each."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from services.common.model.names import EndpointName, NetworkName, Segment, Tenant
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from services.policy.checks.policies import MAX_RULES, check, check_endpoint, check_references
from services.policy.model import (
    Anything,
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NamedPort,
    NetworkPeer,
    NodeSelector,
    Operator,
    Peer,
    Policy,
    Requirement,
    Rule,
)


def policy(rule: Rule | None = None, **changes: object) -> Policy:
    rules = {Direction.INGRESS: (rule,) if rule else ()}
    made = Policy(PolicyName("shop/web"), Tier.TENANT, (EndpointSelector(),), rules)
    return replace(made, **changes)  # type: ignore[arg-type]  # a test's shorthand


def problems(checked: Policy) -> dict[str, str]:
    return {one.path: one.message for one in check(checked)}


def of_port(port: PortMatch, peer: Peer = Anything()) -> dict[str, str]:  # noqa: B008  # frozen
    return problems(policy(Rule(peers=(peer,), ports=(port,))))


def block(cidr: str, *exceptions: str) -> CidrBlock:
    return CidrBlock(ip_network(cidr), tuple(map(ip_network, exceptions)))


def selecting(key: str, operator: Operator, *values: str) -> EndpointSelector:
    return EndpointSelector(labels=LabelSelector((Requirement(key, operator, values),)))


def test_a_sound_policy_has_no_problem() -> None:
    rule = Rule(peers=(block("10.0.0.0/8", "10.1.0.0/16"),), ports=(PortMatch(Protocol.TCP, 1, 9),))
    assert problems(policy(rule)) == {}


@pytest.mark.parametrize("name", ["", "a/b/c", "a/", "/b", "-a", "a b", "x" * 254])
def test_a_name_is_one_or_two_names(name: str) -> None:
    assert set(problems(policy(name=name))) == {"name"}


@pytest.mark.parametrize("name", ["a", "Ns.1/pol_2", "x" * 253])
def test_one_or_two_names_are_a_name(name: str) -> None:
    assert problems(policy(name=name)) == {}


@pytest.mark.parametrize(
    ("port", "path", "says"),
    [
        (PortMatch(Protocol.TCP, 80, 79), "end_port", "upside down"),
        (PortMatch(Protocol.TCP, 0, 80), "end_port", "without port"),
        (PortMatch(Protocol.TCP, 80, 80, "http"), "port_name", "not both"),
        (PortMatch(Protocol.TCP, 0, 80, "http"), "end_port", "not with a name"),
        (PortMatch(Protocol.TCP, 65536, 65536), "port", "1 to 65535"),
        (PortMatch(Protocol.TCP, 80, 70000), "end_port", "1 to 65535"),
        (PortMatch(Protocol.TCP, name="x" * 64), "port_name", "63"),
        (PortMatch(Protocol.ICMP, 80, 80), "port", "no ports"),
        (PortMatch(Protocol.ICMPV6, name="http"), "port_name", "no ports"),
        (PortMatch(Protocol.UDP, icmp_type=8), "icmp_type", "ICMP"),
        (PortMatch(Protocol.ICMP, icmp_type=256), "icmp_type", "255"),
        (PortMatch(Protocol.ICMP, icmp_type=3, icmp_code=-1), "icmp_code", "255"),
        (PortMatch(Protocol.ICMP, icmp_code=1), "icmp_code", "without icmp_type"),
        (PortMatch(None, 80, 80), "protocol", "missing"),
        (PortMatch(None, name="http"), "protocol", "missing"),
    ],
)
def test_a_port_that_cannot_be_is_refused(port: PortMatch, path: str, says: str) -> None:
    found = of_port(port)
    assert set(found) >= {f"ingress[0].ports[0].{path}"}
    assert says in found[f"ingress[0].ports[0].{path}"]


def test_icmp_of_the_other_family_than_all_peers_is_refused() -> None:
    assert of_port(PortMatch(Protocol.ICMP), block("fd00::/8")) != {}
    assert of_port(PortMatch(Protocol.ICMPV6), block("fd00::/8")) == {}


@pytest.mark.parametrize(
    ("exception", "says"),
    [
        ("11.0.0.0/16", "not inside"),
        ("fd00::/16", "family"),
        ("10.0.0.0/8", "nothing is left"),
        ("0.0.0.0/0", "not inside"),
    ],
)
def test_an_exception_is_inside_its_cidr(exception: str, says: str) -> None:
    found = problems(policy(Rule(peers=(Anything(), block("10.0.0.0/8", exception)))))
    assert list(found) == ["ingress[0].peers[1].cidr.except[0]"]
    assert says in found["ingress[0].peers[1].cidr.except[0]"]


@pytest.mark.parametrize(
    ("operator", "values", "says"),
    [
        (Operator.IN, (), "at least one value"),
        (Operator.NOT_IN, (), "at least one value"),
        (Operator.EXISTS, ("x",), "takes no values"),
        (Operator.DOES_NOT_EXIST, ("x",), "takes no values"),
        (Operator.IN, ("x y",), "not a label value"),
    ],
)
def test_values_go_with_the_operator(
    operator: Operator, values: tuple[str, ...], says: str
) -> None:
    found = problems(policy(targets=(selecting("app", operator, *values),)))
    assert list(found) == ["targets[0].endpoints.labels['app']"]
    assert says in found["targets[0].endpoints.labels['app']"]


def test_a_label_key_is_checked_without_values_too() -> None:
    assert problems(policy(targets=(selecting("a b", Operator.EXISTS),))) != {}


@pytest.mark.parametrize(
    ("tier", "action", "allowed"),
    [
        (Tier.ADMIN, Action.ALLOW, True),
        (Tier.ADMIN, Action.DENY, True),
        (Tier.ADMIN, Action.PASS, True),
        (Tier.TENANT, Action.ALLOW, True),
        (Tier.TENANT, Action.DENY, False),
        (Tier.TENANT, Action.PASS, False),
        (Tier.BASELINE, Action.DENY, True),
        (Tier.BASELINE, Action.PASS, False),
    ],
)
def test_each_tier_has_its_actions(tier: Tier, action: Action, *, allowed: bool) -> None:
    found = problems(policy(Rule(action), tier=tier))
    assert list(found) == ([] if allowed else ["ingress[0].action"])


def test_nodes_are_no_targets_of_tenants() -> None:
    assert list(problems(policy(targets=(NodeSelector(),)))) == ["targets[0].nodes"]
    assert problems(policy(targets=(NodeSelector(),), tier=Tier.BASELINE)) == {}


def test_nodes_have_no_named_ports() -> None:
    rule = Rule(ports=(PortMatch(Protocol.TCP, name="http"),))
    found = problems(policy(rule, targets=(NodeSelector(),), tier=Tier.ADMIN))
    assert list(found) == ["ingress[0].ports[0].port_name"]


def test_tenants_policies_have_no_priority() -> None:
    assert list(problems(policy(priority=1))) == ["priority"]
    assert problems(policy(priority=65535, tier=Tier.ADMIN)) == {}
    assert list(problems(policy(priority=65536, tier=Tier.ADMIN))) == ["priority"]


def test_something_is_governed_and_something_selected() -> None:
    assert set(problems(policy(rules={}, targets=()))) == {"directions", "targets"}


def test_too_many_rules_are_said_once() -> None:
    found = problems(policy(rules={Direction.EGRESS: (Rule(Action.DENY),) * (MAX_RULES + 1)}))
    assert list(found) == ["egress"]


def test_a_policy_of_ten_megabytes_is_refused_as_a_whole() -> None:
    found = problems(policy(description="x" * 10_000_000))
    assert list(found) == [""]
    assert "too large" in found[""]


def test_values_count_for_the_size() -> None:
    values = tuple(f"v{number}" for number in range(1000))
    requirements = tuple(Requirement(f"k{n}", Operator.IN, values) for n in range(60))
    selector = EndpointSelector(labels=LabelSelector(requirements))
    assert list(problems(policy(targets=(selector,)))) == [""]


def test_a_network_that_is_not_there_is_named_wherever_it_is() -> None:
    here = NetworkName("here")
    gone = NetworkName("gone")
    rule = Rule(peers=(NetworkPeer(here), NetworkPeer(gone), EndpointSelector(networks=(gone,))))
    checked = policy(rule, targets=(EndpointSelector(networks=(here, gone)),))
    assert [one.path for one in check_references(checked, {here})] == [
        "targets[0].endpoints.networks[1]",
        "ingress[0].peers[1].network",
        "ingress[0].peers[2].endpoints.networks[0]",
    ]


def test_ports_of_endpoints_are_checked() -> None:
    ports = (
        NamedPort("http", Protocol.TCP, 80),
        NamedPort("http", Protocol.TCP, 81),
        NamedPort("", Protocol.UDP, 0),
        NamedPort("ping", Protocol.ICMP, 1),
    )
    endpoint = Endpoint(EndpointName("e"), Tenant("t"), Segment(""), ports=ports)
    assert [one.path for one in check_endpoint(endpoint)] == [
        "ports[1].name",
        "ports[2].name",
        "ports[2].port",
        "ports[3].protocol",
    ]
