"""The server shell: health, reflection, drain, addresses."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from services.common.errors import InvalidInput, Unavailable, WrongState
from services.common.rpc import server
from services.common.rpc.channel import open_channel
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.rpc.status import error_of
from tests.contract.rpc.probe import SERVICE, Probe, ProbeStub, Running, add_probe, start_probe

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Gate:
    """A behaviour that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, request: StringValue, _context: Any) -> StringValue:
        self.entered.set()
        await self.go_on.wait()
        return request


def health_of(running: Running) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(running.channel)


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_is_not_serving_until_told(running: Running, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)

    assert (await health_of(running).Check(request)).status == NOT_SERVING
    running.server.set_serving(serving=True)
    assert (await health_of(running).Check(request)).status == SERVING
    running.server.set_serving(serving=False)
    assert (await health_of(running).Check(request)).status == NOT_SERVING


async def test_health_of_a_service_that_is_not_here_is_not_found(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_of(running).Check(health_pb2.HealthCheckRequest(service="other"))

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_health_watcher_sees_each_change_and_ends_with_the_drain(running: Running) -> None:
    watch: Any = health_of(running).Watch(health_pb2.HealthCheckRequest(service=SERVICE))

    assert (await watch.read()).status == NOT_SERVING
    running.server.set_serving(serving=True)
    assert (await watch.read()).status == SERVING
    await running.server.drain()
    assert (await watch.read()).status == NOT_SERVING
    assert await watch.read() is grpc.aio.EOF


async def test_once_draining_it_does_not_say_serving_again(running: Running) -> None:
    running.server.set_serving(serving=True)
    await running.server.drain()
    running.server.set_serving(serving=True)

    assert not running.server.serving


async def test_reflection_lists_the_services(running: Running) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    call: Any = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    names = {service.name for service in (await call.read()).list_services_response.service}

    assert names == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    call.cancel()


async def test_a_drain_lets_a_running_call_finish_and_refuses_a_new_one(running: Running) -> None:
    gate = running.probe.behaviour = Gate()
    call = asyncio.ensure_future(running.stub.unary(StringValue(value="last")))
    await gate.entered.wait()
    await running.server.drain()
    stop = asyncio.create_task(running.server.stop(grace=30))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.unary(StringValue(value="new"))
    assert error_of(caught.value).reason == "DRAINING"
    gate.go_on.set()
    assert (await call).value == "last"
    await stop


async def test_single_calls_are_served_until_the_last_stream_has_ended(running: Running) -> None:
    gate = Gate()
    running.probe.behaviour = gate
    stream = running.stub.echo()
    await stream.write(StringValue())
    await gate.entered.wait()
    await running.server.drain()
    stop = asyncio.create_task(running.server.stop(grace=60))

    async def at_once(request: StringValue, _context: Any) -> StringValue:
        return request

    running.probe.behaviour = at_once
    assert (await running.stub.unary(StringValue(value="served"))).value == "served"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in running.stub.generate(StringValue()):
            pass
    error = error_of(caught.value)
    assert isinstance(error, Unavailable)
    assert error.reason == "DRAINING"
    gate.go_on.set()
    await stream.done_writing()
    while await stream.read() is not grpc.aio.EOF:
        pass
    await stop


async def test_those_who_go_on_asking_are_refused_rather_than_cut_off(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_QUIET", 2.0)  # on however busy a machine
    monkeypatch.setattr(server, "_TURN", 60.0)
    stop = asyncio.create_task(running.server.stop(grace=60))
    for _ in range(3):
        await asyncio.sleep(0.05)  # nothing runs meanwhile
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.stub.unary(StringValue())
        assert error_of(caught.value).reason == "DRAINING"
    await stop


async def test_a_call_that_outlasts_the_grace_is_cancelled(running: Running) -> None:
    gate = running.probe.behaviour = Gate()
    call = asyncio.ensure_future(running.stub.unary(StringValue()))
    await gate.entered.wait()
    await running.server.stop(grace=0.05)

    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_a_stream_is_told_of_the_drain_and_ends_as_it_likes(running: Running) -> None:
    entered = asyncio.Event()

    async def until_drained(_request: StringValue, _context: Any) -> StringValue:
        entered.set()
        await running.server.draining.wait()
        return StringValue(value="bye")

    running.probe.behaviour = until_drained
    call = running.stub.echo()
    await call.write(StringValue())
    await entered.wait()
    await running.server.drain()

    assert (await call.read()).value == "bye"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_bound_work_is_ended_by_the_drain(running: Running) -> None:
    gate = Gate()

    async def bound(request: StringValue, context: Any) -> StringValue:
        return await running.server.draining.bound(gate(request, context))

    running.probe.behaviour = bound
    call = asyncio.ensure_future(running.stub.unary(StringValue()))
    await gate.entered.wait()
    await running.server.drain()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert error_of(caught.value).reason == "DRAINING"


async def test_an_open_reflection_stream_does_not_hold_up_the_stop(running: Running) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(running.channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    await call.read()

    async with asyncio.timeout(60):
        await running.server.stop(grace=60)


async def test_a_unix_socket_is_served_to_its_owner_only_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    running = await start_probe(addresses=[f"unix:{path}"])

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (await running.stub.unary(StringValue(value="hi"))).value == "hi"
    await running.close()
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced_and_a_live_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    running = await start_probe(addresses=[f"unix:{path}"])
    second = RpcServer(RpcMetrics(CollectorRegistry()))

    with pytest.raises(WrongState, match="cannot listen"):
        second.listen(f"unix:{path}")
    assert (await running.stub.unary(StringValue(value="hi"))).value == "hi"
    await running.close()


async def test_a_taken_port_is_refused(running: Running) -> None:
    second = RpcServer(RpcMetrics(CollectorRegistry()))
    with pytest.raises(WrongState) as caught:
        second.listen(str(running.server.addresses[0]))

    assert caught.value.reason == "ADDRESS_UNAVAILABLE"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "example.org:1"])
async def test_other_machines_are_not_served_in_the_clear_unasked(address: str) -> None:
    server = RpcServer(RpcMetrics(CollectorRegistry()))
    with pytest.raises(InvalidInput, match="--insecure") as caught:
        server.listen(address)

    assert caught.value.reason == "INSECURE_LISTEN"


async def test_other_machines_are_served_in_the_clear_when_asked() -> None:
    server = RpcServer(RpcMetrics(CollectorRegistry()))
    server.register(add_probe, Probe())
    bound = server.listen("0.0.0.0:0", insecure=True)
    await server.start()
    port = str(bound).rpartition(":")[2]
    async with open_channel(f"127.0.0.1:{port}") as channel:
        assert (await ProbeStub(channel).unary(StringValue(value="hi"))).value == "hi"
    await server.stop(grace=0)


def test_a_channel_to_another_machine_needs_tls_or_a_word() -> None:
    with pytest.raises(InvalidInput, match="--insecure"):
        open_channel("192.0.2.1:1")
