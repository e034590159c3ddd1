"""Endpoints under the whole agent: routes by the reconciler, streams from ipam."""

from __future__ import annotations

import asyncio
import threading

import grpc.aio
import pytest
from romana.agent.v1 import agent_service_pb2 as agent_pb

from tests.support.agent_node import Node, RealNode
from tests.support.echo import Answer
from tests.support.ipam_process import poll
from tests.support.waiting import PATIENCE


class Pinging:
    """Sends echo requests in a thread, one after the other."""

    def __init__(self, node: Node, address: str) -> None:
        self.sent = self.lost = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(node.namespaces._made[1], address))
        self._thread.start()

    def _run(self, outside: object, address: str) -> None:
        while not self._stop.wait(0.01):
            self.sent += 1
            self.lost += outside.echo(address, timeout=PATIENCE) is not Answer.REPLY  # type: ignore[attr-defined]

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)


async def test_an_endpoint_is_reachable_when_attach_returns(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    endpoint = (await real.attach("web-1", pod)).endpoint
    address = endpoint.addresses[0].address
    assert real.home.echo(address, timeout=PATIENCE) is Answer.REPLY
    assert real.namespaces._made[1].pings(address)
    assert (await real.check("web-1")).problems == []
    await real.detach("web-1")
    assert address not in real.home.run("ip route show table all")


async def test_two_endpoints_reach_each_other(real: RealNode) -> None:
    one, two = real.namespaces.new("one"), real.namespaces.new("two")
    first = (await real.attach("one", one)).endpoint.addresses[0].address
    second = (await real.attach("two", two)).endpoint.addresses[0].address
    assert one.pings(second)
    assert two.pings(first)


@pytest.mark.parametrize("killed", [False, True])
async def test_no_packet_is_lost_over_a_restart(real: RealNode, *, killed: bool) -> None:
    pod = real.namespaces.new("pod")
    endpoint = (await real.attach("web-1", pod)).endpoint
    address = endpoint.addresses[0].address
    assert real.namespaces._made[1].pings(address)
    pinging = Pinging(real, address)
    if killed:
        real.kill()
    else:
        assert await asyncio.to_thread(real.stop) == 0
    real.start()
    await real.ready()
    await asyncio.sleep(0.5)  # the reconciler has swept by now, if it were to
    await pinging.stop()
    assert pinging.sent > 20
    assert pinging.lost == 0
    assert (await real.check("web-1")).problems == []


async def test_no_packet_is_lost_when_the_journal_is(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    address = (await real.attach("web-1", pod)).endpoint.addresses[0].address
    assert real.namespaces._made[1].pings(address)
    pinging = Pinging(real, address)
    real.kill()
    for path in (real.folder / "state" / "endpoints").iterdir():
        path.unlink()
    real.start()
    await real.ready()
    await asyncio.sleep(0.5)
    await pinging.stop()
    assert pinging.lost == 0
    assert (await real.detach("web-1")).addresses == [address]


async def test_a_container_that_died_does_not_hinder_the_node(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    await real.attach("web-1", pod)
    pod.delete()
    await poll(lambda: real.links() == [], 60)

    async def degraded() -> bool:
        return (await real.check("web-1")).endpoint.state == 4

    await poll(degraded, 60)
    await real.ready()
    other = real.namespaces.new("other")
    address = (await real.attach("web-2", other)).endpoint.addresses[0].address
    assert real.home.pings(address)
    await real.detach("web-1")
    assert await real.addresses() == [address]


async def test_an_attach_that_the_kernel_refuses_leaves_nothing(real: RealNode) -> None:
    """What refuses is a foreign route, after the link is made and while the record is written."""
    pod = real.namespaces.new("pod")
    real.home.run("ip route add unreachable 10.1.0.77/32")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await real.attach("web-1", pod, address="10.1.0.77")
    assert "the kernel does not take" in str(caught.value.details())
    assert real.links() == []
    assert real.records() == []
    assert await real.addresses() == []
    real.home.run("ip route del unreachable 10.1.0.77/32")
    assert not (await real.attach("web-1", pod, address="10.1.0.77")).existed
    assert real.home.pings("10.1.0.77")


async def test_a_chain_of_others_that_drops_is_named(real: RealNode) -> None:
    real.home.run("iptables -P FORWARD DROP")
    status = await real.stub.GetStatus(agent_pb.GetStatusRequest(), timeout=10)
    assert status.warnings == ["chain FORWARD of table ip filter drops what it does not accept"]
    assert status.ready
