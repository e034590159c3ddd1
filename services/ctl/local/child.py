"""A service as a child process: its lines are relayed, its end is noticed, it never outlives us.

The kernel sends the child SIGTERM when this process dies (PR_SET_PDEATHSIG, by way of util-linux's
setpriv: a `preexec_fn` would fork a process that already runs gRPC's threads).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from services.ctl.failures.failure import Failure

LAST_LINES = 20
LINE_LIMIT = 1 << 20
"""Bytes. asyncio's own limit, 64 KiB, is less than some tracebacks."""

STOP_TIMEOUT = 35.0
"""Seconds; the services give themselves 30."""


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    module: str
    environment: Mapping[str, str]
    """Added to our own."""


class Child:
    def __init__(self, program: Program, relay: Callable[[str, str], None]) -> None:
        """`relay` gets the name and each line that the program writes."""
        self.name = program.name
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._program = program
        self._relay = relay
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def awaited(self) -> str:
        """What it said last that it waits for: the store."""
        for line in reversed(self.last_lines):
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and said.get("event") == "store_awaited":
                    return str(said.get("why", ""))
        return ""

    async def start(self) -> None:
        """Starts it; that it also serves is for somebody else to find out."""
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        self._process = await asyncio.create_subprocess_exec(
            *guard,
            sys.executable,
            "-m",
            self._program.module,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self._program.environment},
            start_new_session=True,  # ^C of a terminal is for us: children end in order
            limit=LINE_LIMIT,
        )
        self._reader = asyncio.create_task(self._read(self._process), name=f"{self.name} lines")

    async def ended(self) -> NoReturn:
        """Waits for its end, which nobody asked for, and raises what it was."""
        assert self._process is not None
        status = await self._process.wait()
        await self._drained()
        how = f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
        lines = "\n".join(f"  {line}" for line in self.last_lines)
        raise Failure(f"{self.name} ended {how}; its last lines:\n{lines}", reason="CHILD_ENDED")

    async def stop(self) -> None:
        """Asks it to end and waits; by force when it takes too long."""
        process = self._process
        if process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            self.kill()
            await process.wait()
        await self._drained()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _drained(self) -> None:
        """Waits until its last lines are relayed; grandchildren may hold the pipe open."""
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=1.0)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than LINE_LIMIT; what was read of it is dropped
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip("\n")
            self.last_lines.append(text)
            self._relay(self.name, text)
