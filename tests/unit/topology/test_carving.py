from ipaddress import ip_network

import pytest

from services.common.errors import InvalidInput
from services.common.model.layout import Layout
from services.topology.forms.file import read_document
from services.topology.layout.usage import Usage


def carve(text: str, previous: Layout | None = None) -> Layout:
    return read_document(text).plan(previous or Layout(), {}, Usage(), 0).layout


def one_network(groups: str, cidr: str = "10.1.0.0/16", more: str = "") -> str:
    return (
        f"networks: [{{name: n, cidr: '{cidr}'{more}}}]\n"
        f"topologies: [{{networks: [n], groups: {groups}}}]"
    )


def prefixes(layout: Layout) -> dict[str, str]:
    return {
        group.path: str(group.prefixes[network])
        for topology in layout.topologies
        for group in topology.walk()
        for network in topology.networks[:1]
    }


def named(*names: str) -> str:
    return "[" + ", ".join(f"{{name: {name}}}" for name in names) + "]"


def test_four_racks_get_a_quarter_each() -> None:
    assert prefixes(carve(one_network(named("a", "b", "c", "d")))) == {
        "n/a": "10.1.0.0/18",
        "n/b": "10.1.64.0/18",
        "n/c": "10.1.128.0/18",
        "n/d": "10.1.192.0/18",
    }


def test_zones_with_four_and_two_racks() -> None:
    groups = (
        f"[{{name: zone-A, groups: {named('a', 'b', 'c', 'd')}}},"
        f" {{name: zone-B, groups: {named('a', 'b')}}}]"
    )
    assert prefixes(carve(one_network(groups, "10.111.0.0/16"))) == {
        "n/zone-A": "10.111.0.0/17",
        "n/zone-A/a": "10.111.0.0/19",
        "n/zone-A/b": "10.111.32.0/19",
        "n/zone-A/c": "10.111.64.0/19",
        "n/zone-A/d": "10.111.96.0/19",
        "n/zone-B": "10.111.128.0/17",
        "n/zone-B/a": "10.111.128.0/18",
        "n/zone-B/b": "10.111.192.0/18",
    }


def test_a_single_group_keeps_its_parents_prefix() -> None:
    assert prefixes(carve(one_network("[{name: z, groups: [{name: r}]}]"))) == {
        "n/z": "10.1.0.0/16",
        "n/z/r": "10.1.0.0/16",
    }


def test_no_groups_is_one_that_takes_all() -> None:
    assert prefixes(carve(one_network("[]"))) == {"n/all": "10.1.0.0/16"}


def test_weights_take_aligned_slots() -> None:
    groups = "[{name: a}, {name: b, weight: 2}, {name: c}]"
    assert prefixes(carve(one_network(groups))) == {
        "n/a": "10.1.0.0/18",
        "n/b": "10.1.128.0/17",
        "n/c": "10.1.64.0/18",
    }


def test_both_families_share_the_slots() -> None:
    layout = carve(
        "networks: [{name: n, cidr: 10.1.0.0/16}, {name: m, cidr: 'fd00:1::/64'}]\n"
        f"topologies: [{{networks: [n, m], groups: {named('a', 'b', 'c')}}}]"
    )
    assert [str(g.prefixes["m"]) for g in layout.topologies[0].groups] == [  # type: ignore[index]
        "fd00:1::/66",
        "fd00:1:0:0:4000::/66",
        "fd00:1:0:0:8000::/66",
    ]


def test_later_groups_take_spare_slots_and_nothing_moves() -> None:
    before = carve(one_network(named("a", "b", "c")))
    after = carve(one_network(named("new", "a", "b", "c")), before)
    assert prefixes(after) == {**prefixes(before), "n/new": "10.1.192.0/18"}


def test_a_removed_groups_slot_is_spare_and_the_others_stay() -> None:
    before = carve(one_network(named("a", "b", "c", "d", "e")))
    after = carve(one_network(named("e")), before)
    assert prefixes(after) == {"n/e": prefixes(before)["n/e"]}


