"""`romana up` as a process, and the command run against it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_TIMEOUT = 100.0
STOP_TIMEOUT = 100.0

COMMAND = (sys.executable, "-m", "services.ctl.main")
FREE_PORTS = (
    *("--topology-port", "0", "--ipam-port", "0", "--policy-port", "0"),
    *("--topology-metrics-port", "0", "--ipam-metrics-port", "0", "--policy-metrics-port", "0"),
    "--no-console",
)


@dataclass
class Up:
    """A running `romana up`."""

    folder: Path
    process: subprocess.Popen[str]
    cluster: dict[str, Any] = field(default_factory=dict)
    """What it announced."""
    lines: list[str] = field(default_factory=list)
    """What it and its children wrote to stderr."""

    def romana(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the command, which finds the cluster by its data directory."""
        return romana(self.folder, *arguments, stdin=stdin)

    def json(self, *arguments: str) -> Any:
        """Runs a verb that has to succeed and reads what it says."""
        done = self.romana(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ends it as Ctrl-C does; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT)


def environment(folder: Path) -> dict[str, str]:
    """Ours without what would lead elsewhere, on a machine that has a proxy set for the world.
    Nobody else finds the cluster by a note in this user's own folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROMANA")}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
    own = {"ROMANA_DATA_DIR": str(folder), "XDG_DATA_HOME": str(folder / "share")}
    return {**kept, **proxies, **own, "NO_COLOR": "1"}


def romana(
    folder: Path, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(folder),
        timeout=START_TIMEOUT,
        check=False,
    )


@contextlib.contextmanager
def up(folder: Path, options: Sequence[str] = ()) -> Iterator[Up]:
    """Starts a cluster on free ports, waits until it serves, and ends it whatever happens."""
    process = subprocess.Popen(
        [*COMMAND, "up", *FREE_PORTS, "-o", "json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder),
    )
    made = Up(folder, process)
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=made.lines.extend, args=(iter(process.stderr.readline, ""),))
    reader.start()
    watchdog = threading.Timer(START_TIMEOUT, process.kill)
    watchdog.start()
    try:
        announced = process.stdout.readline()
        watchdog.cancel()
        assert announced, "".join(made.lines)
        made.cluster = json.loads(announced)
        yield made
    finally:
        watchdog.cancel()
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                made.stop()
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


def children(pid: int) -> dict[str, int]:
    """Child processes of a process, by what they run."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            started = (task / "children").read_text()
        except OSError:  # a thread that has ended
            continue
        for child in started.split():
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            name = next((word for word in words if word.startswith("services.")), words[0])
            found[name] = int(child)
    return found


def wait_until_gone(pids: Sequence[int], seconds: float = 60.0) -> None:
    """Waits until none of the processes is left."""
    end = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < end, f"still there: {[pid for pid in pids if _alive(pid)]}"
        time.sleep(0.05)


def wait_until_listening(port: int, seconds: float = 60.0) -> None:
    """Waits until somebody takes connections there."""
    end = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < end, f"nobody listens at {port}"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
