"""What fits into a transaction, by operations and by bytes."""

from __future__ import annotations

from collections.abc import Iterator

from services.common.etcd.types import Compare, Delete, Field, Put, Relation
from services.common.sizes import TRANSACTION_BYTES, TRANSACTION_OPERATIONS
from services.common.store.transactions import Room, head, parts, size_of

BEACON = Put("/x/generation", b"1")
SAME = Compare("/x/generation", Field.MOD, Relation.EQUAL, 1)


def puts(number: int, size: int) -> list[Put]:
    return [Put(f"/x/{n}", b"x" * size) for n in range(number)]


def test_small_operations_are_divided_by_their_number() -> None:
    made = list(parts(puts(300, 1), (), (BEACON,)))
    assert [len(part) for part in made] == [TRANSACTION_OPERATIONS - 1] * 2 + [46]
    assert [one for part in made for one in part] == puts(300, 1)


def test_large_operations_are_divided_by_their_bytes() -> None:
    made = list(parts(puts(100, 100_000), (SAME,), (BEACON,)))
    assert all(sum(map(size_of, part)) < TRANSACTION_BYTES for part in made)
    assert [len(part) for part in made] == [14] * 7 + [2]


def test_what_goes_along_takes_its_room() -> None:
    large = Put("/x/layout", b"x" * 1_400_000)
    assert len(next(iter(parts(puts(9, 50_000), (), (large,))))) == 1
    demands = [Compare("x" * 10_000, Field.MOD, Relation.LESS, 1, prefix=True)] * 60
    assert len(next(iter(parts(puts(9, 100_000), demands, ())))) == 2


def test_what_is_too_large_by_itself_stands_alone() -> None:
    made = list(parts([*puts(2, 10), Put("/y", b"x" * TRANSACTION_BYTES), Delete("/z")], (), ()))
    assert [len(part) for part in made] == [2, 1, 1]


def test_nothing_is_no_transaction() -> None:
    assert list(parts((), (SAME,), (BEACON,))) == []


def test_the_head_ends_before_the_first_group_that_does_not_fit() -> None:
    looked_at = []

    def groups() -> Iterator[tuple[Put, Delete]]:  # to see how far it is read
        for one in puts(100, 400_000):
            looked_at.append(one.key)
            yield (one, Delete(f"{one.key}/mark"))

    assert len(list(head(groups(), Room((SAME,), (BEACON,))))) == 3
    assert len(looked_at) == 4


def test_a_group_is_not_divided() -> None:
    group = tuple(puts(TRANSACTION_OPERATIONS + 1, 1))
    assert list(head([group], Room())) == []
