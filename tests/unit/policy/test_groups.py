"""Pages of groups: what changed, told once."""

from __future__ import annotations

from ipaddress import ip_address

from services.common.model.network import Address
from services.common.model.rules import GroupPage
from services.policy.engine.addresses import key_of
from services.policy.engine.groups import Group, GroupSpec
from services.policy.model import EndpointSelector, NodeSelector


def keys(*texts: str) -> list[int]:
    return [key_of(ip_address(text)) for text in texts]


def group(*texts: str) -> Group:
    spec = GroupSpec(EndpointSelector())
    made = Group(spec.id, spec, set())
    made.add(keys(*texts))
    return made


def members(page: GroupPage | None) -> set[Address]:
    assert page is not None
    kind = type(ip_address("10.0.0.0" if page.bits == 32 else "fd00::"))
    return {kind(page.base + bit) for bit in range(64) if page.members >> bit & 1}


def test_addresses_share_a_page_by_sixty_fours() -> None:
    there = dict(group("10.0.0.0", "10.0.0.63", "10.0.0.64").changed_parts())
    assert [name.split("/")[2] for name in there] == ["0a000000", "0a000040"]
    assert [members(page) for page in there.values()] == [
        {ip_address("10.0.0.0"), ip_address("10.0.0.63")},
        {ip_address("10.0.0.64")},
    ]


def test_families_never_share_a_page() -> None:
    there = dict(group("0.0.0.1", "::1").changed_parts())
    assert [page.bits for page in there.values() if page] == [32, 128]
    assert [members(page) for page in there.values()] == [
        {ip_address("0.0.0.1")},
        {ip_address("::1")},
    ]


def test_only_the_page_that_changed_is_told_again() -> None:
    made = group("10.0.0.1", "10.0.1.1")
    list(made.changed_parts())
    made.add(keys("10.0.1.2"))
    ((name, page),) = made.changed_parts()
    assert name.endswith("/0a000100")
    assert members(page) == {ip_address("10.0.1.1"), ip_address("10.0.1.2")}


def test_a_change_that_is_undone_is_not_told() -> None:
    made = group("10.0.0.1")
    list(made.changed_parts())
    made.add(keys("10.0.0.2"))
    made.remove(*keys("10.0.0.2"))
    assert list(made.changed_parts()) == []


def test_a_page_without_members_is_gone() -> None:
    made = group("10.0.0.1")
    list(made.changed_parts())
    made.remove(*keys("10.0.0.1"))
    ((_, page),) = made.changed_parts()
    assert page is None


def test_a_group_that_ends_names_the_pages_that_were_told() -> None:
    made = group("10.0.0.1", "10.0.1.1")
    list(made.changed_parts())
    made.remove(*keys("10.0.1.1"))
    made.add(keys("10.0.2.1"))
    assert sorted(name.split("/")[2] for name in made.published_parts()) == ["0a000000", "0a000100"]


def test_ids_tell_endpoints_from_nodes() -> None:
    assert GroupSpec(EndpointSelector()).id != GroupSpec(NodeSelector()).id
