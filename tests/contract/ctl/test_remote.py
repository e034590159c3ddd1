"""Calls against a real server: deadlines, retries, translated failures. Health is the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from romana.topology.v1 import topology_service_pb2 as api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.certificates.authority import Subject
from services.common.etcd.process import free_port
from services.common.rpc.channel import open_channel
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.tls import TlsFiles
from services.ctl.calls.remote import CallPolicy, Remote
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure
from services.ctl.local.certificate_folder import CertificateFolder

REQUEST = health_pb2.HealthCheckRequest()

HealthRemote = Remote[health_pb2_grpc.HealthStub]


class Notes:
    """What a person was told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.first = asyncio.Event()

    def append(self, text: str) -> None:
        self.texts.append(text)
        self.first.set()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def remote(port: int, notes: Notes) -> AsyncIterator[HealthRemote]:
    address = f"127.0.0.1:{port}"
    async with open_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        yield Remote("health", address, channel, stub, CallPolicy(3.0, "r-1", notes.append))


async def serve(port: int) -> RpcServer:
    server = RpcServer(RpcMetrics(CollectorRegistry()))
    server.listen(f"127.0.0.1:{port}")
    await server.start()
    server.set_serving(serving=True)
    return server


async def test_a_read_waits_for_a_service_that_comes(
    remote: HealthRemote, port: int, notes: Notes
) -> None:
    reading = asyncio.create_task(remote.read(remote.stub.Check, REQUEST))
    await notes.first.wait()
    server = await serve(port)
    answer = await reading
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    [note] = notes.texts
    assert "trying again" in note
    await server.stop(0)


async def test_a_read_gives_up_at_its_deadline(port: int, notes: Notes) -> None:
    address = f"127.0.0.1:{port}"
    async with open_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        remote = Remote("health", address, channel, stub, CallPolicy(0.4, "r-1", notes.append))
        with pytest.raises(Failure, match="cannot be reached") as raised:
            await remote.read(stub.Check, REQUEST)
    assert raised.value.exit_code is ExitCode.UNREACHABLE


async def test_a_mutation_is_not_tried_again(remote: HealthRemote, notes: Notes) -> None:
    with pytest.raises(Failure, match="cannot be reached"):
        await remote.once(remote.stub.Check, REQUEST)
    assert notes.texts == []


async def test_a_refusal_carries_the_request_id_that_was_sent(
    remote: HealthRemote, port: int
) -> None:
    server = await serve(port)
    with pytest.raises(Failure) as raised:
        await remote.read(remote.stub.Check, health_pb2.HealthCheckRequest(service="nothing"))
    assert raised.value.exit_code is ExitCode.NOT_FOUND
    assert raised.value.reason == "NO_SUCH_SERVICE"
    assert raised.value.request_id == "r-1"
    await server.stop(0)


async def test_a_patient_stream_ends_with_the_server(remote: HealthRemote, port: int) -> None:
    server = await serve(port)
    seen = []
    async for message in remote.stream(remote.stub.Watch, REQUEST, patient=True):
        seen.append(message.status)
        await server.drain()
    assert seen[0] == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)


async def test_an_impatient_stream_ends_when_nothing_comes(port: int, notes: Notes) -> None:
    server = await serve(port)
    address = f"127.0.0.1:{port}"
    async with open_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        remote = Remote("health", address, channel, stub, CallPolicy(0.3, "r-1", notes.append))
        with pytest.raises(Failure, match="did not answer in time"):
            async for _ in remote.stream(stub.Watch, REQUEST, patient=False):
                pass
    await server.stop(0)


async def test_a_stream_to_nobody_fails_as_a_call_does(remote: HealthRemote) -> None:
    with pytest.raises(Failure, match="cannot be reached"):
        async for _ in remote.stream(remote.stub.Watch, REQUEST, patient=True):
            pass


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "field"),
    [
        ("me.key", "me.pem", "me.key", "tls.ca"),
        ("ca.pem", "me.key", "me.pem", "tls.certificate"),
        ("ca.pem", "me.pem", "other.key", "tls.key"),
    ],
)
async def test_files_of_tls_that_do_not_fit_are_named_at_once(
    ca: str, certificate: str, key: str, field: str, port: int, notes: Notes, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    folder = CertificateFolder(tmp_path)
    folder.init("test", now, days=1)
    for name in ("me", "other"):
        folder.issue(Subject(name, ("romana:reader",)), now, days=1)
    files = TlsFiles(tmp_path / ca, tmp_path / certificate, tmp_path / key)
    address = f"127.0.0.1:{port}"
    server = await serve(port)
    async with open_channel(address, tls=files) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        call_policy = CallPolicy(30.0, "r-1", notes.append, files)
        remote = Remote("health", address, channel, stub, call_policy)
        for call in (remote.read, remote.once):
            with pytest.raises(Failure) as raised:
                await call(remote.stub.Check, REQUEST)
            assert raised.value.exit_code is ExitCode.INVALID
            assert raised.value.violations[0].path == field
    assert notes.texts == []
    await server.stop(0)


@pytest.fixture
async def silent(port: int) -> AsyncIterator[asyncio.Event]:
    """A topology service that is asked for a node and says nothing; set when it was asked."""
    asked = asyncio.Event()

    async def hang(request: bytes, context: object) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    server = grpc.aio.server()
    methods = dict.fromkeys(("RegisterNode", "GetNode"), grpc.unary_unary_rpc_method_handler(hang))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("romana.topology.v1.TopologyService", methods)]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield asked
    await server.stop(0)


async def test_a_change_that_is_interrupted_may_yet_be_made(
    silent: asyncio.Event, port: int, notes: Notes
) -> None:
    address = f"127.0.0.1:{port}"
    async with open_channel(address) as channel:
        stub = TopologyServiceStub(channel)
        remote = Remote("topology", address, channel, stub, CallPolicy(60.0, "r-1", notes.append))
        for call, says in (
            (remote.once(stub.GetNode, api.GetNodeRequest()), []),
            (remote.once(stub.RegisterNode, api.RegisterNodeRequest(validate_only=True)), []),
            (remote.once(stub.RegisterNode, api.RegisterNodeRequest()), ["may yet do"]),
        ):
            silent.clear()
            calling = asyncio.create_task(call)
            await silent.wait()
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            assert [each in note for note, each in zip(notes.texts, says, strict=True)] == [
                True for _ in says
            ]


async def test_a_change_that_is_not_answered_in_time_may_yet_be_made(
    silent: asyncio.Event, port: int, notes: Notes
) -> None:
    address = f"127.0.0.1:{port}"
    async with open_channel(address) as channel:
        stub = TopologyServiceStub(channel)
        remote = Remote("topology", address, channel, stub, CallPolicy(0.3, "r-1", notes.append))
        with pytest.raises(Failure) as changing:
            await remote.once(stub.RegisterNode, api.RegisterNodeRequest())
        with pytest.raises(Failure) as reading:
            await remote.once(stub.GetNode, api.GetNodeRequest())
    assert (
        changing.value.hint == f"it may yet do it: look before you try again; {reading.value.hint}"
    )
    assert silent.is_set()
