"""Generates load for gRPC servers on plain sockets: every call with a body of its own.

h2load sends the same body every time, and a gRPC client in Python is slower than the server. Here
the frames of all calls are made before the clock starts, all headers are literals (HPACK's dynamic
table is never used), and of the answers only the frame headers are looked at: some 10 us of Python
per call. A call that fails is answered without a message, and is an error here.

RFC 9113 (HTTP/2), RFC 7541 (HPACK), and gRPC's doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_INITIAL_WINDOW: Final = 0x4
_WINDOW_MOST: Final = (1 << 31) - 1
_WINDOW_FIRST: Final = 65_535
_FRAME_MOST: Final = 16_384
_TIMEOUT: Final = 60.0


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, and its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


@dataclass(slots=True)
class Load:
    """What came of it."""

    seconds: float
    """From the first call to the last answer."""
    latencies: list[float]
    """Seconds of each call, in the order they ended."""
    answers: list[bytes]
    """Message of each call, in the order of the bodies."""

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


def load(target: str, path: str, bodies: Sequence[bytes], *, callers: int) -> Load:
    """Sends every body once, `callers` of them at a time, on up to four connections."""
    count = min(4, callers)
    todo = list(enumerate(framed(body) for body in bodies))
    todo.reverse()
    answers = [b""] * len(todo)
    latencies: list[float] = []
    connections = [
        _Connection(target, path, callers // count, todo, answers, latencies) for _ in range(count)
    ]
    with selectors.DefaultSelector() as selector:
        try:
            for connection in connections:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            begin = time.perf_counter()
            for connection in connections:
                connection.fill()
            while len(latencies) < len(answers):
                ready = selector.select(_TIMEOUT)
                assert ready, f"no answer for {_TIMEOUT} s"
                for key, _ in ready:
                    key.data.receive()
            seconds = time.perf_counter() - begin
        finally:
            for connection in connections:
                connection.socket.close()
    return Load(seconds, latencies, answers)


@dataclass(slots=True)
class _Call:
    index: int
    sent: float
    parts: list[bytes] = field(default_factory=list)


class _Connection:
    """One connection with a number of calls at a time."""

    def __init__(
        self,
        target: str,
        path: str,
        callers: int,
        todo: list[tuple[int, bytes]],
        answers: list[bytes],
        latencies: list[float],
    ) -> None:
        host, _, port = target.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = headers(path, target)
        self._free = callers
        self._todo = todo
        self._answers = answers
        self._latencies = latencies
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self._window = _WINDOW_FIRST
        self._buffer = b""
        self.socket.sendall(greeting())

    def fill(self, output: list[bytes] | None = None) -> None:
        """Begins as many calls as may be under way."""
        output = output if output is not None else []
        while self._free and self._todo and len(self._todo[-1][1]) <= self._window:
            index, body = self._todo.pop()
            stream, self._next = self._next, self._next + 2
            output.append(frame(HEADERS, END_HEADERS, stream, self._headers))
            for start in range(0, len(body), _FRAME_MOST):
                last = start + _FRAME_MOST >= len(body)
                part = body[start : start + _FRAME_MOST]
                output.append(frame(DATA, END_STREAM if last else 0, stream, part))
            self._window -= len(body)
            self._free -= 1
            self._calls[stream] = _Call(index, time.perf_counter())
        if output:
            self.socket.sendall(b"".join(output))

    def receive(self) -> None:
        """Takes what has come, and goes on."""
        received = self.socket.recv(1 << 18)
        assert received, "the server closed the connection"
        frames, self._buffer = split(self._buffer + received)
        output: list[bytes] = []
        for kind, flags, stream, payload in frames:
            if kind == DATA:
                self._calls[stream].parts.append(payload)
            elif kind == WINDOW_UPDATE:
                self._window += 0 if stream else int.from_bytes(payload, "big")
            elif kind == PING and not flags & ACK:
                output.append(frame(PING, ACK, 0, payload))
            elif kind == SETTINGS and not flags & ACK:
                output.append(frame(SETTINGS, ACK, 0, b""))
            elif kind in {RST_STREAM, GOAWAY}:
                raise AssertionError(f"the server ended a call or connection: {payload!r}")
            if kind in {DATA, HEADERS} and flags & END_STREAM:
                self._ended(self._calls.pop(stream))
        self.fill(output)

    def _ended(self, call: _Call) -> None:
        message = b"".join(call.parts)
        assert len(message) >= 5, "a call failed"
        self._answers[call.index] = message[5:]
        self._latencies.append(time.perf_counter() - call.sent)
        self._free += 1


def greeting() -> bytes:
    """What a client says first: as much may be sent to it as anybody likes."""
    settings = struct.pack(">HI", _INITIAL_WINDOW, _WINDOW_MOST)
    more = struct.pack(">I", _WINDOW_MOST - _WINDOW_FIRST)
    return _PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, more)


def split(buffer: bytes) -> tuple[list[tuple[int, int, int, bytes]], bytes]:
    """Kind, flags, stream and payload of whole frames, and the rest."""
    found = []
    at, end = 0, len(buffer)
    while at + 9 <= end:
        length = int.from_bytes(buffer[at : at + 3], "big")
        if at + 9 + length > end:
            break
        stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
        payload = buffer[at + 9 : at + 9 + length]
        found.append((buffer[at + 3], buffer[at + 4], stream, payload))
        at += 9 + length
    return found, buffer[at:]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBBI", len(payload), kind, flags, stream)[1:] + payload


def headers(path: str, authority: str) -> bytes:
    """Those of a call."""

    def text(value: str) -> bytes:
        assert len(value) < 127
        return bytes([len(value)]) + value.encode()

    return (
        b"\x83\x86"  # :method POST, :scheme http
        + (b"\x04" + text(path))
        + (b"\x01" + text(authority))
        + (b"\x0f\x10" + text("application/grpc"))  # content-type
        + (b"\x00" + text("te") + text("trailers"))
    )
