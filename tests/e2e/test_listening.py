"""Nobody is let in before somebody speaks to him."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.etcd.process import LocalEtcd, free_port
from tests.support.ipam_process import poll


@contextlib.contextmanager
def serving(service: str, etcd: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Its ports, of calls and of metrics."""
    calls, metrics = free_port(), free_port()
    prefix = f"ROMANA_{service.upper()}__"
    settings = {
        "ETCD__ENDPOINTS": etcd,
        "LISTEN__ADDRESS": f"127.0.0.1:{calls}",
        "METRICS__ADDRESS": f"127.0.0.1:{metrics}",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}.main"],
            env={**os.environ, **{prefix + name: value for name, value in settings.items()}},
            stderr=log,
        )
    try:
        yield calls, metrics
    finally:
        process.kill()
        process.wait()


def takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def lives(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


@pytest.mark.parametrize("service", ["topology", "ipam", "policy"])
async def test_a_service_without_its_store_lets_nobody_in(
    service: str, etcd_server: LocalEtcd, tmp_path: Path
) -> None:
    """Else a client would wait for the first word, 20 s by gRPC's default, and not go elsewhere."""
    etcd_server.pause()
    with serving(service, etcd_server.endpoint, tmp_path) as (calls, metrics):
        await poll(lambda: lives(metrics), 60, what="the process to live")
        assert not takes_connections(calls)
        etcd_server.resume()
        await poll(lambda: takes_connections(calls), 60, what="the process to listen")
