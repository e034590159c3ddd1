from __future__ import annotations

from types import SimpleNamespace

from tests.support.fault_table import PROPERTY, FaultCount, merged, reported, table


def test_faults_of_one_kind_are_added_up_and_the_longest_gap_is_kept() -> None:
    one = FaultCount("kill", 5, duplicates=1, losses=0, leaks=2, longest_gap=1.5)
    other = FaultCount("kill", 7, duplicates=0, losses=3, leaks=1, longest_gap=0.5)
    assert merged([one, FaultCount("hang", 1), other]) == [
        FaultCount("kill", 12, duplicates=1, losses=3, leaks=3, longest_gap=1.5, times=2),
        FaultCount("hang", 1),
    ]


def test_what_was_not_looked_for_is_no_zero() -> None:
    line = [*table([FaultCount("hang", 9, open_probes=0)])][-1]
    assert line.split() == ["hang", "1", "9", "-", "-", "-", "0", "0.00", "s"]


def test_the_table_has_what_tests_recorded_once() -> None:
    properties: list[tuple[str, object]] = []
    count = FaultCount("kill", 5, losses=1)
    count.record(lambda name, value: properties.append((name, value)))
    properties.append(("other", 1))
    reports = [
        SimpleNamespace(when=when, user_properties=properties) for when in ("call", "teardown")
    ]
    assert reported([*reports, object()]) == [count]
    assert not count.is_clean
    assert properties[0][0] == PROPERTY
