"""Programs that run in a lab's namespaces, beyond the life of whoever started them.

A program's id is kept in a file, and believed only while that process is in the namespace where the
program was started: ids are used again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.namespaces import inside, path_of
from services.common.errors import WrongState

STOP_TIMEOUT = 35.0
"""Seconds; the services give themselves 30."""
TAIL = 20
"""Lines of a log that are shown when something fails."""


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    host: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to ours, without what is Romana's there."""


class Processes:
    """The programs of one lab: one run of each at a time."""

    def __init__(self, lab: str, folder: Path, *, guarded: bool) -> None:
        """Logs and ids go below `folder`; guarded programs end when this process does."""
        self._lab = lab
        self._folder = folder
        self._guarded = guarded
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._hosts: dict[str, str] = {}

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def tail(self, name: str) -> str:
        """The last lines of that."""
        lines = (
            self.log(name).read_text(errors="replace").splitlines()
            if self.log(name).exists()
            else []
        )
        return "\n".join(f"  {line}" for line in lines[-TAIL:])

    def start(self, program: Program) -> int:
        """Starts it unless it runs; returns its id. Call it from the main thread if guarded."""
        running = self.pid(program.name, program.host)
        if running is not None:
            return running
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if self._guarded and _setpriv() else []
        with self.log(program.name).open("ab") as output:
            child = subprocess.Popen(
                [*guard, *inside(path_of(self._lab, program.host), program.command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment(), **program.environment},
                start_new_session=True,
            )
        self._children[program.name] = child
        self._id_file(program.name).write_text(f"{child.pid}\n")
        return child.pid

    def pid(self, name: str, host: str) -> int | None:
        child = self._children.get(name)
        if child is not None:
            return child.pid if child.poll() is None else None
        try:
            pid = int(self._id_file(name).read_text())
            there = Path(f"/proc/{pid}/ns/net").stat().st_ino
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            is_ours = there == path_of(self._lab, host).stat().st_ino
        except (OSError, ValueError):
            return None
        return pid if is_ours and state != "Z" else None

    def kill(self, name: str, host: str) -> None:
        """Ends it as a crash would, and waits."""
        self._end(name, host, signal.SIGKILL)

    def stop(self, name: str, host: str) -> None:
        """Ends it in order, or by force if that takes too long."""
        try:
            self._end(name, host, signal.SIGTERM)
        except WrongState:
            self.kill(name, host)

    def reap(self) -> None:
        """Waits for children of ours that somebody else has ended."""
        for child in self._children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_TIMEOUT)

    def _end(self, name: str, host: str, number: signal.Signals) -> None:
        pid = self.pid(name, host)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT
        while self.pid(name, host) is not None:
            if time.monotonic() > deadline:
                raise WrongState(f"{name} (process {pid}) does not end", "LAB_PROCESS_STAYS")
            time.sleep(0.01)

    def _id_file(self, name: str) -> Path:
        return self._folder / f"{name}.pid"


def environment() -> dict[str, str]:
    """Ours, without settings and addresses of any other Romana."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ROMANA_")}


def _setpriv() -> bool:
    return shutil.which("setpriv") is not None
