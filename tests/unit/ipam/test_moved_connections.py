"""Connections of what has just moved are kept for a while and no longer."""

from __future__ import annotations

import asyncio

import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.errors import WrongState
from services.common.model.names import EndpointName, NodeName
from services.ipam.api import moved_connections
from services.ipam.api.moved_connections import MovedConnections

ONE, TWO, THREE = NodeName("h1"), NodeName("h2"), NodeName("h3")


def vm(number: int) -> EndpointName:
    return EndpointName(f"vm{number}")


async def test_they_are_forgotten_although_nothing_else_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moved_connections, "KEPT_SECONDS", 0.01)
    kept = MovedConnections()
    kept.moved(vm(0), ONE, TWO)
    kept.give(vm(0), ONE, [pb.TcpConnection(source="10.0.0.1")])
    async with asyncio.timeout(60):
        while kept._moves:  # noqa: ASYNC110 - it happens by itself
            await asyncio.sleep(0.001)
    with pytest.raises(WrongState):
        await kept.take(vm(0), TWO)


async def test_a_second_move_outlives_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved_connections, "KEPT_SECONDS", 0.0)
    kept = MovedConnections()
    kept.moved(vm(0), ONE, TWO)
    monkeypatch.undo()
    kept.moved(vm(0), TWO, THREE)
    await asyncio.sleep(0.01)  # the first one's time is over
    kept.give(vm(0), TWO, [pb.TcpConnection(source="10.0.0.1")])
    assert [item.source for item in await kept.take(vm(0), THREE)] == ["10.0.0.1"]


async def test_of_many_the_first_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved_connections, "KEPT_MOST", 2)
    kept = MovedConnections()
    for number in range(3):
        kept.moved(vm(number), ONE, TWO)
    with pytest.raises(WrongState):
        kept.give(vm(0), ONE, [])
    kept.give(vm(1), ONE, [])
    kept.give(vm(2), ONE, [])
