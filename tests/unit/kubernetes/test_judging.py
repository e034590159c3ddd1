from __future__ import annotations

from services.common.model.names import GroupPath, NetworkName, NodeName
from services.kubernetes.scheduling.judging import (
    ADDRESSES_FIELD,
    CORDONED,
    UNKNOWN,
    Home,
    judge,
    keep_at,
    score,
)
from services.kubernetes.scheduling.places import Place, Places
from services.kubernetes.scheduling.rooms import Lack, Rooms

BLUE, GREEN = NetworkName("blue"), NetworkName("green")
ONE, TWO = GroupPath("dc/one"), GroupPath("dc/two")
A, B, C, D = (NodeName(name) for name in "abcd")
PLACES = Places(
    {
        A: Place({BLUE: ONE}),
        B: Place({BLUE: ONE, GREEN: TWO}),
        C: Place({GREEN: TWO}),
        D: Place({}, frozenset({BLUE})),
    }
)
NODES = [A, B, C, D]


def rooms(
    *networks: NetworkName,
    free: dict[tuple[NetworkName, GroupPath], int] | None = None,
    lacks: dict[tuple[NetworkName, GroupPath], Lack] | None = None,
    held: dict[NetworkName, dict[NodeName, int]] | None = None,
    excluded: dict[NetworkName, Lack] | None = None,
) -> Rooms:
    return Rooms(networks, free or {}, lacks or {}, held or {}, excluded or {})


def test_nodes_on_a_network_with_room_fit_and_others_never_will() -> None:
    judged = judge([rooms(BLUE, free={(BLUE, ONE): 3})], PLACES, [*NODES, NodeName("x")])
    assert judged.fit == [A, B]
    assert judged.failed == {}
    assert judged.unresolvable == {
        C: "blue: the node is not on it",
        D: "blue: the node's labels fit no group of it",
        "x": UNKNOWN,
    }


def test_a_cordoned_node_does_not_fit_whatever_pods_go() -> None:
    places = Places({A: Place({BLUE: ONE}, cordoned=True), B: Place({BLUE: ONE})})
    judged = judge([rooms(BLUE, free={(BLUE, ONE): 3})], places, [A, B])
    assert judged.fit == [B]
    assert judged.unresolvable == {A: CORDONED}


def test_what_is_full_may_have_room_later_and_is_told_in_the_same_words() -> None:
    full = rooms(BLUE, free={(BLUE, ONE): 0}, lacks={(BLUE, ONE): Lack.RESTING})
    judged = judge([full], PLACES, [A, B])
    assert set(judged.failed) == {A, B}
    assert len(set(judged.failed.values())) == 1
    assert judged.failed[A].startswith("blue: no address is left but some")
    assert not judged.unresolvable


def test_a_node_that_holds_a_block_with_room_fits_where_its_group_is_full() -> None:
    full = rooms(BLUE, free={(BLUE, ONE): 0}, held={BLUE: {B: 2}})
    judged = judge([full], PLACES, [A, B])
    assert judged.fit == [B]
    assert judged.failed == {A: "blue: no address is left in dc/one"}


def test_any_of_several_networks_will_do() -> None:
    some = rooms(BLUE, GREEN, free={(BLUE, ONE): 0, (GREEN, TWO): 1})
    judged = judge([some], PLACES, NODES)
    assert judged.fit == [B, C]
    assert set(judged.failed) == {A}
    assert set(judged.unresolvable) == {D}


def test_every_address_that_is_wanted_needs_room() -> None:
    blue = rooms(BLUE, free={(BLUE, ONE): 1})
    green = rooms(GREEN, free={(GREEN, TWO): 1})
    assert judge([blue, green], PLACES, NODES).fit == [B]


def test_an_address_of_another_group_is_for_good() -> None:
    outside = rooms(BLUE, lacks={(BLUE, ONE): Lack.ADDRESS_OUTSIDE})
    assert judge([outside], PLACES, [A]).unresolvable == {
        A: f"{ADDRESSES_FIELD}: blue: the address is of another group in dc/one"
    }


def test_networks_of_other_tenants_are_named() -> None:
    none = rooms(excluded={BLUE: Lack.OTHER_TENANTS})
    assert judge([none], PLACES, [A]).unresolvable == {A: "blue: is for other tenants"}


def test_blocks_are_filled_first_then_the_emptiest_group() -> None:
    some = rooms(BLUE, GREEN, free={(BLUE, ONE): 10, (GREEN, TWO): 5}, held={GREEN: {C: 1}})
    assert score([some], PLACES, NODES) == [9, 9, 10, 0]
    assert score([rooms(BLUE)], PLACES, [A]) == [0]


def test_a_place_as_a_label() -> None:
    rack = GroupPath("dc/rack-1")
    assert Place({BLUE: rack, NetworkName("green"): GroupPath("other")}).label == "dc.rack-1"
    assert Place({}).label is None
    for group in ("g" * 64, "dc/failure-domain: us-east-1a", "dc/rack one", "dc/rack-"):
        assert Place({BLUE: GroupPath(group)}).label is None


def test_addresses_that_a_name_has_can_be_kept_in_their_group() -> None:
    home = Home(A, frozenset({BLUE}))
    assert keep_at(home, PLACES, [A, B, C]) == {A: 10, B: 9}
    both = Home(B, frozenset({BLUE, GREEN}))
    assert keep_at(both, PLACES, [A, B, C]) == {B: 10}
    closed = Places({**PLACES.nodes, B: Place({BLUE: ONE}, cordoned=True)})
    assert keep_at(home, closed, [A, B]) == {A: 10}
    assert keep_at(Home(NodeName("gone"), frozenset()), PLACES, [A]) == {}
