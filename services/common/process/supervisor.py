"""What a process tells the supervisor that started it, by systemd's protocol: sd_notify(3)."""

from __future__ import annotations

import os
import socket
from typing import Final

import structlog

log = structlog.get_logger(__name__)

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


def tell(state: str) -> None:
    """Says it; nothing where no supervisor listens, and no error when it cannot be told."""
    path = os.environ.get(SOCKET_VARIABLE, "")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path  # an abstract one
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(0)
            sender.sendto(state.encode(), address)
    except OSError as error:
        log.warning("supervisor_not_told", state=state, error=str(error))
