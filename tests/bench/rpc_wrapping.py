"""What the server shell costs: a no-op unary call with and without it, under h2load.

Calls per second and the server's own processor time per call, beside those of a bare grpc.aio
server, on uvloop as ipam is. Rounds alternate, since the machine may be busy with other things.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.options import SERVER_OPTIONS
from services.common.rpc.server import RpcServer
from tests.bench.report import Row, rate
from tests.bench.world import processor_seconds

TITLE = "the server shell"
RATE_AIM = 0.95
PATH = "/probe.v1.Probe/Unary"
EMPTY_MESSAGE = b"\0" * 5  # gRPC's frame: not compressed, length 0


async def answer(request: StringValue, _context: object) -> StringValue:
    return request


def add(_servicer: None, server: Any) -> None:
    method = grpc.unary_unary_rpc_method_handler(
        answer, StringValue.FromString, StringValue.SerializeToString
    )
    server.add_registered_method_handlers("probe.v1.Probe", {"Unary": method})


async def serve(kind: str) -> None:
    if kind == "bare":
        bare = grpc.aio.server(options=SERVER_OPTIONS)
        add(None, bare)
        port = bare.add_insecure_port("127.0.0.1:0")
        await bare.start()
    else:
        server = RpcServer(RpcMetrics(CollectorRegistry()))
        server.register(add, None)
        port = int(str(server.listen("127.0.0.1:0")).rpartition(":")[2])
        await server.start()
    sys.stdout.write(f"port {port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def load(process: subprocess.Popen[str], port: int, body: Path, calls: int) -> tuple[float, float]:
    """Calls per second, and microseconds of the server per call."""
    before = processor_seconds(process)
    headers = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    out = subprocess.run(
        [
            *("h2load", "-n", str(calls), "-c", "4", "-m", "16", "-d", str(body), *headers),
            f"http://127.0.0.1:{port}{PATH}",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"{calls} succeeded" in out, out
    found = re.search(r"([\d.]+) req/s", out)
    assert found is not None
    return float(found[1]), (processor_seconds(process) - before) / calls * 1e6


async def measure(*, quick: bool) -> list[Row]:
    rounds, calls = (1, 300) if quick else (24, 3000)
    results = await asyncio.to_thread(alternate, rounds, calls)
    shell, bare = (
        [statistics.median(column) for column in zip(*results[kind], strict=True)]
        for kind in ("shell", "bare")
    )
    pairs = list(zip(results["shell"], results["bare"], strict=True))
    faster = statistics.median(one[0] / other[0] for one, other in pairs)
    return [
        Row(
            "no-op calls, 64 callers",
            rate(shell[0], "calls"),
            f"bare grpc.aio: {rate(bare[0], 'calls')}",
            faster,
            f">= {RATE_AIM}",
            faster >= RATE_AIM,
        ),
        Row(
            "time of the server",
            f"{shell[1]:.0f} us a call",
            f"bare grpc.aio: {bare[1]:.0f} us a call",
            shell[1] / bare[1] if bare[1] else None,
        ),
    ]


def alternate(rounds: int, calls: int) -> dict[str, list[tuple[float, float]]]:
    """Calls per second and the server's time per call, by server, round by round."""
    servers: dict[str, tuple[subprocess.Popen[str], int]] = {}
    try:
        for kind in ("bare", "shell"):
            command = [sys.executable, "-m", "tests.bench.rpc_wrapping", kind]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("port "))
            servers[kind] = process, int(line.split()[1])
        results: dict[str, list[tuple[float, float]]] = {kind: [] for kind in servers}
        with tempfile.NamedTemporaryFile() as body:
            body.write(EMPTY_MESSAGE)
            body.flush()
            for index in range(rounds + 1):
                for kind in sorted(servers, reverse=bool(index % 2)):
                    result = load(*servers[kind], Path(body.name), calls)
                    if index:  # the first round warms up
                        results[kind].append(result)
    finally:
        for process, _ in servers.values():
            process.kill()
            process.communicate()
    return results


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))
