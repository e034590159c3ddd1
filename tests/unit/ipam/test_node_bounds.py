"""What a node's own certificate may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.common.errors import AlreadyExists, Exhausted, Forbidden, RomanaError
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.model.node import Node, NodeAllowance
from services.ipam.deciding.commands import CreateReservation, NodeBounds
from services.ipam.deciding.node_bounds import CONFLICTS_MOST, may_take
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ranges import stored_ranges
from tests.support.ipam_world import World, carry_out
from tests.support.topologies import layout, network, node

DEFAULTS = NodeBounds()
CONTAINER = f"romana/{'c0ffee' * 10}/eth0"


def world(*nodes: Node, cidr: str = "10.0.0.0/26") -> World:
    """Blocks of 8 addresses in a group of 64."""
    return World(layout([network("net", cidr)]), nodes or [node("n1"), node("n2")])


def allowed(name: str, **allowance: object) -> Node:
    return replace(node(name), allowance=NodeAllowance(**allowance))  # type: ignore[arg-type]


def take(
    there: World, name: str, tenant: str = "t", on: str = "n1", bounds: NodeBounds = DEFAULTS
) -> list[str]:
    return there.allocate(name, on, tenant, bounds=bounds)


def refusal(kind: type[RomanaError], there: World, *words: str) -> str:
    before = there.blocks()
    with pytest.raises(kind) as raised:
        take(there, *words)
    assert there.blocks() == before
    assert not there.ledger.unsaved.operations
    return raised.value.reason


@pytest.mark.parametrize(
    ("name", "patterns", "may"),
    [
        ("n1/web-1", (), True),
        ("n2/web-1", (), False),
        ("n1", (), False),
        ("n10/web-1", (), False),
        ("web-1", (), False),
        ("web-1", ("web-*",), True),
        ("db-1", ("web-*", "*-1"), True),
        ("web-", ("web-?", "web-[0-9]"), False),
        ("web-[0-9]", ("web-[0-9]",), True),
        ("anything", ("*",), True),
        (CONTAINER, (), True),
        ("romana/web/eth0", (), False),
        (f"{CONTAINER}/more", (), False),
    ],
)
def test_names_that_a_node_may_take(name: str, patterns: Sequence[str], *, may: bool) -> None:
    assert may_take(EndpointName(name), NodeName("n1"), patterns) is may


def test_a_pattern_with_many_stars_takes_no_time() -> None:
    assert not may_take(EndpointName("a" * 250), NodeName("n1"), ("*a" * 100 + "b",))


def test_a_name_that_others_would_use_is_not_taken() -> None:
    there = world()
    assert refusal(Forbidden, there, "db-1") == "NAME_NOT_ALLOWED"
    assert take(there, "n1/db-1")
    assert take(there, "db-1", bounds=NodeBounds(names=("db-*",)))


def test_an_operator_allows_names_to_a_node() -> None:
    there = world(allowed("n1", names=("db-*",)), node("n2"))
    assert take(there, "db-1")
    assert refusal(Forbidden, there, "web-1") == "NAME_NOT_ALLOWED"


def test_what_a_scheduler_allocated_is_given_whatever_it_is_called() -> None:
    there = world(allowed("n1", tenants=("shop",)), node("n2"))
    address = there.one("db-1", "n1", "admin")
    assert take(there, "db-1", "admin") == [address]


def test_a_name_of_another_node_is_taken_and_nothing_more_is_said() -> None:
    there = world()
    there.one("n1/db-1", "n2", "secret-tenant")
    with pytest.raises(AlreadyExists) as raised:
        take(there, "n1/db-1")
    assert raised.value.reason == "NAME_TAKEN"
    assert "secret-tenant" not in str(raised.value.metadata) + raised.value.message


def test_only_tenants_that_an_operator_named() -> None:
    there = world(allowed("n1", tenants=("shop", "lab")), node("n2"))
    assert take(there, "n1/a", "shop")
    assert refusal(Forbidden, there, "n1/b", "admin") == "TENANT_NOT_ALLOWED"
    assert take(world(), "n1/b", "admin")


def test_a_node_leaves_room_to_the_others_of_its_group() -> None:
    """Also by blocks of many owners, each with one address."""
    there = world()
    for number in range(6):
        take(there, f"n1/{number}", f"t{number}")
    assert refusal(Exhausted, there, "n1/6", "t6") == "NODE_SHARE_USED"
    assert take(there, "n1/more", "t1")  # in a block that it holds
    assert there.one("other", "n2", "t6")
    assert there.one("by-a-scheduler", "n1", "t6")  # others are not bound by it


def test_a_node_alone_in_its_group_may_have_all_of_it() -> None:
    there = world(node("n1"))
    for number in range(8):
        take(there, f"n1/{number}", f"t{number}")


def test_an_operator_says_how_many_addresses_a_node_may_hold() -> None:
    there = world(allowed("n1", addresses=16), node("n2"))
    take(there, "n1/0", "t0")
    take(there, "n1/1", "t1")
    assert refusal(Exhausted, there, "n1/2", "t2") == "NODE_SHARE_USED"


def test_a_share_is_one_block_at_least() -> None:
    there = world(cidr="10.0.0.0/29")
    assert take(there, "n1/0")


def set_aside(there: World, *ranges: str, on: str = "n1") -> bool:
    reservation = Reservation(
        f"conflict-{ranges[0]}".replace("/", "-"),
        NetworkName("net"),
        stored_ranges(ranges),
        ranges,
        node=NodeName(on),
    )
    carry_out(there.ledger, CreateReservation(reservation))
    is_new = bool(there.ledger.unsaved.operations)
    there.save()
    return is_new


def test_a_node_sets_aside_only_an_address_of_its_own() -> None:
    there = world()
    own, others = there.one("a", "n1"), there.one("b", "n2")
    for ranges in (
        ("10.0.0.0/26",),
        (others,),
        ("10.0.0.60",),
        (own, others),
        (f"{own}-10.0.0.60",),
    ):
        with pytest.raises(Forbidden):
            set_aside(there, *ranges)
    assert set_aside(there, own)
    assert not set_aside(there, own)  # the same again


def test_a_node_sets_aside_a_few_addresses_and_no_more() -> None:
    there = world(node("n1"), node("n2"), cidr="10.0.0.0/24")
    for number in range(CONFLICTS_MOST):
        address = there.one(f"a{number}", "n1")
        assert set_aside(there, address)
        there.release(f"a{number}")
    address = there.one("one-more", "n1")
    with pytest.raises(Exhausted) as raised:
        set_aside(there, address)
    assert raised.value.reason == "TOO_MANY_CONFLICTS"
    assert set_aside(there, there.one("other", "n2"), on="n2")
