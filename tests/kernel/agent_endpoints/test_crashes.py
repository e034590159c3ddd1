"""kill -9 after every step: whatever was begun is undone or finished by the next start."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.support.agent_node import Node
from tests.support.ipam_process import poll


async def cut_off(call: object) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("step", ["begun", "allocated", "linked", "placed"])
async def test_an_attach_that_was_cut_off_leaves_nothing(idle_node: Node, step: str) -> None:
    pod = idle_node.namespaces.new("pod")
    idle_node.start(die_at=step)
    await cut_off(idle_node.attach("web-1", pod))
    idle_node.kill()
    idle_node.start()
    assert idle_node.links() == []
    await poll(lambda: idle_node.records() == [], 60)
    assert await idle_node.addresses() == []
    assert "eth0" not in pod.run("ip link")
    assert not (await idle_node.attach("web-1", pod)).existed
    assert (await idle_node.check("web-1")).problems == []


@pytest.mark.parametrize("step", ["begun", "allocated", "linked", "placed"])
async def test_the_same_attach_right_after_the_start_succeeds(idle_node: Node, step: str) -> None:
    pod = idle_node.namespaces.new("pod")
    idle_node.start(die_at=step)
    await cut_off(idle_node.attach("web-1", pod))
    idle_node.kill()
    idle_node.start()
    answer = await idle_node.attach("web-1", pod)
    assert (await idle_node.check("web-1")).problems == []
    assert await idle_node.addresses() == [answer.endpoint.addresses[0].address]
    assert len(idle_node.records()) == 1


async def test_an_attach_whose_answer_was_lost_is_there(idle_node: Node) -> None:
    pod = idle_node.namespaces.new("pod")
    idle_node.start(die_at="attached")
    await cut_off(idle_node.attach("web-1", pod))
    idle_node.kill()
    idle_node.start()
    assert (await idle_node.attach("web-1", pod)).existed
    assert (await idle_node.check("web-1")).problems == []


@pytest.mark.parametrize("step", ["detaching", "unlinked", "released"])
async def test_a_detach_that_was_cut_off_is_finished(idle_node: Node, step: str) -> None:
    pod = idle_node.namespaces.new("pod")
    idle_node.start(die_at=step)
    await idle_node.attach("web-1", pod)
    await cut_off(idle_node.detach("web-1"))
    idle_node.kill()
    idle_node.start()
    assert idle_node.links() == []
    await poll(lambda: idle_node.records() == [], 60)
    assert await idle_node.addresses() == []
    assert (await idle_node.detach("web-1")).addresses == []


async def test_a_caller_that_goes_away_does_not_stop_an_attach(idle_node: Node) -> None:
    idle_node.start()
    pod = idle_node.namespaces.new("pod")
    call = asyncio.ensure_future(idle_node.attach("web-1", pod))
    await poll(lambda: idle_node.records() != [], 60)
    call.cancel()

    async def attached() -> bool:
        return (await idle_node.attach("web-1", pod)).existed

    await poll(attached, 60)
    assert (await idle_node.check("web-1")).problems == []
