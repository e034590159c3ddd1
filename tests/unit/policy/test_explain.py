"""Why a connection is allowed or denied, what would make it otherwise, and the packet's way."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from services.common.errors import InvalidInput, NotFound, WrongState
from services.common.model.failsafe import Failsafe, parse_ports
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Isolation
from services.common.model.rules import Action, PolicyName, Protocol, Tier
from services.policy.engine.engine import Engine
from services.policy.explain.explain import Connection, Explanation, Party, explain
from services.policy.explain.matrix import MAX_SIDE, Matrix, Reach
from services.policy.explain.path import PathKind
from services.policy.forms.documents import read_document
from services.policy.model import Endpoint, PolicyNetwork, PolicyNode

NETWORKS = (
    PolicyNetwork(
        NetworkName("a"), ip_network("10.0.0.0/16"), masquerade=True, gateway=ip_address("10.0.0.1")
    ),
    PolicyNetwork(NetworkName("b"), ip_network("10.1.0.0/16")),
    PolicyNetwork(NetworkName("six"), ip_network("fd00::/64")),
)
WEB = """
policies:
  - name: shop/web
    targets: [{endpoints: {labels: {match_labels: {app: web}}}}]
    ingress:
      - peers: [{endpoints: {labels: {match_labels: {app: front}}}}]
        ports: [{protocol: tcp, port: 443}]
      - ports: [{protocol: udp, port: 53}]
"""


def endpoint(name: str, node: str, *addresses: str, tenant: str = "shop") -> Endpoint:
    return Endpoint(
        EndpointName(name),
        Tenant(tenant),
        Segment(""),
        {"app": name.partition("-")[0]},
        node=NodeName(node),
        addresses=tuple(map(ip_address, addresses)),
    )


def engine(text: str = "policies: []") -> Engine:
    made = Engine()
    made.set_networks({network.name: network for network in NETWORKS})
    for number in (1, 2):
        address = ip_address(f"192.0.2.{number}")
        made.put_node(PolicyNode(NodeName(f"n{number}"), addresses=(address,)))
    made.put_endpoint(endpoint("web", "n1", "10.0.0.5", "fd00::5"))
    made.put_endpoint(endpoint("web-2", "n1", "10.0.0.7"))
    made.put_endpoint(endpoint("front", "n2", "10.0.0.6", "fd00::6"))
    made.put_endpoint(endpoint("other", "n2", "10.1.0.6", tenant="zoo"))
    document = read_document(text.encode(), networks=NETWORKS)
    for tenant in document.tenants:
        made.put_tenant(tenant)
    for policy in document.policies:
        made.put_policy(policy)
    return made


def party(text: str) -> Party:
    if text.startswith("node:"):
        return Party(node=NodeName(text.removeprefix("node:")))
    if text[0].isdigit() or ":" in text:
        return Party(address=ip_address(text))
    return Party(endpoint=EndpointName(text))


def asked(
    made: Engine, source: str, destination: str, port: int = 0, protocol: Protocol | None = None
) -> Explanation:
    return explain(made, Connection(party(source), party(destination), protocol, port))[0]


def test_without_policies_all_is_allowed_and_the_reason_says_so() -> None:
    found = asked(engine(), "front", "web", 80)
    assert found.action is Action.ALLOW
    assert found.ingress is not None
    assert found.ingress.reason == "no policy selects endpoint web for ingress"
    assert "TENANT policy" in found.ingress.otherwise[0]


def test_what_no_tenant_rule_allows_is_denied_and_the_nearest_rule_is_named() -> None:
    found = asked(engine(WEB), "front", "web", 80)
    assert found.action is Action.DENY
    verdict = found.ingress
    assert verdict is not None
    assert (verdict.policy, verdict.tier, verdict.rule) == (None, Tier.TENANT, -1)
    assert verdict.asked == ("shop/web",)
    assert "none of its rules allows TCP 80 from 10.0.0.6 (endpoint front)" in verdict.reason
    assert verdict.otherwise == (
        "the nearest rule is shop/web ingress[0]: its peers match, but its ports are TCP 443",
    )


def test_a_rule_with_the_right_port_is_near_too() -> None:
    verdict = asked(engine(WEB), "other", "web", 443).ingress
    assert verdict is not None
    (near,) = asked(engine(WEB.replace("udp", "sctp")), "other", "web", 443).ingress.otherwise  # type: ignore[union-attr]  # it is judged
    assert "ingress[1]: its peers match, but its ports are SCTP 53" in near
    text = WEB[: WEB.index("      - ports: [{protocol: udp")]
    verdict = asked(engine(text), "other", "web", 443).ingress
    assert verdict is not None
    assert "its ports match, but its peers are endpoints with app=front" in verdict.otherwise[0]


def test_the_rule_that_allows_is_named_and_what_would_be_without_it() -> None:
    verdict = asked(engine(WEB), "front", "web", 443).ingress
    assert verdict is not None
    assert (verdict.action, verdict.policy, verdict.rule) == (Action.ALLOW, "shop/web", 0)
    assert "without the rule shop/web ingress[0] it would be denied" in verdict.otherwise[0]


def test_an_admin_denial_says_who_would_decide_without_it() -> None:
    deny = """
  - name: no-front
    tier: admin
    priority: 5
    targets: [{endpoints: {}}]
    ingress: [{action: deny, peers: [{endpoints: {labels: {match_labels: {app: front}}}}]}]
