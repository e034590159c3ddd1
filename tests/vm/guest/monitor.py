"""qemu's own monitor (QMP)."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

ANSWER_SECONDS = 60.0


class Monitor:
    """Asks, and keeps what qemu says meanwhile."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(ANSWER_SECONDS)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._events: list[tuple[str, Any, float]] = []
        assert "QMP" in self._read()
        self.ask("qmp_capabilities")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, command: str, **arguments: Any) -> Any:
        """What it returns; AssertionError with what it says of an error."""
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        text = json.dumps({"execute": command, "arguments": words})
        self._socket.sendall(text.encode() + b"\n")
        while True:
            found = self._read()
            if "event" in found:
                self._note(found)
            else:
                assert "error" not in found, (command, words, found["error"])
                return found["return"]

    def moment(self, event: str, holds: Callable[[Any], bool] = lambda _: True) -> float:
        """When there was one by the clock on the wall; waits for it. Each is told once."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            for index, (name, data, seconds) in enumerate(self._events):
                if name == event and holds(data):
                    del self._events[: index + 1]
                    return seconds
            assert time.monotonic() < deadline, f"no {event}, but {self._events}"
            self._note(self._read())

    def _read(self) -> Any:
        line = self._lines.readline()
        assert line, "qemu has gone"
        return json.loads(line)

    def _note(self, found: Any) -> None:
        stamp = found["timestamp"]
        moment = stamp["seconds"] + stamp["microseconds"] / 1e6
        self._events.append((found["event"], found.get("data", {}), moment))
