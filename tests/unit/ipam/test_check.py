"""Every kind of damage that the consistency check can see, in pages made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.common.model.names import NetworkName
from services.common.records.blocks import BlockPage, PageRest, PageUse
from services.ipam.consistency.rules import ConsistencyCheck, StoredPage
from services.ipam.ledger.pages import write_page
from tests.support.ipam_world import World, want
from tests.support.topologies import layout, network, node

BASE = 0x0A000000


def world() -> World:
    return World(
        layout([network("net", "10.0.0.0/24", 29), network("big", "10.1.0.0/24", 24)]),
        [node("h1"), node("h2")],
    )


def stored(it: World) -> list[StoredPage]:
    """What the store should have."""
    return [
        StoredPage(place, block.bits, page, record, block.revision)
        for place, block in it.ledger.index.blocks.items()
        for page in range(block.pages)
        if (record := write_page(block, page)) is not None
    ]


def page(
    base: int = BASE,
    *,
    length: int = 29,
    used: Sequence[PageUse] = (),
    rest: Sequence[PageRest] = (),
    number: int = 0,
    owner: tuple[str, str, str] = ("h1", "t", ""),
) -> StoredPage:
    record = BlockPage(length, *owner, born=1, used=tuple(used), rest=tuple(rest))
    return StoredPage((NetworkName("net"), base), 32, number, record, 1)


def reasons(it: World, pages: Sequence[StoredPage]) -> list[str]:
    check = ConsistencyCheck(it.ledger, it.revision)
    found = [finding.reason for item in pages for finding in check.page(item)]
    return found + [finding.reason for finding in check.end() if finding is not None]


def test_nothing_is_wrong_with_what_the_service_writes() -> None:
    it = world()
    it.many(20)
    it.allocate("two", "h2", "u", "", want("net"), want("big"), want("big"))
    it.allocate("far", "h2", "u", "", want("big", address="10.1.0.200"))
    it.release("n3")
    pages = stored(it)
    check = ConsistencyCheck(it.ledger, it.revision)
    assert all(check.is_known(item) for item in pages)
    assert reasons(it, pages) == []


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([page(BASE + 4)], "BLOCK_NOT_ALIGNED"),
        ([page(), page(BASE, length=28)], "BLOCKS_OVERLAP"),
        ([page(BASE, length=28), page(BASE + 8)], "BLOCKS_OVERLAP"),
        ([page(used=[PageUse(1, "a", 1), PageUse(1, "b", 1)])], "DUPLICATE_ADDRESS"),
        ([page(used=[PageUse(1, "a", 1)], rest=[PageRest(1, 1)])], "DUPLICATE_ADDRESS"),
        ([page(used=[PageUse(8, "a", 1)])], "ADDRESS_OUTSIDE_BLOCK"),
        ([page(rest=[PageRest(-1, 1)])], "ADDRESS_OUTSIDE_BLOCK"),
        ([page(length=24, used=[PageUse(64, "a", 1)])], "ADDRESS_OUTSIDE_BLOCK"),
        ([page(used=[PageUse(1, "a", 1), PageUse(2, "a", 1)])], "DUPLICATE_NAME"),
        ([page(used=[PageUse(1, "a", 1, 1)])], "NAME_INCOMPLETE"),
        (
            [page(used=[PageUse(1, "a", 1)]), page(BASE + 8, used=[PageUse(1, "a", 1)])],
            "DUPLICATE_NAME",
        ),
        (
            [
                page(used=[PageUse(1, "a", 1)]),
                page(BASE + 8, used=[PageUse(1, "a", 1, 1)], owner=("h2", "t", "")),
            ],
            "NAME_OF_TWO_OWNERS",
        ),
    ],
)
def test_damage(pages: Sequence[StoredPage], expected: str) -> None:
    assert reasons(world(), pages) == [expected]


def test_a_block_in_use_of_a_node_that_is_gone() -> None:
    it = world()
    it.one("a")
    it.ledger.drop_node("h1")
    assert reasons(it, stored(it)) == ["NODE_GONE"]


def test_a_stranded_block_is_a_warning() -> None:
    it = world()
    it.one("a")
    it.ledger.set_node(node("h1", None))
    check = ConsistencyCheck(it.ledger, it.revision)
    found = [finding for item in stored(it) for finding in check.page(item)]
    assert [(item.reason, item.is_error) for item in found] == [("STRANDED", False)]


def test_a_block_that_the_store_lacks() -> None:
    it = world()
    it.one("a")
    assert reasons(it, []) == ["NOT_IN_STORE"]


def test_a_block_opened_after_the_check_began_is_not_missed() -> None:
    it = world()
    check = ConsistencyCheck(it.ledger, it.revision)
    it.one("a")
    assert not any(check.end())


def test_a_page_that_differs_from_memory_is_not_known() -> None:
    it = world()
    it.one("a")
    (item,) = stored(it)
    changed = StoredPage(
        item.place,
        item.bits,
        0,
        BlockPage(29, "h1", "t", born=item.record.born, used=(PageUse(0, "b", 1),)),
        item.revision,
    )
    assert not ConsistencyCheck(it.ledger, it.revision).is_known(changed)
    assert not ConsistencyCheck(it.ledger, it.revision).is_known(page(BASE + 64))


def test_a_page_older_than_memory_is_known() -> None:
    it = world()
    it.one("a")
    (item,) = stored(it)
    it.one("b")
    assert ConsistencyCheck(it.ledger, it.revision).is_known(item)