def test_slots_that_run_out_are_divided_in_place() -> None:
    before = carve(one_network(named("a", "b")))
    after = carve(one_network(named("a", "b", "c")), before)
    assert prefixes(after) == {
        "n/a": "10.1.0.0/18",
        "n/b": "10.1.128.0/18",
        "n/c": "10.1.64.0/18",
    }


def test_siblings_stay_clear_of_a_prefix_that_is_named() -> None:
    groups = "[{name: a, prefixes: {n: 10.1.0.0/17}}, {name: b}, {name: c}]"
    assert prefixes(carve(one_network(groups))) == {
        "n/a": "10.1.0.0/17",
        "n/b": "10.1.128.0/18",
        "n/c": "10.1.192.0/18",
    }


def test_naming_the_prefix_that_a_group_has_moves_nothing() -> None:
    before = carve(one_network(named("a", "b")))
    after = carve(one_network("[{name: a, prefixes: {n: 10.1.0.0/17}}, {name: b}]"), before)
    assert prefixes(after) == prefixes(before)


def test_slots_and_slot_are_kept_to() -> None:
    after = carve(
        "networks: [{name: n, cidr: 10.1.0.0/16}]\n"
        "topologies: [{networks: [n], slots: 8, groups: [{name: a, slot: 5}, {name: b}]}]"
    )
    assert prefixes(after) == {"n/a": "10.1.160.0/19", "n/b": "10.1.0.0/19"}


@pytest.mark.parametrize(
    ("groups", "path"),
    [
        ("[{name: a, slot: 1}, {name: b, slot: 1}]", "topologies[0].groups[1].slot"),
        ("[{name: a, weight: 2, slot: 1}]", "topologies[0].groups[0].slot"),
        ("[{name: a, prefixes: {n: 10.2.0.0/16}}]", "topologies[0].groups[0].prefixes['n']"),
        (
            "[{name: a, prefixes: {n: 10.1.0.0/17}}, {name: b, prefixes: {n: 10.1.0.0/18}}]",
            "topologies[0].groups[1].prefixes['n']",
        ),
        ("[{name: a, prefixes: {n: 10.1.0.0/30}}]", "topologies[0].groups[0].prefixes['n']"),
        ("[{name: a, prefixes: {n: 10.1.0.0/16}}, {name: b}]", "topologies[0].groups"),
    ],
)
def test_what_cannot_be_carved_is_refused(groups: str, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        carve(one_network(groups))
    assert [violation.path for violation in caught.value.violations] == [path]


def test_more_groups_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"no room for 5 groups.*divided into 4 at most"
    ) as caught:
        carve(one_network(named("a", "b", "c", "d", "e"), "10.1.0.0/27"))
    assert caught.value.violations[0].path == "topologies[0].groups"


def test_a_block_may_be_as_large_as_its_group_and_no_larger() -> None:
    more = ", block_length: 18"
    assert len(prefixes(carve(one_network(named("a", "b", "c"), more=more)))) == 3
    with pytest.raises(InvalidInput, match="no room"):
        carve(one_network(named("a", "b", "c", "d", "e"), more=more))


def test_groups_move_only_if_there_is_no_room_to_divide() -> None:
    before = carve(one_network(named("a", "b"), "10.1.0.0/28"))
    heavy = "[{name: a}, {name: c, weight: 1}]"
    assert prefixes(carve(one_network(heavy, "10.1.0.0/28"), before)) == {
        "n/a": "10.1.0.0/29",
        "n/c": "10.1.0.8/29",
    }


def test_a_large_level_is_carved() -> None:
    layout = carve(one_network(named(*(f"r{i}" for i in range(4000))), "10.0.0.0/8"))
    last = layout.topologies[0].groups[-1]
    assert last.prefixes == {"n": ip_network("10.249.240.0/20")}
