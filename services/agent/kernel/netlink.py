"""A netlink socket for many small messages: packed by the callers, sent in large chunks.

Messages of a chunk are acknowledged by its last one only; the errors of the others come back all
the same, with their sequence numbers. That makes 525,000 routes a second where pyroute2's encoder
makes 4,300. Everything here blocks, and a socket is one thread's at a time: that of
`services.agent.kernel.drivers`, or one of those that make endpoints' links.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, TypeVar

from services.agent.kernel import codec
from services.agent.kernel.codec import Order
from services.common.errors import RomanaError, Unavailable

_T = TypeVar("_T")

SOL_NETLINK: Final = 270
CAP_ACK: Final = 10
EXPLAIN: Final = 11
"""NETLINK_EXT_ACK: refusals come with a text."""
STRICT_CHECK: Final = 12
EXPLAINED: Final = 0x200
"""NLM_F_ACK_TLVS: this one does."""

CHUNK: Final = 64 * 1024
"""Bytes sent at once; of little influence between 4 and 256 KiB."""
RECEIVE: Final = 64 * 1024
"""The kernel fills at most 32 KiB; and a thread keeps what it once had, of which there are 20."""
RECEIVE_BUFFER: Final = 16 * 1024 * 1024
"""Room for an error of each message of a chunk."""
DUMP_TRIES: Final = 10
TIMEOUT: Final = 30.0
"""Seconds; the kernel answers at once or never."""


class KernelUnavailable(Unavailable):
    """The kernel does not take or answer our messages."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the kernel refused an operation."""

    number: int
    """errno; 0: not from the kernel."""
    message: str = ""

    def __str__(self) -> str:
        if self.message:
            return self.message
        if self.number == errno.EEXIST:
            return "something of somebody else is in its place"
        return os.strerror(self.number)

    @property
    def reason(self) -> str:
        """An upper-case word for programs."""
        return errno.errorcode.get(self.number, "INVALID")


def whole(kind: int, dump: Callable[[], tuple[_T, bool]]) -> _T:
    """Repeats a dump until the kernel says that nothing changed meanwhile.

    For every reader of dumps: of one that was interrupted, objects may be missing that were there
    all the time, and what is missing counts as gone.

    Args:
        kind: Of the question, for the error.
        dump: What it found, and whether it was not interrupted.

    Raises:
        KernelUnavailable: The objects change all the time.
    """
    for _ in range(DUMP_TRIES):
        found, complete = dump()
        if complete:
            return found
    raise KernelUnavailable(f"netlink: dump {kind} was interrupted {DUMP_TRIES} times")


