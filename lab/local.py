"""`romana up` as a child on free ports and a throw-away directory, for the demo.

Nothing is left behind: the child is stopped in order, the kernel stops it if this process is
killed (PR_SET_PDEATHSIG, by way of util-linux's setpriv), and the directory goes at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.process.environment import DATA_DIR_VARIABLE, IPAM_VARIABLE, TOPOLOGY_VARIABLE

START_TIMEOUT = 40.0
STOP_TIMEOUT = 40.0
TAIL = 30
"""Lines of the log that are shown when something fails."""

COMMAND = (sys.executable, "-m", "services.ctl.main")
OPTIONS = (
    *("--topology-port", "0", "--ipam-port", "0", "--policy-port", "0"),
    *("--topology-metrics-port", "0", "--ipam-metrics-port", "0", "--policy-metrics-port", "0"),
    *("--console-port", "0"),
)


class NotStarted(Exception):
    """`romana up` ended before everything served, or took too long."""


@dataclass(frozen=True, slots=True)
class LocalCluster:
    folder: Path
    topology: str
    ipam: str
    etcd: str
    topology_metrics: str
    ipam_metrics: str
    console: str
    """URL."""
    log: Path
    """What `romana up` and its children write to standard error."""

    def environment(self) -> dict[str, str]:
        """In which the `romana` command finds this cluster and no other."""
        return environment(self.folder / "data")

    def log_tail(self) -> str:
        return tail(self.log)


def environment(data: Path) -> dict[str, str]:
    """Ours, without what leads the `romana` command elsewhere."""
    elsewhere = (DATA_DIR_VARIABLE, TOPOLOGY_VARIABLE, IPAM_VARIABLE)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in elsewhere and not name.startswith(("ROMANA_TOPOLOGY__", "ROMANA_IPAM__"))
    }
    return {**kept, DATA_DIR_VARIABLE: str(data)}


def tail(log: Path) -> str:
    """The last lines of a file; empty if there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])


@asynccontextmanager
async def local_cluster() -> AsyncIterator[LocalCluster]:
    """A cluster for as long as the block runs.

    Raises:
        NotStarted: With the end of the log.
    """
    folder = Path(tempfile.mkdtemp(prefix="romana-demo-"))
    try:
        log = folder / "up.log"
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *guard,
                *COMMAND,
                *("up", *OPTIONS, "-o", "json"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment(folder / "data"),
                start_new_session=True,  # ^C of a terminal is for us; we stop it in order
            )
        try:
            yield await _announced(process, folder, log)
        finally:
            await _stop(process)
    finally:
        shutil.rmtree(folder)


async def _announced(process: asyncio.subprocess.Process, folder: Path, log: Path) -> LocalCluster:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT):
            line = await process.stdout.readline()
    except TimeoutError:
        line = b""
    if not line:
        raise NotStarted(f"the cluster did not start; the end of its log:\n{tail(log)}")
    ready = json.loads(line)
    return LocalCluster(
        folder,
        ready["topology"],
        ready["ipam"],
        ready["etcd"],
        ready["topology_metrics"],
        ready["ipam_metrics"],
        ready["console"],
        log,
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
