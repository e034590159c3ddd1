"""Agents that take rules and acknowledge at once, and cost next to nothing: all in one thread.

    python -m tests.bench.light_agents ADDRESS FIRST COUNT

A gRPC client in Python costs as much as the service that is measured, on the same processors. Each
agent is a connection with one stream, and its frames are made here. Prints "ready" when all are in
sync; then, whenever all were told something and nothing more came for QUIET seconds, when the last
acknowledged (monotonic). Ends with its standard input.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections.abc import Iterable

from romana.policy.v1 import sync_rules_pb2 as pb
from romana.sync.v1 import sync_pb2

from tests.bench import h2

QUIET = 0.3
PATH = "/romana.policy.v1.PolicyService/SyncRules"
BEGUN_AT_ONCE = 50
"""Agents that are not in sync yet."""


class Agent:
    """One node's."""

    def __init__(self, address: str, node: str) -> None:
        host, _, port = address.rpartition(":")
        self.is_in_sync = False
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._node = node
        self._frames = b""
        self._data = b""
        hello = pb.SyncRulesRequest(hello=sync_pb2.Hello(node=node))
        call = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.headers(PATH, address))
        self.socket.sendall(h2.greeting() + call + _said(hello))

    def receive(self) -> bool:
        """Takes what has come; whether something had to be acknowledged."""
        received = self.socket.recv(1 << 16)
        assert received, f"{self._node}: the service closed the connection"
        frames, self._frames = h2.split(self._frames + received)
        output = []
        for kind, flags, _, payload in frames:
            if kind == h2.DATA:
                self._data += payload
            elif kind == h2.PING and not flags & h2.ACK:
                output.append(h2.frame(h2.PING, h2.ACK, 0, payload))
            elif kind == h2.SETTINGS and not flags & h2.ACK:
                output.append(h2.frame(h2.SETTINGS, h2.ACK, 0, b""))
            ends = kind in {h2.DATA, h2.HEADERS} and flags & h2.END_STREAM
            if ends or kind in {h2.RST_STREAM, h2.GOAWAY}:
                raise AssertionError(f"{self._node}: the stream ended: {payload!r}")
        acknowledged = [_said(self._acknowledgment(message)) for message in self._messages()]
        if output or acknowledged:
            self.socket.sendall(b"".join((*output, *acknowledged)))
        return bool(acknowledged)

    def _acknowledgment(self, message: bytes) -> pb.SyncRulesRequest:
        response = pb.SyncRulesResponse.FromString(message)
        self.is_in_sync |= response.phase == sync_pb2.PHASE_SNAPSHOT_END
        return pb.SyncRulesRequest(
            ack=sync_pb2.Ack(nonce=response.nonce, applied=response.position)
        )

    def _messages(self) -> Iterable[bytes]:
        while len(self._data) >= 5:
            end = 5 + int.from_bytes(self._data[1:5], "big")
            if len(self._data) < end:
                return
            yield self._data[5:end]
            self._data = self._data[end:]


def _said(message: pb.SyncRulesRequest) -> bytes:
    return h2.frame(h2.DATA, 0, 1, h2.framed(message.SerializeToString()))


def run(address: str, first: int, count: int) -> None:
    """Until standard input ends."""
    nodes = iter([f"node-{first + number:04}" for number in range(count)])
    starting: set[Agent] = set()
    told: set[Agent] = set()
    in_sync, last, is_ready = 0, 0.0, False
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            while len(starting) < BEGUN_AT_ONCE and (node := next(nodes, None)) is not None:
                agent = Agent(address, node)
                starting.add(agent)
                selector.register(agent.socket, selectors.EVENT_READ, agent)
            for key, _ in selector.select(QUIET / 3):
                if key.data is None:
                    return
                agent = key.data
                if agent.receive():
                    told.add(agent)
                    last = time.monotonic()
                if agent.is_in_sync and agent in starting:
                    starting.discard(agent)
                    in_sync += 1
            if len(told) == in_sync == count and time.monotonic() - last > QUIET:
                say(str(last) if is_ready else "ready")
                is_ready = True
                told.clear()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
