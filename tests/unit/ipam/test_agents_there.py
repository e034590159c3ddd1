"""Whose agents are there, by what several replicas say."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from romana.ipam.v1 import sync_routes_pb2 as pb

from services.ipam.api.agents_there import LASTS, AgentsThere
from services.ipam.deciding.evaluate import Agents


class Others:
    """Other replicas, and how often they were asked."""

    def __init__(self, *answers: pb.GetSyncStatusResponse | None) -> None:
        self.answers = answers
        self.asked = 0
        self.now = 0.0
        self.there = AgentsThere(
            lambda: {"own"}, lambda: len(self.answers), self.ask, lambda: self.now
        )

    async def ask(self) -> Collection[pb.GetSyncStatusResponse]:
        self.asked += 1
        return [answer for answer in self.answers if answer is not None]


async def test_a_single_replica_knows_all() -> None:
    others = Others()
    assert await others.there.agents() == Agents({"own"}, complete=True)
    assert others.asked == 0


async def test_what_others_say_counts_for_a_while() -> None:
    old = pb.NodeSyncStatus(node="n2", connected=True)
    gone = pb.NodeSyncStatus(node="n3")
    others = Others(
        pb.GetSyncStatusResponse(connected=["n1"]), pb.GetSyncStatusResponse(statuses=[old, gone])
    )
    found = await asyncio.gather(others.there.agents(), others.there.agents())
    assert found == [Agents({"own", "n1", "n2"}, complete=True)] * 2
    assert others.asked == 1
    others.now = LASTS
    await others.there.agents()
    assert others.asked == 2


async def test_a_replica_that_does_not_answer_leaves_unknown_who_is_there() -> None:
    others = Others(pb.GetSyncStatusResponse(connected=["n1"]), None)
    assert await others.there.agents() == Agents({"own", "n1"}, complete=False)
