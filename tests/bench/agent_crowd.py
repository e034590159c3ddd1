"""Agents in one process, for benchmarks of streams: as little as an agent can be.

    python -m tests.bench.agent_crowd ADDRESS FIRST COUNT KIND

`sync` agents take routes and acknowledge all they get at once. They print "ready" when all are in
sync, and then a line for every change that all have acknowledged: its number and the time
(monotonic). `rules` agents take rules instead. `stuck` ones read their snapshot and then nothing
more; `idle` ones are connections with a stream on which nothing is said, the baseline of memory.
Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1 import sync_rules_pb2 as rules_pb
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.sync.v1 import sync_pb2

from services.common.rpc.options import CLIENT_OPTIONS

OPTIONS = (*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1))


class Crowd:
    def __init__(self, address: str, count: int, kind: str) -> None:
        self.address = address
        self.count = count
        self.kind = kind
        self.ready: set[str] = set()
        self.changes: Counter[int] = Counter()
        self.gate = asyncio.Semaphore(50)

    async def agent(self, node: str) -> None:
        while True:
            async with grpc.aio.insecure_channel(self.address, options=OPTIONS) as channel:
                try:
                    await (self.idle if self.kind == "idle" else self.sync)(channel, node)
                except grpc.aio.AioRpcError as error:
                    sys.stderr.write(f"{node}: {error.code().name} {error.details()}\n")
                    await asyncio.sleep(0.2)

    async def idle(self, channel: grpc.aio.Channel, node: str) -> None:
        async with self.gate:
            call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await call.read()
        self.arrived(node)
        await call.read()

    async def sync(self, channel: grpc.aio.Channel, node: str) -> None:
        rules = self.kind == "rules"
        call = (
            PolicyServiceStub(channel).SyncRules()
            if rules
            else IpamServiceStub(channel).SyncRoutes()
        )
        request = rules_pb.SyncRulesRequest if rules else pb.SyncRoutesRequest

        async def acknowledge(message: Any) -> None:
            ack = sync_pb2.Ack(nonce=message.nonce, applied=message.position)
            await call.write(request(ack=ack))

        async with self.gate:
            await call.write(request(hello=sync_pb2.Hello(node=node)))
            phase = 0
            while phase != sync_pb2.PHASE_SNAPSHOT_END:
                message: Any = await call.read()
                phase = message.phase
                await acknowledge(message)
        self.arrived(node)
        if self.kind == "stuck":
            await asyncio.Event().wait()
        number = 0
        while (message := await call.read()) is not grpc.aio.EOF:
            await acknowledge(message)
            number += 1
            self.changes[number] += 1
            if self.changes[number] == self.count:
                say(f"{number} {time.monotonic()}")

    def arrived(self, node: str) -> None:
        if node not in self.ready:
            self.ready.add(node)
            if len(self.ready) == self.count:
                say("ready")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main(address: str, first: int, count: int, kind: str) -> None:
    crowd = Crowd(address, count, kind)
    tasks = [asyncio.create_task(crowd.agent(f"node-{first + n:04}")) for n in range(count)]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(BaseException):
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
