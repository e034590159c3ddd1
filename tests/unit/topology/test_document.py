import json
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson

from services.common.errors import InvalidInput
from services.common.model.layout import Layout
from services.common.model.names import GroupPath, NetworkName, NodeName
from services.common.model.node import Attachment, Node
from services.topology.api import messages_out
from services.topology.forms.export import export_json, export_yaml
from services.topology.forms.file import Format, read_document
from services.topology.layout.plan import Plan
from services.topology.layout.usage import Usage

EXAMPLE = Path(__file__).parents[3] / "examples" / "datacenter.yaml"


def plan(text: str, form: Format | None = None) -> Plan:
    return read_document(text, form).plan(Layout(), {}, Usage(), 0)


def refused(text: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        plan(text)
    return {violation.path: violation.message for violation in caught.value.violations}


def test_the_example_is_read() -> None:
    layout = plan(EXAMPLE.read_text()).layout
    assert [network.vlan_id for network in layout.networks] == [20, 30, 40, 50]
    assert [
        str(group.prefixes[layout.networks[0].name]) for group in layout.topologies[0].walk()
    ] == [
        "10.20.0.0/17",
        "10.20.128.0/17",
    ]


ROMANA_V2 = {
    "networks": [{"name": "net1", "cidr": "10.111.0.0/16", "block_mask": 29, "tenants": ["t"]}],
    "topologies": [
        {
            "networks": ["net1"],
            "map": [
                {
                    "name": "zone-A",
                    "assignment": {"zone": "a"},
                    "routing": "hint",
                    "cidr": "ignored",
                    "groups": [
                        {"name": "h1", "ip": "192.168.0.1"},
                        {"name": "h2", "ip": "192.168.0.2"},
                    ],
                },
                {"name": "zone-B", "groups": []},
                {"name": "padding", "dummy": True},
            ],
        }
    ],
}


def test_romana_2_json_is_read_as_it_is() -> None:
    made = plan(json.dumps(ROMANA_V2))
    (topology,) = made.layout.topologies
    assert [(group.path, group.routing) for group in topology.walk()] == [
        ("net1/zone-A", "hint"),
        ("net1/zone-B", ""),
    ]
    assert {node.name: dict(node.placements) for node in made.nodes} == {
        "h1": {"net1": "net1/zone-A"},
        "h2": {"net1": "net1/zone-A"},
    }


def test_romana_2_hosts_directly_in_the_map_are_one_group() -> None:
    made = plan(
        json.dumps(
            {
                "networks": [{"name": "n", "cidr": "10.0.0.0/16"}],
                "topologies": [{"networks": ["n"], "map": [{"name": "h", "ip": "192.168.0.1"}]}],
            }
        )
    )
    assert [node.placements for node in made.nodes] == [{"n": "n/all"}]


def test_romana_2_errors_name_its_own_fields() -> None:
    document = json.loads(json.dumps(ROMANA_V2))
    document["networks"][0]["block_mask"] = 8
    document["topologies"][0]["map"][0]["groups"][1]["ip"] = "192.168.0.300"
    found = refused(json.dumps(document))
    assert sorted(found) == ["networks[0].block_mask", "topologies[0].map[0].groups[1].ip"]


def test_values_are_the_text_that_is_written() -> None:
    text = """
networks: [{name: "no", cidr: 10.0.0.0/16, tenants: [on, 1e3, 0x10]}]
topologies:
  - networks: [no]
    groups: [{name: yes, assignment: {rack: 010, on: true}}]
"""
    layout = plan(text).layout
    assert layout.networks[0].tenants == ("on", "1e3", "0x10")
    (group,) = layout.topologies[0].groups
    assert group.path == "no/yes"
    assert group.assignment == {"rack": "010", "on": "true"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("networks:\n  - {name: a\n    b: c", "line 3, column 6"),
        ("networks: [", "line 2, column 1"),
        ('{\n "networks": [,]}', "line 2, column 15"),
        ("a:\n\t- b", "line 2, column 1"),
        ("a: 1\na: 2", "line 2, column 1"),
        ("a: *b", "line 1, column 4"),
        ("a: &a [*a]", "line 1, column 8"),
        ("!!python/object:os.system {}", "line 1, column 1"),
        ("a: 1\n---\nb: 2", "line 2, column 1"),
        ("a: \x00", "line 1, column 4"),
        ("", "line 1, column 1"),
        ("[" * 5000, "line 1, column"),
        ("{" + '"a":{' * 5000, "line 1, column"),
    ],
)
def test_malformed_text_is_refused_with_line_and_column(text: str, place: str) -> None:
    with pytest.raises(InvalidInput, match=place) as caught:
        read_document(text)
    assert caught.value.reason == "MALFORMED_DOCUMENT"
    assert caught.value.violations[0].path == "document.text"