"""
    verdict = asked(engine(WEB + deny), "front", "web", 443).ingress
    assert verdict is not None
    assert (verdict.policy, verdict.tier) == ("no-front", Tier.ADMIN)
    assert "ADMIN (priority 5) policy no-front ingress[0] denies" in verdict.reason
    assert "it would be allowed by TENANT policy shop/web ingress[0]" in verdict.otherwise[0]
    assert verdict.asked == ("no-front", "shop/web")


def test_an_audited_policy_decides_nothing_but_is_named_if_it_would() -> None:
    text = WEB.replace("name: shop/web", "name: shop/web\n    mode: audit")
    denied = asked(engine(text), "other", "web", 80)
    assert denied.action is Action.ALLOW
    assert denied.ingress is not None
    assert denied.ingress.audited == ("shop/web",)
    allowed = asked(engine(text), "front", "web", 443)
    assert allowed.ingress is not None
    assert allowed.ingress.audited == ()


def test_isolation_is_explained_by_its_setting() -> None:
    made = engine()
    one, *rest = NETWORKS
    isolated = PolicyNetwork(one.name, one.cidr, Isolation.TENANT)
    made.set_networks({network.name: network for network in (isolated, *rest)})
    verdict = asked(made, "other", "web").ingress
    assert verdict is not None
    assert (verdict.action, verdict.policy) == (Action.DENY, "isolation/network/a")
    assert asked(made, "front", "web").action is Action.ALLOW


def test_egress_alone_denies_too() -> None:
    text = """
policies:
  - name: closed
    targets: [{endpoints: {labels: {match_labels: {app: front}}}}]
    directions: [egress]
"""
    found = asked(engine(text), "front", "web", 80)
    assert found.action is Action.DENY
    assert found.egress is not None
    assert found.egress.action is Action.DENY
    assert found.ingress is not None
    assert found.ingress.action is Action.ALLOW


def test_each_family_is_explained() -> None:
    found = explain(engine(WEB), Connection(party("front"), party("web"), Protocol.ICMP))
    assert [str(one.source) for one in found] == ["10.0.0.6", "fd00::6"]
    assert {one.action for one in found} == {Action.DENY}


@pytest.mark.parametrize(
    ("source", "destination"), [("web", "web"), ("10.0.0.5", "10.0.0.5"), ("node:n1", "web")]
)
def test_what_is_never_judged_is_allowed(source: str, destination: str) -> None:
    found = asked(engine(WEB), source, destination, 80)
    assert (found.action, found.egress, found.ingress) == (Action.ALLOW, None, None)


def test_another_node_is_judged() -> None:
    assert asked(engine(WEB), "node:n2", "web", 80).action is Action.DENY


@pytest.mark.parametrize(
    ("source", "destination", "kind", "hops"),
    [
        ("web", "web-2", PathKind.SAME_NODE, ("n1",)),
        ("web", "front", PathKind.DIRECT, ("n1", "n2")),
        ("web", "other", PathKind.GATEWAY, ("n1", "10.0.0.1", "n2")),
        ("web", "203.0.113.1", PathKind.GATEWAY, ("n1", "10.0.0.1")),
        ("web", "10.0.9.9", PathKind.DIRECT, ("n1",)),
        ("other", "web", PathKind.UNKNOWN, ("n2",)),
        ("203.0.113.1", "web", PathKind.UNKNOWN, ("n1",)),
        ("node:n1", "web", PathKind.SAME_NODE, ("n1",)),
        ("web", "node:n1", PathKind.SAME_NODE, ("n1",)),
    ],
)
def test_the_way_of_the_packet(
    source: str, destination: str, kind: PathKind, hops: tuple[str, ...]
) -> None:
    way = asked(engine(), source, destination).path
    assert (way.kind, way.hops) == (kind, hops)


def test_masquerading_is_said_where_it_happens() -> None:
    assert "node's address" in asked(engine(), "web", "203.0.113.1").path.description
    assert "node's address" not in asked(engine(), "web", "other").path.description


NODES = """
policies:
  - name: nodes
    tier: baseline
    targets: [{nodes: {}}]
    ingress:
      - {action: deny, peers: [{PEERS}], ports: [{protocol: tcp, port: 22}]}
