"""`romana` and what agents have applied."""

from __future__ import annotations

import asyncio
import sys

import pytest
from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.sync.v1 import sync_pb2

from services.ctl.calls import agents, waiting
from tests.contract.ipam.conftest import Pair
from tests.support.sync_agent import SyncAgent


async def romana(pair: Pair, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ctl.main", *arguments),
        *("--ipam-address", pair.standby.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def allocate(name: str, segment: str, wait: str) -> tuple[str, ...]:
    place = ("--node", "h2", "--tenant", "t", "--segment", segment)
    return ("address", "allocate", name, *place, "--wait", wait)


async def test_waiting_ends_when_all_agents_have_applied_it(pair: Pair) -> None:
    async with (
        SyncAgent("h1", [pair.active.address]) as one,
        SyncAgent("h3", [pair.standby.address]) as two,
    ):
        await one.until_in_sync()
        await two.until_in_sync()
        code, _, err = await romana(pair, *allocate("w1", "s1", "20"))
        assert (code, err.splitlines()[-1]) == (0, "Applied by 2 nodes")
        assert "route/net/10.0.0.0/24" in one.ids & two.ids


async def test_waiting_says_who_has_not_applied_it(pair: Pair) -> None:
    stuck = asyncio.Event()
    async with SyncAgent("h1", [pair.active.address]) as agent:
        await agent.until_in_sync()
        agent.hold = stuck.wait
        code, out, err = await romana(pair, *allocate("w2", "s2", "1"))
        stuck.set()
    assert code == 5
    assert "10.0.0." in out
    assert "1 of 1 node had not applied it within 1 s: h1" in err


def test_who_is_missing() -> None:
    def status(node: str, revision: int, **more: object) -> pb.NodeSyncStatus:
        applied = sync_pb2.Position(revision=revision)
        return pb.NodeSyncStatus(node=node, applied=applied, connected=True, **more)  # type: ignore[arg-type]

    failing = status("failing", 9, failures=[sync_pb2.Failure(resource="x")])
    gone = pb.NodeSyncStatus(node="gone")
    assert waiting.missing([status("late", 8), status("good", 9), failing, gone], 9) == [
        "late",
        "failing",
    ]
    assert [agents.in_short(item, 9) for item in (None, gone, failing, status("late", 8))] == [
        "never seen",
        "gone",
        "failing (1)",
        "behind",
    ]
    assert agents.in_short(status("good", 9), 9) == "in sync"


@pytest.mark.parametrize("count", [3, 12])
def test_names_are_cut(count: int) -> None:
    text = waiting.named([f"n{number}" for number in range(count)])
    assert text.endswith("n9 and 2 more" if count > 10 else "n0, n1, n2")
