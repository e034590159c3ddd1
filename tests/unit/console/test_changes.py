"""The list of changes: who needs each, who has it, and how long it took."""

from __future__ import annotations

from services.console.picture.changes import KEPT, NAMED_MOST, Author, ChangeLog
from services.console.picture.forecast import SAMPLES_LEAST, Trend


def test_a_change_is_done_when_nobody_lacks_it() -> None:
    told: list[int] = []
    log = ChangeLog(lambda: told.append(1))
    change = log.add("policy", "policy a created", 7, 100.0)
    assert told == [1]
    assert [each.number for each in log.pending()] == [change.number]
    assert log.progress(change.number, {"n1": "", "n2": "no kernel"}, 3, 101.0)
    found = log.latest()[0]
    assert (found.needed, found.applied, found.seconds) == (3, 1, None)
    assert [(each.node, each.reason) for each in found.lagging] == [("n2", "no kernel"), ("n1", "")]
    assert not log.progress(change.number, {"n1": "", "n2": "no kernel"}, 3, 102.0)
    assert log.progress(change.number, {}, 3, 102.5)
    assert log.latest()[0].seconds == 2.5
    assert log.pending() == []
    assert not log.progress(change.number, {"n1": ""}, 3, 103.0)


def test_only_the_last_ones_are_kept_and_details_are_few() -> None:
    log = ChangeLog(lambda: None)
    for number in range(KEPT + 10):
        log.add("node", f"node {number}", number, 0.0, [str(line) for line in range(100)])
    found = log.latest()
    assert len(found) == KEPT
    assert found[0].what == f"node {KEPT + 9}"
    assert len(found[0].details) == NAMED_MOST + 1
    assert found[0].details[-1] == f"and {100 - NAMED_MOST} more"


def test_latency_counts_what_nodes_needed() -> None:
    log = ChangeLog(lambda: None)
    assert log.latency() is None
    for seconds in range(1, 101):
        change = log.add("node", "node", seconds, 0.0)
        log.progress(change.number, {}, 1, float(seconds))
    unneeded = log.add("node", "node", 1, 0.0)
    log.progress(unneeded.number, {}, 0, 1000.0)
    latency = log.latency()
    assert latency is not None
    assert (latency.changes, latency.p50, latency.p99) == (100, 50.0, 99.0)


def test_who_made_a_change_is_found_whichever_is_heard_of_first() -> None:
    log = ChangeLog(lambda: None)
    early = log.add("policy", "policy a created", 7, 0.0)
    alice, bob = Author(7, "policy", "alice", ""), Author(9, "topology", "bob", "")
    assert log.made_by([alice])
    assert not log.made_by([bob])
    log.add("node", "node n1 registered", 9, 0.0)
    found = {change.revision: list(change.authors) for change in log.latest()}
    assert found == {early.revision: [alice], 9: [bob]}


def test_changes_that_were_heard_of_together_have_all_their_authors() -> None:
    log = ChangeLog(lambda: None)
    authors = [Author(number, "topology", f"a{number}", "") for number in range(1, 6)]
    log.made_by(reversed(authors))
    change = log.add("node", "2 nodes changed", 4, 0.0, after=2)
    assert [one.identity for one in change.authors] == ["a3", "a4"]
    assert not log.add("blocks", "a block taken", 4, 0.0).authors
    assert not log.add("tenant", "tenant shop changed", 4, 0.0).authors


def test_a_forecast_is_a_line_through_what_was_seen() -> None:
    trend = Trend()
    for minute in range(SAMPLES_LEAST - 1):
        trend.add(60.0 * minute, 10 * minute)
        assert trend.forecast(1000) is None
    trend.add(60.0 * (SAMPLES_LEAST - 1), 10 * (SAMPLES_LEAST - 1))
    found = trend.forecast(1200)
    assert found is not None
    assert found.hours is not None
    assert abs(found.per_hour - 600) < 1e-6
    assert abs(found.hours - 2) < 1e-6


def test_what_does_not_grow_is_never_full() -> None:
    trend = Trend()
    for minute in range(10):
        trend.add(60.0 * minute, 5)
    found = trend.forecast(10)
    assert found is not None
    assert found.hours is None
