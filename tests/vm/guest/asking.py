"""Somebody who asks an address all the time, whether anybody answers or not."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from lab import icmp
from lab.icmp import Echo
from lab.namespaces import open_socket

STEP = 0.005
"""Seconds between questions."""


class Probe(NamedTuple):
    path: Path
    """Of the namespace in which somebody is."""
    source: str
    target: str
    port: int = 0
    """If given, beginnings of TCP are sent there beside echoes."""


class Probes:
    """From entering it until it is left."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = probes
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _go_on(self) -> None:
        with contextlib.ExitStack() as stack:
            asking = [_asking(probe, stack) for probe in self._probes]
            while not self._ends.wait(STEP):
                for each in asking:
                    next(each)


def _asking(probe: Probe, stack: contextlib.ExitStack) -> Iterator[None]:
    """Asks once at each step."""
    version, family, protocol = (
        (icmp.V6, socket.AF_INET6, socket.IPPROTO_ICMPV6)
        if ":" in probe.target
        else (icmp.V4, socket.AF_INET, socket.IPPROTO_ICMP)
    )
    raw = stack.enter_context(open_socket(probe.path, family, socket.SOCK_RAW, protocol))
    for number in itertools.count():
        with contextlib.suppress(OSError):  # nobody leads there just now
            echo = Echo(1, number & 0xFFFF)
            raw.sendto(icmp.request(version, echo), (probe.target, 0))
        yield
        if probe.port:
            with open_socket(probe.path, family, socket.SOCK_STREAM) as stream:
                stream.connect_ex((probe.target, probe.port))
                yield
