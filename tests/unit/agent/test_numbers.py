from __future__ import annotations

from services.agent.kernel.numbers import (
    FIRST_TABLE,
    TABLES,
    WAYS,
    Numbers,
    our_nexthop,
    our_table,
)


def test_names_keep_their_numbers_when_others_come_and_go() -> None:
    first = Numbers.none().assigned(["a", "b"], ["a/n1", "b/n1"])
    second = first.assigned(["b", "c"], ["b/n1", "c/n2"])
    assert second.tables["b"] == first.tables["b"]
    assert second.nexthops["b/n1"] == first.nexthops["b/n1"]
    assert "a" not in second.tables


def test_numbers_do_not_depend_on_the_order() -> None:
    names = [f"net-{number}" for number in range(300)]
    one = Numbers.none().assigned(names, names)
    two = Numbers.none().assigned(reversed(names), reversed(names))
    assert one == two


def test_no_two_names_have_one_number_even_if_all_are_taken() -> None:
    names = [f"net-{number}" for number in range(TABLES)]
    numbers = Numbers.none().assigned(names, [f"{name}/n" for name in names])
    assert len(set(numbers.tables.values())) == TABLES
    assert all(our_table(number) for number in numbers.tables.values())
    assert all(our_nexthop(number) for number in numbers.nexthops.values())


def test_a_lost_disk_gives_the_same_numbers() -> None:
    before = Numbers.none().assigned(["a", "b"], ["a/n1"])
    assert Numbers.none().assigned(["b", "a"], ["a/n1"]) == before
    assert before.tables["a"] >= FIRST_TABLE


def test_interfaces_keep_their_ways_and_what_is_too_many_has_none() -> None:
    names = [f"vlan{number}" for number in range(10, 10 + WAYS + 3)]
    first = Numbers.none().with_ways(names[3:5])
    all_of_them = first.with_ways(names)
    assert len(set(all_of_them.ways.values())) == len(all_of_them.ways) == WAYS
    assert first.ways.items() <= all_of_them.ways.items()
    assert all_of_them.with_ways(reversed(names)) is all_of_them
    assert names[3] not in all_of_them.with_ways(names[5:]).ways
