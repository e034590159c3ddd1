"""Other replicas are asked, of which one may go at any moment."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.common.rpc.sibling_replicas import SiblingReplicas
from tests.contract.rpc.probe import ProbeStub, Running


async def _ask(channel: grpc.aio.Channel, _timeout: float) -> str:
    answer: StringValue = await ProbeStub(channel).unary(StringValue(value="?"))
    return answer.value


def _silence(running: Running) -> asyncio.Event:
    """Has it never answer; the event is set when it is asked."""
    asked = asyncio.Event()

    async def never(_request: StringValue, _context: Any) -> StringValue:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    running.probe.behaviour = never
    return asked


async def test_one_that_goes_while_it_is_asked_has_not_answered(running: Running) -> None:
    """Whoever hears of it first closes its channel, and that cancels nobody: a caller whose call is
    cancelled here would wait for an answer in vain."""
    there = {str(running.server.addresses[0])}
    siblings = SiblingReplicas(lambda: frozenset(there), None, insecure=True)
    assert await siblings.ask(_ask) == ["?"]
    asked = _silence(running)
    asking = asyncio.create_task(siblings.ask(_ask))
    await asked.wait()
    there.clear()
    assert await siblings.ask(_ask) == []
    assert await asking == []
    await siblings.close()


async def test_whoever_gives_up_asks_no_longer(running: Running) -> None:
    address, asked = str(running.server.addresses[0]), _silence(running)
    siblings = SiblingReplicas(lambda: frozenset({address}), None, insecure=True)
    asking = asyncio.create_task(siblings.ask(_ask))
    await asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await siblings.close()
