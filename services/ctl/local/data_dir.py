"""The data directory of `romana up`: one cluster at a time, held by a file lock.

The lock is the kernel's: it goes with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from services.common.errors import WrongState

LOCK_NAME = "lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the directory and holds it; raises WrongState when another `romana up` does."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / LOCK_NAME).open("a+", encoding="ascii")
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise WrongState(
            f"{folder} cannot be used as data directory: {why}", "DATA_DIR_UNUSABLE"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise WrongState(
                f"{folder} is in use by another `romana up` (process {holder}); stop that one, or "
                "give this one its own --data-dir and ports",
                "DATA_DIR_IN_USE",
                {"pid": holder},
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def check_port_free(port: int, option: str) -> None:
    """Raises WrongState, naming the option to change, when somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise WrongState(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror}; {option} takes "
                "another one, 0 any free one",
                "PORT_TAKEN",
                {"port": str(port)},
            ) from error