def test_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(InvalidInput, match="more than 500000 nodes"):
        read_document("\n".join(lines))


def test_more_than_eight_mebibytes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="8388608"):
        read_document("#" * (8 << 20) + "\n")


@pytest.mark.parametrize("text", ["[" + "0," * 500_000 + "0]", '{"networks":[' + "{}," * 400_000])
def test_values_of_json_are_bounded_before_they_are_made(text: str) -> None:
    with pytest.raises(InvalidInput, match="more than 500000 nodes"):
        read_document(text, Format.JSON)


@pytest.mark.parametrize("write", [export_yaml, export_json])
def test_an_export_of_5000_nodes_with_labels_can_be_imported(
    write: Callable[[Layout, Iterable[Node]], str],
) -> None:
    racks = ", ".join(f"{{name: rack-{i}, assignment: {{rack: '{i}'}}}}" for i in range(1000))
    layout = plan(
        "networks: [{name: n, cidr: 10.0.0.0/8}]\n"
        f"topologies: [{{networks: [n], groups: [{racks}]}}]"
    ).layout
    group = layout.topologies[0].groups[0].path.removesuffix("0")
    nodes = {
        name: Node(
            name,
            ip_address("172.16.0.0") + number,
            labels={
                "rack": str(number % 1000),
                "kubernetes.io/hostname": f"ip-172-16-20-30-{number}.region-1",
                "topology.kubernetes.io/zone": "region-1a",
                "topology.kubernetes.io/region": "region-1",
                "node.kubernetes.io/instance-type": "m5.4xlarge",
            },
            attachments=(
                Attachment(NetworkName("n"), "eth0.100", ip_address("172.20.0.0") + number),
            ),
            placements={layout.topologies[0].name: GroupPath(f"{group}{number % 1000}")},
        )
        for number in range(5000)
        for name in [NodeName(f"ip-172-16-20-30-{number}.region-1.compute.internal")]
    }
    text = write(layout, nodes.values())
    assert len(text) > 1 << 20
    again = read_document(text).plan(Layout(), {}, Usage(), 0)
    assert again.layout == layout
    assert {node.name: node.placements for node in again.nodes} == {
        name: node.placements for name, node in nodes.items()
    }


def test_unknown_fields_are_refused_with_path_and_line() -> None:
    found = refused(
        "networks:\n  - name: n\n    cidr: 10.0.0.0/8\n    colour: blue\n    gatway: x\n"
    )
    assert found["networks[0].colour"] == "there is no such field (line 4)"
    assert found["networks[0].gatway"].startswith("there is no such field; did you mean 'gateway'?")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = """
networks:
  - {name: a, cidr: 10.0.0.1/8, vlan: 5000, mtu: 20, reuse_delay: soon, mode: bridge}
  - {name: A!, cidr: 10.0.0.0/16, gateway: 'fd00::1', block_length: 40}
  - {name: c, cidr: 10.0.128.0/17, mode: onlink, gateway: 10.1.0.1, tenants: [x, x]}
topologies:
  - networks: [a, c, nowhere]
    groups: [{name: x/y}, {assignment: {z: a}, groups: [{assignment: {z: b}}]}, {name: group-2}]
  - networks: [c]
    slots: 3
"""
    assert set(refused(text)) == {
        "networks[0].cidr",
        "networks[0].mode",
        "networks[0].reuse_delay",
        "networks[0].vlan_id",
        "networks[1].block_length",
        "networks[1].gateway",
        "networks[1].name",
        "networks[2].gateway",
        "networks[2].tenants[1]",
        "topologies[0].groups[0].name",
        "topologies[0].groups[1].groups[0].assignment['z']",
        "topologies[0].groups[2].name",
        "topologies[0].networks[2]",
        "topologies[1].networks[0]",
        "topologies[1].slots",
    }


