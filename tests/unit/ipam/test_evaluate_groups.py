"""Evaluation by groups says what evaluation by nodes does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from services.common.errors import NotFound, RomanaError
from services.common.model.names import NodeName, Segment, Tenant
from services.ipam.deciding.evaluate_groups import GroupEvaluating, HolderRoom, Rooms
from services.ipam.deciding.held_rooms import HeldRooms
from services.ipam.model import AddressSpec, Why
from tests.support.ipam_world import World, want
from tests.support.topologies import layout, network, node

GROUPS = {
    "one": {"net": "10.0.0.0/29", "own": "10.1.0.0/30", "six": "fd00::/126"},
    "two": {"net": "10.0.0.8/29", "own": "10.1.0.4/30", "six": "fd00::4/126"},
}
NETWORKS = [
    network("net", "10.0.0.0/28", 31, gateway="10.0.0.1"),
    network("own", "10.1.0.0/29", 31, tenants=["mine"]),
    network("six", "fd00::/125", 127),
]
NODES = [node("a", "one"), node("b", "one", on=["net"]), node("c", "two"), node("d", None)]


ANYTHING = AddressSpec()


def groups(it: World, wanted: AddressSpec = ANYTHING, tenant: str = "mine") -> Rooms:
    evaluating = GroupEvaluating(Tenant(tenant), Segment(""), wanted)
    for place in evaluating.begin(it.ledger):
        evaluating.look(it.ledger, place, it.now)
    rooms = evaluating.rooms
    if wanted.address is None:
        held = HeldRooms(Tenant(tenant), Segment(""))
        for net in it.ledger.networks.values():
            for area in net.areas.values():
                for holder in held.holders(area):
                    held.look(it.ledger, holder, it.now)
        rooms.holders += [
            HolderRoom(*holder, free)
            for holder, free in held.all().items()
            if holder[0] in evaluating.networks
        ]
    return rooms


def fits(it: World, rooms: Rooms, name: str) -> bool:
    """As a scheduler judges that knows where its nodes are."""
    there = it.ledger.nodes[NodeName(name)]
    group = next(iter(there.placements.values()), None)
    if there.cordoned:
        return False
    free = any(
        room.refused is None and room.group == group and there.is_attached(room.network)
        for room in rooms.groups
    )
    return free or any(room.node == name for room in rooms.holders)


@pytest.mark.parametrize("seed", range(30))
def test_the_same_nodes_fit(seed: int) -> None:
    draw = random.Random(seed)
    cordoned = replace(NODES[0], cordoned=draw.random() < 0.3)
    it = World(layout(NETWORKS, GROUPS), [cordoned, *NODES[1:]])
    for number in range(draw.randrange(30)):
        try:
            it.one(f"n{number}", draw.choice("abc"), tenant=draw.choice(["mine", "other"]))
        except RomanaError:
            continue
        if draw.random() < 0.3:
            it.release(f"n{number}")
    for tenant in ("mine", "other"):
        for wanted in (AddressSpec(), want("net"), want("own"), want("six")):
            rooms = groups(it, wanted, tenant)
            found = it.evaluate(want=wanted, tenant=tenant)
            assert {one.node: one.fits for one in found} == {
                name: fits(it, rooms, name) for name in "abcd"
            }


@pytest.mark.parametrize("seed", range(30))
def test_an_address_fits_where_it_can_be_had(seed: int) -> None:
    draw = random.Random(seed)
    it = World(layout(NETWORKS, GROUPS), NODES)
    it.reserve("r", "net", "10.0.0.6")
    for number in range(draw.randrange(12)):
        try:
            it.one(f"n{number}", draw.choice("abc"), tenant=draw.choice(["mine", "other"]))
        except RomanaError:
            continue
    wanted = want("net", address=f"10.0.0.{draw.randrange(16)}")
    rooms = groups(it, wanted)
    fitting = {name: fits(it, rooms, name) for name in "abcd"}
    for name in "abcd":
        try:
            it.allocate("it", name, "mine", "", wanted)
        except RomanaError:
            had = False
        else:
            had = True
            it.release("it")
            it.wait(60)
            it.close_rested()
        assert had == fitting[name], (name, wanted, rooms)


def test_networks_that_are_out_of_the_question_are_named_once() -> None:
    it = World(layout(NETWORKS, GROUPS), NODES)
    rooms = groups(it, want(family=4), "other")
    assert [(one.network, one.why) for one in rooms.refused] == [
        ("own", Why.NOT_THIS_TENANT),
        ("six", Why.OTHER_FAMILY),
    ]
    with pytest.raises(NotFound):
        groups(it, want("nowhere"))


def test_an_address_of_no_network_is_outside_of_each() -> None:
    it = World(layout(NETWORKS, GROUPS), NODES)
    rooms = groups(it, want(address="192.0.2.7"))
    assert not rooms.groups
    assert [(one.network, one.why) for one in rooms.refused] == [
        ("own", Why.ADDRESS_OUTSIDE),
        ("net", Why.ADDRESS_OUTSIDE),
        ("six", Why.OTHER_FAMILY),
    ]


def test_networks_that_name_the_tenant_come_first() -> None:
    it = World(layout(NETWORKS, GROUPS), NODES)
    assert list(dict.fromkeys(room.network for room in groups(it).groups)) == ["own", "net", "six"]
