"""etcd as a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.common.errors import WrongState
from services.common.etcd.client import EtcdClient
from services.common.etcd.process import EtcdOptions, LocalEtcd

PARENT = """
import asyncio, pathlib, sys, time
from services.common.etcd.process import LocalEtcd

server = LocalEtcd(pathlib.Path(sys.argv[1]))
asyncio.run(server.start())
print(server.pid, flush=True)
time.sleep(60)
"""


async def test_data_outlives_stop_and_kill(etcd_server: LocalEtcd) -> None:
    endpoint = etcd_server.endpoint
    for end in (etcd_server.stop, etcd_server.kill):
        async with EtcdClient([endpoint]) as client:
            await client.put(f"/{end.__name__}", b"1")
        end()
        assert etcd_server.pid is None
        await etcd_server.start()
        assert etcd_server.endpoint == endpoint
    async with EtcdClient([endpoint]) as client:
        assert len((await client.range("/")).items) == 2


async def test_starting_and_stopping_twice_is_fine(etcd_server: LocalEtcd) -> None:
    pid = etcd_server.pid
    await etcd_server.start()
    assert etcd_server.pid == pid
    etcd_server.stop()
    etcd_server.stop()
    etcd_server.kill()


async def test_a_taken_port_is_named(etcd_server: LocalEtcd, tmp_path: Path) -> None:
    port = int(etcd_server.endpoint.rpartition(":")[2])
    second = LocalEtcd(tmp_path / "second", EtcdOptions(client_port=port))
    with pytest.raises(WrongState, match=f":{port}: Address already in use") as caught:
        await second.start()
    assert caught.value.reason == "ETCD_PORT_TAKEN"


async def test_a_missing_etcd_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WrongState, match="apt-get install etcd-server") as caught:
        await LocalEtcd(tmp_path / "etcd").start()
    assert caught.value.reason == "ETCD_NOT_INSTALLED"


async def test_a_failed_start_shows_the_log(tmp_path: Path) -> None:
    server = LocalEtcd(tmp_path / "etcd", EtcdOptions(extra=("--no-such-flag",)))
    with pytest.raises(WrongState, match="no-such-flag") as caught:
        await server.start()
    assert caught.value.reason == "ETCD_START_FAILED"
    assert server.pid is None


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "etcd")], stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    deadline = time.monotonic() + 60
    while _runs(pid):
        assert time.monotonic() < deadline, "etcd outlived its parent"
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