def test_an_empty_file_names_what_is_missing() -> None:
    assert "networks" in refused("{}")


def test_nodes_are_listed_by_name_and_address() -> None:
    text = """
networks: [{name: n, cidr: 10.0.0.0/16}, {name: m, cidr: 10.1.0.0/16}]
topologies:
  - {networks: [n], groups: [{name: r, nodes: [{name: x, address: 192.0.2.1}]}]}
  - {networks: [m], groups: [{name: r, nodes: [x]}]}
"""
    (node,) = plan(text).nodes
    assert node.placements == {"n": "n/r", "m": "m/r"}


@pytest.mark.parametrize(
    "nodes",
    [
        "[{name: x, address: 192.0.2.1}, {name: x, address: 192.0.2.2}]",
        "[{name: x, address: 192.0.2.1}, {name: y, address: 192.0.2.1}]",
        "[x]",
        "[{address: 192.0.2.1}]",
    ],
)
def test_listed_nodes_that_cannot_be_are_refused(nodes: str) -> None:
    text = (
        "networks: [{name: n, cidr: 10.0.0.0/16}]\n"
        f"topologies: [{{networks: [n], groups: [{{name: r, nodes: {nodes}}}]}}]"
    )
    assert all(path.startswith("topologies[0].groups[0].nodes[") for path in refused(text))


def test_a_file_is_the_json_form_of_the_api() -> None:
    text = """
networks:
  - {name: n, cidr: 10.0.0.0/16, block_length: 28, vlan: 20, mode: onlink, gateway: 10.0.0.1,
     reuse_delay: 1m, isolation: tenant, masquerade: true}
topologies:
  - {name: t, networks: [n], groups: [{name: a, prefixes: {n: 10.0.0.0/24}}, {name: b, weight: 2}]}
"""
    layout = plan(text).layout
    message = messages_out.spec(layout, ())
    for own_names in (True, False):
        answer = MessageToJson(message, preserving_proto_field_name=own_names)
        assert plan(answer).layout == layout


@pytest.mark.parametrize(
    ("network", "path"),
    [
        ("vlan: 7, vlan_id: 7", "networks[0].vlan"),
        ("blockLength: 29, block_length: 29", "networks[0].blockLength"),
        ("mode: ATTACHMENT_MODE_BRIDGE", "networks[0].mode"),
        ("group: x", "networks[0].group"),
    ],
)
def test_other_spellings_are_not_taken(network: str, path: str) -> None:
    assert path in refused(
        f"networks: [{{name: n, cidr: 10.0.0.0/16, {network}}}]\ntopologies: [{{networks: [n]}}]"
    )


def test_resolvers_that_cannot_be_are_refused() -> None:
    found = refused("""
networks:
  - name: n
    cidr: 10.0.0.0/16
    dns:
      nameservers: [10.0.0.53, 224.0.0.1, resolver.example]
      search: [corp.example, "a b"]
      options: [ndots]
topologies: [{networks: [n]}]
""")
    assert found == {
        "networks[0].dns.nameservers[1]": "224.0.0.1 is not the address of a resolver (line 6)",
        "networks[0].dns.nameservers[2]": (
            "'resolver.example' is not an IPv4 or IPv6 address (line 6)"
        ),
        "networks[0].dns.search[1]": "'a b' is not a domain such as corp.example (line 7)",
        "networks[0].dns.options": "there is no such field (line 8)",
    }
