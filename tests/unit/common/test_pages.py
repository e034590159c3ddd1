"""Pages of lists, by number and by bytes."""

from __future__ import annotations

from google.protobuf.wrappers_pb2 import StringValue

from services.common.paging.pages import filled

NAMES = [f"n{number:03d}" for number in range(100)]


def listed(size: int, each: int, most: int, *, in_order: bool = True) -> list[list[str]]:
    """All pages, by the first letters of their items."""
    pages, token = [], ""
    while True:
        items, token = filled(
            NAMES,
            size,
            token,
            lambda number: StringValue(value=NAMES[number].ljust(each, ".")),
            in_order=in_order,
            most=most,
        )
        pages.append([item.value[:4] for item in items])
        if not token:
            return pages


def test_a_page_has_as_many_as_were_asked_for() -> None:
    assert [len(page) for page in listed(40, 10, 10_000)] == [40, 40, 20]


def test_a_page_that_would_be_too_large_is_shorter_and_nothing_is_left_out() -> None:
    for in_order in (True, False):
        pages = listed(40, 1000, 10_100, in_order=in_order)
        assert [len(page) for page in pages] == [10] * 10
        assert [name for page in pages for name in page] == NAMES


def test_an_item_that_is_too_large_by_itself_is_a_page() -> None:
    assert [len(page) for page in listed(40, 1000, 10)] == [1] * 100
