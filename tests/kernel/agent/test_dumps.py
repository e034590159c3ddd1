"""A dump that the kernel says was interrupted is asked again."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator

import pytest

from services.agent.kernel import rtnetlink
from services.agent.kernel.netlink import KernelUnavailable, Netlink
from tests.support.netns import Namespace, Namespaces

LINKS = 100
"""More than the kernel puts into one datagram."""


class Meddled:
    """A socket; after the first datagram of some answers something is done to the links."""

    def __init__(self, real: socket.socket, meddle: Callable[[], None], times: int) -> None:
        self._real = real
        self._meddle = meddle
        self._times = times
        self._asked = False

    def send(self, data: bytes) -> int:
        self._asked = True
        return self._real.send(data)

    def recv(self, size: int) -> bytes:
        data = self._real.recv(size)
        if self._asked and self._times:
            self._asked = False
            self._times -= 1
            self._meddle()
        return data

    def close(self) -> None:
        self._real.close()


def _names(meddle: Callable[[], None], times: int) -> set[str]:
    with Netlink() as netlink:
        netlink._socket = Meddled(netlink._socket, meddle, times)  # type: ignore[assignment]
        return {link.name for link in rtnetlink.links(netlink)}


@pytest.fixture(scope="module")
def node() -> Iterator[Namespace]:
    with Namespaces() as made:
        node = made.new("node")
        batch = "\n".join(f"link add v{i} type veth peer name w{i}" for i in range(LINKS // 2))
        node.run("ip -batch -", stdin=batch)
        yield node


def test_it_is_asked_again_until_it_is_whole(node: Namespace) -> None:
    made: list[str] = []

    def meddle() -> None:
        made.append(f"late{len(made)}")
        node.run(f"ip link add {made[-1]} type bridge")

    found = node.call(lambda: _names(meddle, 3))
    for name in made:
        node.run(f"ip link del {name}")
    assert len(made) == 3
    assert found >= {*made, *(f"v{i}" for i in range(LINKS // 2))}


def test_what_changes_all_the_time_is_an_error(node: Namespace) -> None:
    numbers = itertools.count()

    def meddle() -> None:
        node.run(f"ip link {'del' if next(numbers) % 2 else 'add'} late type bridge")

    with pytest.raises(KernelUnavailable, match="interrupted"):
        node.call(lambda: _names(meddle, 1000))
    node.run("ip link del late", check=False)
