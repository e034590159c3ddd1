"""Who may work with a state directory, and with the kernel objects that it remembers: one process.

The kernel lets go of the lock when its holder dies, however that happens.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Final

from services.common.errors import WrongState

FILE: Final = "lock"


class StateLock:
    """Held from its making until it is closed."""

    def __init__(self, state_dir: Path) -> None:
        """Takes it.

        Raises:
            WrongState: Another process has it, or the folder is not to be written to.
        """
        path = state_dir / FILE
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WrongState(
                f"{path} cannot be opened: {error.strerror}", "STATE_UNWRITABLE"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise WrongState(
                f"an agent runs with the state directory {state_dir}", "AGENT_RUNS"
            ) from error

    def close(self) -> None:
        os.close(self._descriptor)


def answers(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
