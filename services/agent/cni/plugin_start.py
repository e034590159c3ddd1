"""When a plug-in that asks was started: its span begins there, and costs the plug-in nothing."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path
from typing import Final

MOST: Final = 60.0
"""Seconds that a plug-in runs at most; who has run for longer is none."""
_CREDENTIALS: Final = struct.Struct("3i")
_START_FIELD: Final = 19
"""Of /proc/PID/stat after the command's name, see proc(5): in ticks since the machine's start."""


def started(peer: socket.socket) -> float | None:
    """Unix time, of a hundredth of a second; None: it is not known, or no plug-in asks."""
    got = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(got)
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        ticks = int(text.rpartition(")")[2].split()[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return None
    ago = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - ago if 0 <= ago <= MOST else None
