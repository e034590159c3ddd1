"""Speaks to the policy service from the namespace where it listens: a line of JSON in, a line out.

A channel of the test's own process would connect from the host's namespace: gRPC opens its sockets
in threads of its own. Run as `python -m tests.kernel.conformance.driver` inside the control
namespace. Requests are {"call": method, "body": request as JSON}, or {"realized": seconds}, which
waits until every node that is named has applied all there is for it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf import json_format
from romana.policy.v1 import policy_service_pb2 as pb
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from lab.control import POLICY
from lab.namespaces import inside
from services.common.rpc.channel import open_channel

TIMEOUT = 20.0
"""Seconds of a call."""


class Refused(Exception):
    """The service said no."""


class Driver:
    """The parent's end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()

    @classmethod
    async def start(cls, control: Path) -> Self:
        """Starts it in the control namespace."""
        process = await asyncio.create_subprocess_exec(
            *inside(control, [sys.executable, "-m", "tests.kernel.conformance.driver"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=16 * 1024 * 1024,
        )
        return cls(process)

    async def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def call(self, method: str, body: dict[str, object]) -> dict[str, Any]:
        """Calls a method; raises Refused."""
        return await self._ask({"call": method, "body": body})

    async def realized(self, nodes: list[str], seconds: float = TIMEOUT) -> None:
        """Waits until these nodes have applied everything; raises Refused after so long."""
        await self._ask({"realized": seconds, "nodes": nodes})

    async def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            await self._process.stdin.drain()
            answer = json.loads(await self._process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        said: dict[str, Any] = answer["said"]
        return said


async def serve() -> None:
    """The child's end: until standard input ends."""
    loop = asyncio.get_running_loop()
    async with open_channel(POLICY, insecure=True) as channel:
        stub: Any = PolicyServiceStub(channel)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            request = json.loads(line)
            answer: dict[str, object]
            try:
                answer = {"said": await _answer(stub, request)}
            except grpc.aio.AioRpcError as error:
                answer = {"error": f"{error.code().name}: {error.details()}"}
            except TimeoutError as error:
                answer = {"error": str(error)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


async def _answer(stub: Any, request: dict[str, Any]) -> dict[str, Any]:
    if "realized" in request:
        await _realized(stub, request["nodes"], request["realized"])
        return {}
    method = request["call"]
    message = getattr(pb, f"{method}Request")()
    json_format.ParseDict(request["body"], message)
    return json_format.MessageToDict(await getattr(stub, method)(message, timeout=TIMEOUT))


async def _realized(stub: Any, nodes: list[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        said = await stub.GetRealization(pb.GetRealizationRequest(nodes=nodes), timeout=TIMEOUT)
        current = {node.node for node in said.nodes if node.current and not node.failures}
        behind = sorted(set(nodes) - current)
        if not behind:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{behind} have not applied everything after {seconds} s: {said}")
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(serve())