"""


@pytest.mark.parametrize(
    ("peers", "destination", "action"),
    [
        ("endpoints: {tenants: [shop]}", "node:n1", Action.ALLOW),
        ("endpoints: {tenants: [shop]}", "192.0.2.1", Action.ALLOW),
        ("endpoints: {tenants: [shop]}", "node:n2", Action.DENY),
        ("nodes: {names: [n2]}", "node:n1", Action.DENY),
        ("nodes: {names: [n2]}", "node:n2", Action.ALLOW),
    ],
)
def test_a_node_sees_the_node_of_an_endpoint_that_is_masqueraded(
    peers: str, destination: str, action: Action
) -> None:
    found = asked(engine(NODES.replace("PEERS", peers)), "front", destination, 22)
    assert found.action is action
    assert str(found.source) == "10.0.0.6"


def test_nodes_that_enforce_it_are_named() -> None:
    assert asked(engine(), "front", "web").nodes == {"n1", "n2"}
    assert asked(engine(), "203.0.113.1", "web").nodes == {"n1"}


def test_who_is_not_there_is_refused() -> None:
    made = engine()
    made.put_endpoint(Endpoint(EndpointName("idle"), Tenant("t"), Segment("")))
    with pytest.raises(NotFound) as missing:
        asked(made, "nobody", "web")
    assert missing.value.reason == "ENDPOINT_NOT_FOUND"
    with pytest.raises(NotFound) as node:
        asked(made, "node:n9", "web")
    assert node.value.reason == "NODE_NOT_FOUND"
    with pytest.raises(WrongState) as idle:
        asked(made, "web", "idle")
    assert idle.value.reason == "ENDPOINT_NOT_ATTACHED"
    with pytest.raises(InvalidInput, match="family"):
        asked(made, "other", "fd00::5")


def test_the_matrix_agrees_with_the_explanations() -> None:
    made = engine(WEB)
    made.put_endpoint(Endpoint(EndpointName("idle"), Tenant("t"), Segment("")))
    everybody = sorted(made.endpoints.values(), key=lambda one: one.name)
    rows = Matrix(made, everybody, everybody, Protocol.TCP, 443).rows()
    for source, row in zip(everybody, rows, strict=True):
        for destination, action in zip(everybody, row, strict=True):
            if source.name == destination.name:
                assert action is Reach.DIRECT
            elif not (source.addresses and destination.addresses):
                assert action is None
            else:
                said = asked(made, source.name, destination.name, 443).action
                assert action is (Reach.DENIED if said is Action.DENY else Reach.DIRECT)


def test_a_matrix_is_of_one_moment_whatever_comes_while_it_is_judged() -> None:
    made = engine(WEB)
    everybody = sorted(made.endpoints.values(), key=lambda one: one.name)
    before = Matrix(made, everybody, everybody, Protocol.TCP, 443).rows()
    taken = Matrix(made, everybody, everybody, Protocol.TCP, 443)
    made.drain_changes()
    made.put_endpoint(replace(made.endpoints[EndpointName("front")], labels={}))
    made.drain_changes()
    assert Matrix(made, everybody, everybody, Protocol.TCP, 443).rows() != before
    made.drop_policy(PolicyName("shop/web"))
    made.drain_changes()
    assert taken.rows() == before


def test_a_matrix_has_bounds() -> None:
    made = engine()
    web = made.endpoints[EndpointName("web")]
    with pytest.raises(InvalidInput, match="destinations"):
        Matrix(made, [web], [web] * (MAX_SIDE + 1))


NODE = """
policies:
  - name: hosts
    tier: baseline
    targets: [{nodes: {names: [n1]}}]
    directions: [ingress, egress]
    ingress: [{action: deny}]
    egress: [{action: deny}]
"""


@pytest.mark.parametrize(
    ("source", "destination", "port", "action"),
    [
        ("203.0.113.9", "192.0.2.1", 22, Action.ALLOW),
        ("203.0.113.9", "192.0.2.1", 23, Action.DENY),
        ("192.0.2.1", "203.0.113.9", 9630, Action.ALLOW),
        ("192.0.2.1", "203.0.113.9", 22, Action.DENY),
        ("203.0.113.9", "192.0.2.2", 23, Action.ALLOW),
    ],
)
def test_what_is_fail_safe_on_a_node_is_asked_of_no_policy(
    source: str, destination: str, port: int, action: Action
) -> None:
    open_there = Failsafe(parse_ports(["tcp/22"]), parse_ports(["tcp/9630"]))
    (found,) = explain(
        engine(NODE),
        Connection(
            Party(address=ip_address(source)),
            Party(address=ip_address(destination)),
            Protocol.TCP,
            port,
        ),
        lambda node: open_there if node == "n1" else Failsafe(),
    )
    assert found.action is action
    judged = found.ingress or found.egress
    assert judged is not None
    if port in {22, 9630} and action is Action.ALLOW:
        assert f"tcp/{port} is fail-safe on node n1" in judged.reason
        assert judged.policy is None
        assert judged.asked == ("hosts",)
