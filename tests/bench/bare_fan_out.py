"""Streams by nothing but `grpc.aio`: what telling many agents the same few bytes costs at least.

    python -m tests.bench.bare_fan_out BYTES

Prints its address. Every stream is told once that it is in sync; then, whenever `TELL` is called,
each gets one message with that many bytes, the same to all and made before. Acknowledgments are
read, as bytes. Nothing is decided, kept or counted. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TypeAlias

import grpc
import grpc.aio
import uvloop
from romana.policy.v1 import sync_rules_pb2 as pb
from romana.sync.v1 import sync_pb2

from services.common.rpc.options import SERVER_OPTIONS
from tests.bench.light_agents import PATH

TELL = "/bare/Tell"

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class FanOut(grpc.GenericRpcHandler):
    def __init__(self, size: int) -> None:
        resource = pb.RuleResource(id="x" * size)
        message = pb.SyncRulesResponse(nonce=1, phase=sync_pb2.PHASE_DELTA, updated=[resource])
        self._message = message.SerializeToString()
        self._waiting: list[asyncio.Future[None]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Two methods, of bytes."""
        if handler_call_details.method == TELL:
            return grpc.unary_unary_rpc_method_handler(self.tell)  # type: ignore[arg-type]  # aio
        assert handler_call_details.method == PATH
        return grpc.stream_stream_rpc_method_handler(self.stream)  # type: ignore[arg-type]  # aio

    async def tell(self, _: bytes, __: Context) -> bytes:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)
        return b""

    async def stream(self, _: Any, context: Context) -> None:
        loop = asyncio.get_running_loop()
        await context.read()
        end = pb.SyncRulesResponse(nonce=1, phase=sync_pb2.PHASE_SNAPSHOT_END)
        await context.write(end.SerializeToString())
        while await context.read() is not grpc.aio.EOF:
            told = loop.create_future()
            self._waiting.append(told)
            await told
            await context.write(self._message)


async def main(size: int) -> None:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers([FanOut(size)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
