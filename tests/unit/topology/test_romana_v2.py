"""Shapes of the earlier Romana's own files: examples, what it shipped for clusters, its exports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from services.common.errors import InvalidInput
from services.common.model.layout import Layout
from services.topology.forms.export import export_json, export_yaml
from services.topology.forms.file import read_document
from services.topology.layout.plan import Plan
from services.topology.layout.usage import Usage

Json = dict[str, Any]

EMPTY: Sequence[Json] = ({"groups": []},)


def file(networks: Sequence[Json], *topologies: tuple[Sequence[str], Sequence[Json]]) -> str:
    maps = [{"networks": names, "map": elements} for names, elements in topologies]
    return json.dumps({"networks": networks, "topologies": maps})


def network(name: str, cidr: str, mask: int = 29, **more: object) -> Json:
    return {"name": name, "cidr": cidr, "block_mask": mask, **more}


def plan(text: str, layout: Layout | None = None) -> Plan:
    return read_document(text, None).plan(layout or Layout(), {}, Usage(), 0)


def paths(made: Plan) -> list[str]:
    return [group.path for topology in made.layout.topologies for group in topology.walk()]


def refused(text: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        plan(text)
    return {violation.path: violation.message for violation in caught.value.violations}


def zone(letter: str, hosts: Sequence[Json] = ()) -> Json:
    """A failure domain with two racks, of which the first has hosts, as an export has them."""
    labels = {"domain": f"east-{letter}"}
    return {
        "name": f"failure-domain: east-{letter}",
        "cidr": "10.0.0.0/8",
        "routing": "",
        "groups": [
            {"name": f"{letter}-01", "assignment": {**labels, "rack": "1"}, "groups": hosts},
            {"name": f"{letter}-02", "assignment": {**labels, "rack": "2"}, "groups": []},
        ],
    }


def test_names_have_capitals_colons_and_blanks() -> None:
    made = plan(file([network("vlanA", "10.1.0.0/16")], (["vlanA"], [zone("a"), zone("b")])))
    assert [item.name for item in made.layout.networks] == ["vlanA"]
    assert paths(made)[:3] == [
        "vlanA/failure-domain: east-a",
        "vlanA/failure-domain: east-a/a-01",
        "vlanA/failure-domain: east-a/a-02",
    ]


@pytest.mark.parametrize("export", [export_yaml, export_json])
def test_such_names_survive_an_export(export: Any) -> None:
    made = plan(file([network("vlanA", "10.1.0.0/16")], (["vlanA"], [zone("a"), zone("b")])))
    again = plan(export(made.layout, ()), made.layout)
    assert again.layout == made.layout


@pytest.mark.parametrize("name", [": a", "a ", "a/b", "a\tb", "", "a" * 64])
def test_other_names_are_refused(name: str) -> None:
    group = {**zone("a"), "name": name}
    if name:
        assert "topologies[0].map[0].name" in refused(
            file([network("n", "10.1.0.0/16")], (["n"], [group]))
        )
    else:  # one without a name is given one
        assert paths(plan(file([network("n", "10.1.0.0/16")], (["n"], [group]))))[0] == "n/group-1"


@pytest.mark.parametrize("tenants", [["*"], ["*", "shop"], [], None])
def test_a_star_is_open_to_all_tenants(tenants: list[str] | None) -> None:
    made = plan(file([network("n", "10.1.0.0/16", tenants=tenants)], (["n"], [{"groups": []}])))
    assert made.layout.networks[0].tenants == ()


def test_an_export_lists_hosts_with_labels_in_each_topology() -> None:
    labels = {"domain": "east-a", "rack": "1", "node-role.kubernetes.io/master": ""}
    host = {"name": "ip-192-168-0-10", "ip": "192.168.0.10", "assignment": labels}
    made = plan(
        file(
            [network("prod", "10.1.0.0/20"), network("test", "10.2.0.0/20")],
            (["prod"], [zone("a", [host]), zone("b")]),
            (["test"], [zone("a", [host]), zone("b")]),
        )
    )
    (node,) = made.nodes
    assert dict(node.labels) == labels
    assert dict(node.placements) == {
        "prod": "prod/failure-domain: east-a/a-01",
        "test": "test/failure-domain: east-a/a-01",
    }


def test_a_host_with_other_labels_in_another_topology_is_refused() -> None:
    host = {"name": "h", "ip": "192.168.0.10", "assignment": {"rack": "1"}}
    other = {**host, "assignment": {"rack": "2"}}
    found = refused(
        file(
            [network("a", "10.1.0.0/20"), network("b", "10.2.0.0/20")],
            (["a"], [{"groups": [host]}]),
            (["b"], [{"groups": [other]}]),
        )
    )
    assert list(found) == ["topologies[1].map[0].groups[0].assignment"]


def test_the_same_host_again_is_the_same_host() -> None:
    host = {"name": "h", "ip": "192.0.2.1"}
    made = plan(file([network("n", "10.1.0.0/16")], (["n"], [{"groups": [host, host, host]}])))
    assert [node.name for node in made.nodes] == ["h"]


@pytest.mark.parametrize(
    ("elements", "path"),
    [
        (
            [{"groups": [{"name": "h", "ip": "192.0.2.1"}]}] * 2,
            "topologies[0].map[1].groups[0].name",
        ),
        (
            [{"groups": [{"name": f"h{n}", "ip": "192.0.2.1"} for n in range(2)]}],
            "topologies[0].map[0].groups[1].ip",
        ),
        (
            [{"groups": [{"name": "h", "ip": "192.0.2.1"}, {"name": "h", "ip": "192.0.2.2"}]}],
            "topologies[0].map[0].groups[1].name",
        ),
    ],
    ids=["in two groups", "two of one address", "two of one name"],
)
def test_hosts_that_contradict_each_other_are_refused(elements: list[Json], path: str) -> None:
    assert path in refused(file([network("n", "10.1.0.0/16")], (["n"], elements)))


def test_a_network_in_no_topology_is_left_out() -> None:
    networks = [network("a", "10.1.0.0/20"), network("b", "10.2.0.0/20")]
    made = plan(file(networks, (["a"], [{"groups": []}])))
    assert [item.name for item in made.layout.networks] == ["a"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (
            file([network("a", "10.1.0.0/24", 20)], (["a"], [{"groups": []}])),
            "networks[0].block_mask",
        ),
        (
            file(
                [network("a", "10.1.0.0/20"), network("b", "10.1.0.0/20")],
                (["a", "b"], EMPTY),
            ),
            "networks[1].cidr",
        ),
        (
            file(
                [network("a", "10.1.0.0/20")], (["a"], [{"groups": []}]), (["a"], [{"groups": []}])
            ),
            "topologies[1].networks[0]",
        ),
    ],
    ids=["blocks larger than the network", "networks that overlap", "a network in two topologies"],
)
def test_what_it_refused_itself_is_refused(text: str, path: str) -> None:
    assert path in refused(text)
