"""A connection with a guest that is in use all the time: it sends back what it gets."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path
from typing import Self

from lab.namespaces import call

NUMBER = struct.Struct("!Q")
PAUSE = 0.02
PATIENCE = 120.0
CONNECTING = 30.0


class Talk:
    """Numbers go to the guest and come back, none lost and none twice."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.count = 0
        """Those that came back."""
        self.error = ""

    def __enter__(self) -> Self:
        self._socket.settimeout(PATIENCE)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _go_on(self) -> None:
        try:
            while not self._ends.wait(PAUSE):
                sent = NUMBER.pack(self.count)
                self._socket.sendall(sent)
                found = b""
                while len(found) < len(sent):
                    data = self._socket.recv(len(sent) - len(found))
                    if not data:
                        raise ConnectionError(f"it has ended after {self.count}")
                    found += data
                if found != sent:
                    raise ConnectionError(f"{found!r} for {sent!r}")
                self.count += 1
        except OSError as error:
            self.error = str(error)


def begin(path: Path, address: str, port: int) -> Talk:
    """One that somebody in a namespace begins."""
    return Talk(connect(path, address, port))


def connect(path: Path, address: str, port: int) -> socket.socket:
    return call(path, lambda: socket.create_connection((address, port), CONNECTING))


def listen(path: Path, address: str, port: int) -> socket.socket:
    """For one that the guest begins."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def made() -> socket.socket:
        server = socket.socket(family, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        server.settimeout(CONNECTING)
        return server

    return call(path, made)
