"""Metrics, health, and what the process says of itself."""

from __future__ import annotations

import json

from tests.contract.ipam.asking import one, refused, release
from tests.contract.ipam.conftest import Pair

NAMES = (
    'romana_ipam_allocations_total{result="given"}',
    'romana_ipam_allocations_total{result="existed"}',
    'romana_ipam_allocations_total{result="exhausted"}',
    'romana_ipam_allocations_total{result="refused"}',
    'romana_ipam_allocations_total{result="unavailable"}',
    "romana_ipam_released_addresses_total",
    "romana_ipam_commit_seconds_bucket",
    "romana_ipam_commit_requests_bucket",
    "romana_ipam_commit_operations_bucket",
    'romana_ipam_commits_undone_total{reason="stale"}',
    "romana_ipam_active",
    "romana_ipam_in_sync",
    "romana_ipam_revision",
    "romana_ipam_waiting_requests",
    'romana_ipam_addresses{group="dc/all",network="net",state="used"}',
    'romana_ipam_size_addresses{group="dc/all",network="net"}',
    'romana_ipam_blocks{group="dc/all",network="net"}',
)


def value(text: str, name: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


async def test_every_metric_is_there_from_the_start(pair: Pair) -> None:
    for replica in (pair.active, pair.standby):
        status, text = await replica.scrape()
        assert status == 200
        assert [name for name in NAMES if name not in text] == []


async def test_metrics_count_what_was_asked(pair: Pair) -> None:
    _, before = await pair.active.scrape()
    await one(pair.stub, "a")
    await one(pair.stub, "a")
    with refused():
        await one(pair.stub, "a", "h2")
    await release(pair.stub, "a")
    await one(pair.stub, "b")
    _, after = await pair.active.scrape()

    def grew(name: str) -> float:
        return value(after, name) - value(before, name)

    assert grew('romana_ipam_allocations_total{result="given"}') == 2
    assert grew('romana_ipam_allocations_total{result="existed"}') == 1
    assert grew('romana_ipam_allocations_total{result="refused"}') == 1
    assert grew("romana_ipam_released_addresses_total") == 1
    assert value(after, 'romana_ipam_addresses{group="dc/all",network="net",state="used"}') == 1


async def test_which_one_is_active(pair: Pair) -> None:
    active, other = (await pair.active.scrape())[1], (await pair.standby.scrape())[1]
    assert (value(active, "romana_ipam_active"), value(other, "romana_ipam_active")) == (1, 0)
    assert (value(active, "romana_ipam_in_sync"), value(other, "romana_ipam_in_sync")) == (1, 1)


async def test_both_are_ready(pair: Pair) -> None:
    for replica in (pair.active, pair.standby):
        assert (await replica.scrape("/readyz"))[0] == 200
        assert await replica.is_serving()


async def test_the_log_is_json_by_line(pair: Pair) -> None:
    lines = pair.active.log.read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert "rpc_serving" in events
    assert "active" in events
