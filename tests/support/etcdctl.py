"""Debian's etcdctl, as an operator uses it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

from services.common.etcd.process import LOOPBACK, LocalEtcd

SECONDS = 60


class Failed(Exception):
    """It says why."""


def is_installed() -> bool:
    return shutil.which("etcdctl") is not None


async def etcdctl(etcd: LocalEtcd, *words: str) -> str:
    """Runs it with this member; returns what it said. Raises Failed."""
    return await _run("--endpoints", f"http://{etcd.endpoint}", *words)


async def leads(etcd: LocalEtcd) -> bool:
    """Says whether this member leads its cluster, as it says itself."""
    try:
        said = await etcdctl(etcd, "endpoint", "status", "-w", "json", "--command-timeout", "2s")
    except Failed:
        return False
    (status,) = [one["Status"] for one in json.loads(said.splitlines()[-1])]
    # A member that follows nobody leaves the field out.
    return bool(status.get("leader") == status["header"]["member_id"])


async def restore(snapshot: Path, data: Path, *, peer_port: int, token: str) -> None:
    """Makes the data of a member that is alone."""
    peer = f"http://{LOOPBACK}:{peer_port}"
    await _run(
        *("snapshot", "restore", str(snapshot)),
        *("--name", "local"),
        *("--data-dir", str(data)),
        *("--initial-cluster", f"local={peer}"),
        *("--initial-advertise-peer-urls", peer),
        *("--initial-cluster-token", token),
    )


async def _run(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "etcdctl",
        *words,
        env={**os.environ, "ETCDCTL_API": "3"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise Failed(said.decode())
    return said.decode()
