"""Policies of the earlier Romana, in both forms."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from services.common.errors import InvalidInput
from services.common.model.names import NetworkName
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    PortMatch,
    Protocol,
    Tier,
)
from services.policy.forms.documents import read_document
from services.policy.model import (
    Anything,
    EndpointSelector,
    NodeSelector,
    Policy,
    PolicyNetwork,
    Rule,
)

ANY = {"peer": "any"}
TCP_80 = {"protocol": "TCP", "ports": [80]}
NETWORKS = (
    PolicyNetwork(NetworkName("a"), ip_network("10.0.0.0/16")),
    PolicyNetwork(NetworkName("b"), ip_network("10.1.0.0/16")),
)


def read(**fields: object) -> tuple[Policy, ...]:
    made = {"name": "p", "direction": "ingress", "applied_to": [{"tenant": "t"}], **fields}
    text = json.dumps({"securitypolicies": [made]}).encode()
    return read_document(text, networks=NETWORKS).policies


def wrong(**fields: object) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        read(**fields)
    at = "securitypolicies[0]."
    return {each.path.removeprefix(at): each.message for each in caught.value.violations}


def rules(**fields: object) -> tuple[Rule, ...]:
    (policy,) = read(**fields)
    return policy.rules[Direction.INGRESS]


def test_several_ingress_entries_stay_separate() -> None:
    first = {"peers": [{"tenant": "u", "segment": "s"}], "rules": [TCP_80]}
    second = {"peers": [ANY], "rules": [{"protocol": "udp"}]}
    assert rules(ingress=[first, second]) == (
        Rule(
            peers=(EndpointSelector(tenants=("u",), segments=("s",)),),
            ports=(PortMatch(Protocol.TCP, 80, 80),),
        ),
        Rule(peers=(Anything(),), ports=(PortMatch(Protocol.UDP),)),
    )


def test_the_first_form_is_one_entry() -> None:
    (rule,) = rules(peers=[ANY, {"cidr": "10.9.0.0/16"}], rules=[TCP_80, {"protocol": "any"}])
    assert rule.peers == (Anything(), CidrBlock(ip_network("10.9.0.0/16")))
    assert rule.ports == (PortMatch(Protocol.TCP, 80, 80), PortMatch())


@pytest.mark.parametrize("fields", [{"ingress": []}, {}, {"ingress": None}])
def test_an_empty_ingress_denies_everything_to_its_target_alone(fields: dict[str, object]) -> None:
    (policy,) = read(**fields)
    assert policy.tier is Tier.TENANT
    assert policy.targets == (EndpointSelector(tenants=("t",)),)
    assert policy.rules == {Direction.INGRESS: ()}


@pytest.mark.parametrize("entry", [{"peers": [ANY]}, {"rules": [TCP_80]}, {}])
def test_an_entry_without_peers_or_rules_allows_nothing(entry: dict[str, object]) -> None:
    assert rules(ingress=[entry, {"peers": [ANY], "rules": [TCP_80]}]) == (
        Rule(ports=(PortMatch(Protocol.TCP, 80, 80),)),
    )


def test_icmp_types_count() -> None:
    ping = {"protocol": "icmp", "icmp_type": 8, "icmp_code": 0}
    (rule,) = rules(ingress=[{"peers": [ANY], "rules": [ping, {"protocol": "icmp"}]}])
    assert rule.ports == (
        PortMatch(Protocol.ICMP, icmp_type=8, icmp_code=0),
        PortMatch(Protocol.ICMP),
    )


def test_ports_and_ranges_add_up() -> None:
    ranges = {"protocol": "tcp", "ports": [80, 443], "port_ranges": [[8000, 8099]]}
    (rule,) = rules(ingress=[{"peers": [ANY], "rules": [ranges]}])
    assert [(port.first, port.last) for port in rule.ports] == [(80, 80), (443, 443), (8000, 8099)]


def test_a_host_target_protects_the_nodes_and_opens_no_endpoint() -> None:
    entry = {"peers": [{"cidr": "192.0.2.0/24"}], "rules": [TCP_80]}
    allowing, rest = read(applied_to=[{"dest": "host"}], ingress=[entry])
    assert (allowing.name, allowing.tier) == ("p", Tier.BASELINE)
    assert allowing.targets == rest.targets == (NodeSelector(),)
    assert rest.name == "p/otherwise"
    assert rest.rules == {Direction.INGRESS: (Rule(Action.DENY),)}
    assert allowing.priority < rest.priority


def test_hosts_and_endpoints_become_policies_of_their_own() -> None:
    names = [each.name for each in read(applied_to=[{"tenant": "t"}, {"dest": "host"}])]
    assert names == ["p", "p/nodes", "p/otherwise"]


@pytest.mark.parametrize(
    ("cidr", "networks"), [("10.0.0.0/16", ("a",)), ("10.0.0.0/8", ("a", "b"))]
)
def test_a_target_of_whole_networks_is_their_endpoints(
    cidr: str, networks: tuple[str, ...]
) -> None:
    (policy,) = read(applied_to=[{"cidr": cidr}])
    assert policy.targets == (EndpointSelector(networks=networks),)


@pytest.mark.parametrize(
    ("fields", "path", "says"),
    [
        ({"applied_to": [{"cidr": "10.0.1.0/24"}]}, "applied_to[0].cidr", "not the CIDR"),
        ({"applied_to": []}, "applied_to", "missing"),
        ({"applied_to": [{"segment": "s"}]}, "applied_to[0]", "needs its tenant"),
        ({"applied_to": [{"tenant": "t", "dest": "host"}]}, "applied_to[0]", "exactly one"),
        ({"direction": "up"}, "direction", "not one of"),
        ({"peers": [ANY], "rules": [{"protocol": "gre"}]}, "rules[0].protocol", "not one of any"),
        ({"peers": [ANY], "rules": [{"ports": [1]}]}, "rules[0].protocol", "missing"),
        (
            {"peers": [ANY], "rules": [{"protocol": "tcp", "port_ranges": [[9, 8]]}]},
            "rules[0]",
            "upside down",
        ),
        (
            {"peers": [ANY], "rules": [{"protocol": "tcp", "ports": ["x"]}]},
            "rules[0]",
            "not a number",
        ),
        ({"peers": [{"peer": "all"}], "rules": [TCP_80]}, "peers[0].peer", "not one of any"),
        ({"ingres": []}, "ingres", "did you mean 'ingress'"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(
    fields: dict[str, object], path: str, says: str
) -> None:
    found = wrong(**fields)
    assert any(each.startswith(path) and says in found[each] for each in found)


def test_the_text_is_kept() -> None:
    (policy,) = read(id="7", tags=[])
    assert policy.origin is not None
    assert policy.origin.kind == "romana"
    assert json.loads(policy.origin.document)["id"] == "7"


def test_local_are_the_endpoints_of_hosts_and_not_hosts() -> None:
    """Policies that Romana installed with each agent: hosts to pods, and pods to hosts."""
    any_of = [{"protocol": "ANY"}]
    to_pods = read(applied_to=[{"dest": "local"}], peers=[{"peer": "host"}], rules=any_of)
    assert [policy.tier for policy in to_pods] == [Tier.TENANT]
    assert to_pods[0].targets == (EndpointSelector(),)
    assert [rule.peers for rule in to_pods[0].rules[Direction.INGRESS]] == [(NodeSelector(),)]

    to_hosts = read(applied_to=[{"dest": "host"}], peers=[{"peer": "local"}], rules=any_of)
    assert to_hosts[0].targets == (NodeSelector(),)
    assert [rule.peers for rule in to_hosts[0].rules[Direction.INGRESS]] == [(EndpointSelector(),)]
