from __future__ import annotations

from services.kubernetes.objects.conditions import Condition, Finding, conditions


def test_the_time_is_that_of_the_last_change_of_status() -> None:
    first = conditions([Finding("Accepted", "Valid", "yes")], (), 1, "t1")
    assert first == [Condition("Accepted", "True", "Valid", "yes", 1, "t1")]
    again = conditions([Finding("Accepted", "Valid", "still")], first, 2, "t2")
    assert again == [Condition("Accepted", "True", "Valid", "still", 2, "t1")]
    other = conditions([Finding("Accepted", "Invalid", "no", holds=False)], again, 3, "t3")
    assert other == [Condition("Accepted", "False", "Invalid", "no", 3, "t3")]


def test_a_message_is_not_longer_than_people_read() -> None:
    (one,) = conditions([Finding("Accepted", "Invalid", "x" * 10_000)], (), 1, "t")
    assert len(one.message) == 4096
