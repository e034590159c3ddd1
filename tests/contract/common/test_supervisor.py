"""What systemd hears of a unit of `Type=notify`: ready once it serves, and not before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.etcd.process import LocalEtcd
from services.common.process import supervisor
from tests.support.ipam_process import IpamProcess, poll

HEAR_SECONDS = 60


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The supervisor's end."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(0)
        monkeypatch.setenv(supervisor.SOCKET_VARIABLE, str(path))
        yield receiver


async def next_word(receiver: socket.socket) -> str:
    async with asyncio.timeout(HEAR_SECONDS):
        return (await asyncio.get_running_loop().sock_recv(receiver, 4096)).decode()


async def test_a_service_is_ready_when_it_serves_and_says_that_it_stops(
    heard: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd = LocalEtcd(tmp_path)
    with IpamProcess.started(etcd.endpoint, "/romana", tmp_path) as ipam:
        monkeypatch.delenv(supervisor.SOCKET_VARIABLE)  # etcd would say that it is ready, too

        async def runs() -> bool:
            try:
                return (await ipam.scrape("/readyz"))[0] == 503
            except OSError:
                return False

        await poll(runs, HEAR_SECONDS, what="a process that waits for etcd")
        with pytest.raises(BlockingIOError):
            heard.recv(4096)
        try:
            await etcd.start()
            assert await next_word(heard) == supervisor.READY
            assert await ipam.is_serving()
            assert await ipam.stop() == 0
            assert await next_word(heard) == supervisor.STOPPING
            with pytest.raises(BlockingIOError):
                heard.recv(4096)
        finally:
            etcd.stop()


def test_an_abstract_socket_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # the kernel chooses an abstract name
        name = receiver.getsockname().decode()
        monkeypatch.setenv(supervisor.SOCKET_VARIABLE, f"@{name[1:]}")
        supervisor.tell(supervisor.READY)
        assert receiver.recv(4096) == b"READY=1"


def test_a_supervisor_that_is_gone_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(supervisor.SOCKET_VARIABLE, str(tmp_path / "gone"))
    supervisor.tell(supervisor.READY)
