"""A service with one method of each shape, whose behaviour each test gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from services.common.rpc.channel import open_channel
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.rpc.status import StatusEncoder

SERVICE = "probe.v1.Probe"


async def _answer(request: StringValue, _context: Any) -> StringValue:
    return request


class Probe:
    """Unary answers, Generate is an asynchronous generator, Echo reads and writes."""

    def __init__(self) -> None:
        self.behaviour: Callable[[StringValue, Any], Awaitable[StringValue]] = _answer

    async def unary(self, request: StringValue, context: Any) -> StringValue:
        return await self.behaviour(request, context)

    async def generate(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        for character in request.value:
            yield StringValue(value=character)
        await self.behaviour(request, context)

    async def echo(self, _requests: object, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(await self.behaviour(request, context))


def add_probe(servicer: Probe, server: grpc.aio.Server) -> None:
    codec = (StringValue.FromString, StringValue.SerializeToString)
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(servicer.unary, *codec),
        "Generate": grpc.unary_stream_rpc_method_handler(servicer.generate, *codec),
        "Echo": grpc.stream_stream_rpc_method_handler(servicer.echo, *codec),
    }
    server.add_registered_method_handlers(SERVICE, handlers)


class ProbeStub:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        codec = (StringValue.SerializeToString, StringValue.FromString)
        self.unary: Any = channel.unary_unary(f"/{SERVICE}/Unary", *codec)
        self.generate: Any = channel.unary_stream(f"/{SERVICE}/Generate", *codec)
        self.echo: Any = channel.stream_stream(f"/{SERVICE}/Echo", *codec)


@dataclass
class Running:
    """A started server with a client."""

    server: RpcServer
    registry: CollectorRegistry
    probe: Probe
    channel: grpc.aio.Channel
    stub: ProbeStub

    def sample(self, name: str, method: str, **labels: str) -> float:
        labels["method"] = f"{SERVICE}/{method}"
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"no {name} {labels}"
        return value

    async def close(self) -> None:
        await self.channel.close()
        await self.server.stop(grace=0)


async def start_probe(
    encoder: StatusEncoder | None = None, addresses: Sequence[str] = ("127.0.0.1:0",)
) -> Running:
    registry = CollectorRegistry()
    server = RpcServer(RpcMetrics(registry), encoder)
    probe = Probe()
    server.register(add_probe, probe)
    for address in addresses:
        server.listen(address)
    await server.start()
    channel = open_channel(str(server.addresses[0]))
    return Running(server, registry, probe, channel, ProbeStub(channel))


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another task brings about; the test's time-out is the bound."""
    while not condition():  # noqa: ASYNC110 - there is nothing to wait on
        await asyncio.sleep(0.001)
