"""The process: one dnsmasq of the node, which outlives the agent and is found again.

It goes into the background when it has bound its sockets, so what keeps it from starting is known
at once. It is known by its configuration's path among its arguments, not by its number alone. It
reads interfaces and configuration only at its start, so every change is another start: a hundredth
of a second in which guests ask once more. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Final

from services.agent.guests import dnsmasq_config, leases
from services.common.errors import WrongState
from services.common.model.network import Address

PROGRAM: Final = "dnsmasq"
END_SECONDS: Final = 5.0
START_SECONDS: Final = 10.0
LOG_MOST: Final = 64 * 1024
"""Bytes; what is read is cut off when there are more."""


class Dnsmasq:
    """At most one process for a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._config, self._leases, self._pid, self._log = dnsmasq_config.files(folder)
        self._read = self._log.stat().st_size if self._log.exists() else 0

    def serve(
        self, config: str, wanted: Collection[Address], forgotten: Collection[Address]
    ) -> int:
        """Has it run with a configuration; one that does is left alone.

        Args:
            config: What `dnsmasq_config.render` says.
            wanted: Leases of other addresses are dropped.
            forgotten: And of these, too.

        Returns:
            A file descriptor of the process, which can be read once that has ended.

        Raises:
            WrongState: It is not installed, or does not start.
            OSError: Its files cannot be written.
        """
        process = self._find()
        if process is not None:
            if not forgotten and self._written() == config:
                return process
            _end(process)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._leases.exists():
            self._leases.write_text(leases.without(self._leases.read_text(), wanted, forgotten))
        self._config.write_text(config)
        self._start()
        process = self._find()
        if process is None:
            raise WrongState("dnsmasq has ended at once: " + self._last())
        return process

    def stop(self) -> None:
        """Ends it, if it runs, and forgets its leases."""
        process = self._find()
        if process is not None:
            _end(process)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self._read = 0

    def refused(self) -> frozenset[str]:
        """Interfaces whose guests got no address since the call before."""
        try:
            with self._log.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(min(self._read, size))
                text = file.read().decode(errors="replace")
                self._read = file.tell()
                if self._read > LOG_MOST:
                    file.truncate(0)  # it appends
                    self._read = 0
        except FileNotFoundError:
            return frozenset()
        return leases.refused(text)

    def _start(self) -> None:
        try:
            done = subprocess.run(
                [PROGRAM, f"--conf-file={self._config}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
                check=False,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise WrongState("dnsmasq is not installed: apt-get install dnsmasq-base") from error
        except subprocess.TimeoutExpired as error:
            raise WrongState("dnsmasq does not start") from error
        if done.returncode:
            text = (done.stderr or done.stdout).strip() or self._last()
            raise WrongState(f"dnsmasq does not start: {text}"[:500])

    def _find(self) -> int | None:
        """A descriptor of the process, if it runs."""
        try:
            number = int(self._pid.read_text())
            process = os.pidfd_open(number)
        except (OSError, ValueError):
            return None
        try:  # the number may be another's by now
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        except OSError:
            words = []
        if f"--conf-file={self._config}".encode() in words and not ended(process, 0):
            return process
        os.close(process)
        return None

    def _written(self) -> str:
        try:
            return self._config.read_text()
        except OSError:
            return ""

    def _last(self) -> str:
        """Its last words."""
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace").strip().rpartition("\n")[2][:500]
        return ""


def ended(process: int, seconds: float) -> bool:
    """Whether a process has ended, after waiting at most so long."""
    return bool(select.select([process], [], [], seconds)[0])


def close(process: int) -> None:
    """Lets go of the descriptor of a process; of one that has ended, for good."""
    with contextlib.suppress(ChildProcessError):  # ours only if we are everybody's parent
        os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOHANG)
    os.close(process)


def _end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not ended(process, END_SECONDS):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            ended(process, END_SECONDS)
    close(process)