class Netlink:
    """A socket to the kernel in the network namespace of the thread that makes it."""

    def __init__(
        self,
        protocol: int = socket.NETLINK_ROUTE,
        *,
        options: Sequence[int] = (CAP_ACK, STRICT_CHECK),
    ) -> None:
        """Opens the socket.

        Raises:
            KernelUnavailable: There is no netlink.
        """
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
            self._socket.bind((0, 0))
            for option in options:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
        except OSError as error:
            raise KernelUnavailable(f"netlink: {error}") from error
        self._socket.settimeout(TIMEOUT)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * CHUNK)
        force_receive_buffer(self._socket, RECEIVE_BUFFER)
        self._sequence = 0

    @property
    def port(self) -> int:
        """Its address: notifications of what it did carry this."""
        port: int = self._socket.getsockname()[0]
        return port

    def force_send_buffer(self, size: int) -> None:
        """Lets so many bytes be sent at once, beyond the limit of the system."""
        self._socket.setsockopt(socket.SOL_SOCKET, 32, size)  # SO_SNDBUFFORCE

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def execute(self, batch: Sequence[bytes]) -> Mapping[int, Problem]:
        """Sends messages and waits until the kernel has worked through them.

        Args:
            batch: Whole messages. The n-th bears the sequence number n, from 0.

        Returns:
            What was refused, by sequence number.

        Raises:
            KernelUnavailable: The socket does not work.
        """
        problems: dict[int, Problem] = {}
        chunk, last = bytearray(), 0
        for index, item in enumerate(batch):
            if chunk and len(chunk) + len(item) > CHUNK:
                self._send(chunk, last, index - 1, problems)
                chunk = bytearray()
            last = len(chunk)
            chunk += item
        if chunk:
            self._send(chunk, last, len(batch) - 1, problems)
        return problems

    def attempt(self, orders: Sequence[Order]) -> list[int]:
        """Performs them in order, all of them; returns each one's errno, 0: done.

        Raises:
            KernelUnavailable: The socket does not work.
        """
        problems = self.execute(codec.numbered(orders))
        return [problems[place].number if place in problems else 0 for place in range(len(orders))]

    def do(self, orders: Sequence[Order]) -> None:
        """The same; raises the OSError of the first that was refused."""
        for code in self.attempt(orders):
            if code:
                raise OSError(code, os.strerror(code))

    def _send(
        self, chunk: bytearray, last: int, sequence: int, problems: dict[int, Problem]
    ) -> None:
        """Sends a chunk, whose last message starts at `last`, and reads until its answer."""
        (flags,) = struct.unpack_from("=H", chunk, last + 6)
        struct.pack_into("=H", chunk, last + 6, flags | codec.ACK)
        self.exchange(chunk, sequence, problems)

    def exchange(
        self, data: bytes | bytearray, last: int, problems: dict[int, Problem], first: int = -1
    ) -> None:
        """Sends messages at once and reads until the answer to that with the number `last`.

        What was refused is added to `problems`, by sequence number. If that with the number `first`
        is refused, there may be no further answers.

        Raises:
            KernelUnavailable: The socket does not work.
        """
        with _translated():
            self._socket.send(data)
            while True:
                answer = self._socket.recv(RECEIVE)
                start = 0
                while start < len(answer):
                    length, kind, flags, answered, _ = codec.HEADER.unpack_from(answer, start)
                    if kind == codec.ERROR:
                        (code,) = struct.unpack_from("=i", answer, start + codec.HEADER.size)
                        if code:
                            text = _explanation(answer, start, length) if flags & EXPLAINED else ""
                            problems[answered] = Problem(-code, text)
                        if answered == last or (code and answered == first):
                            return
                    start += (length + 3) & ~3

    def ask(self, kind: int, body: bytes) -> bytes:
        """Asks for one object; its message.

        Raises:
            KernelUnavailable: The kernel refuses.
        """
        data = self.find(kind, body, 0)
        assert data is not None
        return data

    def find(self, kind: int, body: bytes, missing: int) -> bytes | None:
        """The same, but None if the kernel refuses with the errno `missing`."""
        self._sequence = (self._sequence + 1) & 0x7FFFF
        with _translated():
            self._socket.send(codec.message(kind, 0, self._sequence, body))
            while True:
                data = self._socket.recv(RECEIVE)
                _, first, _, answered, _ = codec.HEADER.unpack_from(data)
                if answered != self._sequence:
                    continue
                if first == codec.ERROR:
                    (code,) = struct.unpack_from("=i", data, codec.HEADER.size)
                    if code and -code == missing:
                        return None
                    raise KernelUnavailable(f"netlink: question {kind}: {os.strerror(-code)}")
                return data

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Asks for all objects of a kind; whole messages, as many as fit, in each item.

        Asked again when objects changed meanwhile, as the kernel then may leave some out.

        Raises:
            KernelUnavailable: The kernel refuses, or the objects change all the time.
        """
        return whole(kind, lambda: self._dump(kind, body))

    def stream(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The same piece by piece, of objects that come and go all the time: what changes meanwhile
        may be left out. Ask nothing else before the end; who does not reach it closes the socket.

        Raises:
            KernelUnavailable: The kernel refuses.
        """
        for data, _ in self._pieces(kind, body):
            if data:
                yield data

    def _dump(self, kind: int, body: bytes) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        complete = True
        for data, interrupted in self._pieces(kind, body):
            if data:
                found.append(data)
            complete = complete and not interrupted
        return found, complete

    def _pieces(self, kind: int, body: bytes) -> Iterator[tuple[bytes, bool]]:
        """Whole messages, perhaps none, and whether objects changed meanwhile."""
        self._sequence = (self._sequence + 1) & 0x7FFFF
        with _translated():
            self._socket.send(codec.message(kind, codec.DUMP, self._sequence, body))
        while True:
            with _translated():
                data = self._socket.recv(RECEIVE)
            _, first, flags, answered, _ = codec.HEADER.unpack_from(data)
            if answered != self._sequence:
                continue  # the rest of a dump that was given up
            interrupted = bool(flags & codec.DUMP_INTERRUPTED)
            if first in {codec.ERROR, codec.DONE}:
                (code,) = struct.unpack_from("=i", data, codec.HEADER.size)
                if code:
                    why = OSError(-code, os.strerror(-code))
                    raise KernelUnavailable(f"netlink: dump {kind}: {why.strerror}") from why
                yield b"", interrupted
                return
            end = _end(data)
            if end is None:
                yield data, interrupted
                continue
            last = bool(codec.HEADER.unpack_from(data, end)[2] & codec.DUMP_INTERRUPTED)
            yield data[:end], interrupted or last
            return


def _explanation(data: bytes, start: int, length: int) -> str:
    """What the kernel says of a refusal: NLMSGERR_ATTR_MSG, after the header that it repeats."""
    found = codec.attributes(data, start + 2 * codec.HEADER.size + 4, start + length)
    return found.get(1, b"").rstrip(b"\0").decode(errors="replace")


def force_receive_buffer(sock: socket.socket, size: int) -> None:
    """Makes the receive buffer this large, beyond the limit of the system where we may."""
    force = 33  # SO_RCVBUFFORCE, which the socket module does not name
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _end(data: bytes) -> int | None:
    """Where the message that ends a dump begins; it comes last, with the last objects."""
    start = len(data) - 20
    if start >= 0 and codec.HEADER.unpack_from(data, start)[:2] == (20, codec.DONE):
        return start
    return None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RomanaError:
        raise
    except OSError as error:
        raise KernelUnavailable(f"netlink: {error.strerror or error}") from error
