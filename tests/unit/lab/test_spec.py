"""Reading a lab's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab import acl
from lab.file import parse, topology_document
from services.common.errors import InvalidInput

CLUSTERS = Path(__file__).parents[3] / "lab" / "clusters"
GOOD = """
name: small
networks:
  - {name: qa, cidr: 10.30.0.0/24, vlan_id: 30, gateway: 10.30.0.1}
  - {name: prod, cidr: 10.40.0.0/24, vlan_id: 40, gateway: 10.40.0.1}
router:
  allow: [{from: qa, to: prod, protocol: tcp, ports: [80, 443]}]
nodes:
  - {name: n1, addresses: {qa: 10.30.0.11, prod: 10.40.0.11}}
  - {name: n2, addresses: {qa: 10.30.0.12}}
endpoints:
  - {name: e1, node: n1, tenant: shop}
machines:
  - {name: printer, network: qa, address: 10.30.0.20}
firewalls:
  - {name: fw, addresses: {prod: 10.40.0.250}}
  - {name: two, addresses: {prod: 10.40.0.251}, outside: {prod: {address: 10.40.0.252}}}
  - name: far
    addresses: {prod: 10.40.0.253}
    outside: {prod: {address: 10.30.0.253, network: qa}}
"""


def wrong(text: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    return {violation.path: violation.message for violation in caught.value.violations}


def test_every_cluster_that_comes_along_is_good() -> None:
    names = [parse(file.read_text()).name for file in CLUSTERS.glob("*.yaml")]
    assert "datacenter" in names
    assert len(names) == len(set(names))


def test_a_good_file() -> None:
    lab = parse(GOOD)
    assert lab.network("qa").interface == "vlan30"
    assert lab.network("qa").on_link(lab.machines[0].address) == "10.30.0.20/24"
    assert [str(lab.management(node.name)) for node in lab.nodes] == ["198.18.0.2", "198.18.0.3"]


@pytest.mark.parametrize(
    ("before", "after", "path", "message"),
    [
        ("name: small", "name: Small!", "name", "1 to 31"),
        ("vlan_id: 30", "vlan_id: 4095", "networks[0].vlan_id", "4094"),
        ("vlan_id: 40", "vlan_id: 30", "networks[1].vlan_id", "that of qa"),
        ("gateway: 10.30.0.1}", "gateway: 10.31.0.1}", "networks[0].gateway", "not in"),
        ("cidr: 10.40.0.0/24", "cidr: 10.30.0.0/16", "networks[1].cidr", "10.30.0.0/24"),
        ("cidr: 10.40.0.0/24", "cidr: 10.40.0.1/24", "networks[1].cidr", "host bits"),
        ("cidr: 10.40.0.0/24", "cidr: 198.18.0.0/24", "networks[1].cidr", "management"),
        ("from: qa", "from: dev", "router.allow[0].from", "no network 'dev'"),
        ("protocol: tcp", "protocol: icmp", "router.allow[0].ports", "tcp and udp"),
        ("80, 443", "80, 70000", "router.allow[0].ports", "65535"),
        ("prod: 10.40.0.11", "dev: 10.40.0.11", "nodes[0].addresses.dev", "no network"),
        ("{qa: 10.30.0.12}", "{qa: 10.99.0.12}", "nodes[1].addresses.qa", "not in"),
        ("{qa: 10.30.0.12}", "{qa: 10.30.0.11}", "nodes[1].addresses.qa", "that of n1"),
        ("{qa: 10.30.0.12}", "{}", "nodes[1].addresses", "at least one"),
        ("name: n2", "name: n1", "nodes[1].name", "taken"),
        ("name: printer", "name: e1", "machines[0].name", "taken"),
        ("name: printer", "name: router", "machines[0].name", "taken"),
        ("node: n1", "node: n9", "endpoints[0].node", "no node"),
        ("tenant: shop", "tenant: shop, network: test", "endpoints[0].network", "not on"),
        ("tenant: shop", "tenants: shop", "endpoints[0].tenants", "no such field"),
        ("address: 10.30.0.20", "address: here", "machines[0].address", "address"),
        ("address: 10.30.0.20", "address: 10.30.0.1", "machines[0].address", "gateway of qa"),
        ("name: fw", "name: e1", "firewalls[0].name", "taken"),
        ("{prod: 10.40.0.250}", "{}", "firewalls[0].addresses", "at least one"),
        ("prod: 10.40.0.250", "dev: 10.40.0.250", "firewalls[0].addresses.dev", "no network"),
        ("10.40.0.250", "10.99.0.250", "firewalls[0].addresses.prod", "not in"),
        ("10.40.0.250", "10.40.0.11", "firewalls[0].addresses.prod", "that of n1"),
        (
            "outside: {prod: {address: 10.40.0.252",
            "outside: {qa: {address: 10.40.0.252",
            "firewalls[1].outside.qa",
            "no inside",
        ),
        ("10.40.0.252", "10.40.0.251", "firewalls[1].outside.prod.address", "that of two"),
        ("10.40.0.252", "10.40.0.250", "firewalls[1].outside.prod.address", "that of fw"),
        ("10.40.0.252", "10.30.0.252", "firewalls[1].outside.prod.address", "not in prod's"),
        ("10.40.0.252", "fd00::1", "firewalls[1].outside.prod.address", "not in"),
        ("{address: 10.40.0.252}", "{}", "firewalls[1].outside.prod.address", "is missing"),
        ("network: qa}", "network: dev}", "firewalls[2].outside.prod.address", "no network 'dev'"),
        ("10.30.0.253", "10.40.0.254", "firewalls[2].outside.prod.address", "not in qa's"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(
    before: str, after: str, path: str, message: str
) -> None:
    assert before in GOOD
    found = wrong(GOOD.replace(before, after))
    assert message in found[path]


def test_no_yaml_and_no_mapping() -> None:
    assert "line 2, column 1" in wrong("a: [\n")["document.text"]
    assert "must be a mapping" in wrong("- a")[""]


def test_what_is_wrong_is_said_with_its_line() -> None:
    text = GOOD.replace("name: n2", "nome: n2")
    line = 1 + text[: text.index("nome")].count("\n")
    assert wrong(text) == {
        "nodes[1].name": f"is missing (line {line})",
        "nodes[1].nome": f"there is no such field (line {line})",
    }


def test_a_mark_of_the_byte_order_before_a_file_is_no_part_of_it() -> None:
    assert parse(f"\ufeff{GOOD}") == parse(GOOD)


def test_the_topology_file_in_it_is_handed_on_as_it_is() -> None:
    text = (CLUSTERS / "datacenter.yaml").read_text()
    document = yaml.safe_load(topology_document(text))
    assert [*document] == ["networks", "topologies"]
    assert document["networks"] == yaml.safe_load(text)["networks"]


def test_access_rules_name_interfaces_protocols_and_ports() -> None:
    assert (
        'iifname "vlan30" oifname "vlan40" meta l4proto tcp th dport { 80, 443 } accept'
        in acl.rendered(parse(GOOD))
    )
