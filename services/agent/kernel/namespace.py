"""Other network namespaces: opening one by its path, and working inside it.

The work is done in a thread that goes there and comes back; sockets that it opens stay there.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from services.common.errors import Forbidden, InvalidInput, NotFound

_T = TypeVar("_T")

CLONE_NEWNET: Final = 0x40000000
_NS_GET_NSTYPE: Final = 0xB703
"""ioctl_ns(2)."""
_OWN: Final = "/proc/thread-self/ns/net"


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A file descriptor of the namespace.

    Raises:
        NotFound: There is nothing.
        InvalidInput: It is no network namespace, or the agent's own.
        Forbidden: The agent may not open it.
    """
    try:
        # nobody may ever write to what is a pipe
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _not_found(path) from None
    except (NotADirectoryError, IsADirectoryError):
        raise _no_namespace(path) from None
    except PermissionError as error:
        raise Forbidden(
            f"the agent may not open {path}", "NAMESPACE_FORBIDDEN", {"path": path}
        ) from error
    except OSError as error:
        raise InvalidInput.at(
            "spec.target.namespace.path", f"{path[:200]!r} cannot be opened: {error.strerror}"
        ) from error
    try:
        _check(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def inside(descriptor: int, work: Callable[[], _T]) -> _T:
    """Does something in a namespace and comes back. For threads that may wait."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(descriptor)
        try:
            return work()
        finally:
            _enter(own)
    finally:
        os.close(own)


def apart(work: Callable[[], _T]) -> _T:
    """Does something in a new namespace, which goes when nothing of it is open any more."""

    def there() -> _T:
        if _libc.unshare(CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return work()

    with ThreadPoolExecutor(1) as thread:  # which ends, and need not come back
        return thread.submit(there).result()


def _check(descriptor: int, path: str) -> None:
    try:
        kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != CLONE_NEWNET:
        if str(Path(path).parent) in {"/run/netns", "/var/run/netns"}:
            # `ip netns add` makes the file first and mounts the namespace on it then, and a crash
            # or a delete in between leaves the empty file
            raise _not_found(path)
        raise _no_namespace(path)
    there, here = os.fstat(descriptor), Path(_OWN).stat()
    if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
        raise InvalidInput.at(
            "spec.target.namespace.path", f"{path!r} is the network namespace of the agent itself"
        )


def _not_found(path: str) -> NotFound:
    return NotFound(
        f"there is no network namespace {path[:200]!r}", "NAMESPACE_NOT_FOUND", {"path": path[:200]}
    )


def _no_namespace(path: str) -> InvalidInput:
    return InvalidInput.at("spec.target.namespace.path", f"{path[:200]!r} is no network namespace")


_libc = ctypes.CDLL(None, use_errno=True)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
