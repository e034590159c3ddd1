"""Network namespaces for tests, and things to do in them. Needs root.

with Namespaces() as made:
    a, b = made.new("a"), made.new("b")
    a.link(b, "eth1", "eth1")                  # a veth pair, both ends up
    a.run("ip addr add 10.0.0.1/24 dev eth1")
    value = a.call(lambda: Path("/proc/sys/net/ipv4/ip_forward").read_text())

Names start with `rt-` and are unique; leaving the context removes them and whatever runs in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.support.echo import Answer, echo

_T = TypeVar("_T")

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
COMMAND_TIMEOUT = 30.0

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Which capability lacks for tests with namespaces; empty: none."""
    if os.geteuid() != 0:
        return "root"
    if subprocess.run(["ip", "netns", "list"], capture_output=True, check=False).returncode != 0:
        return "network namespaces"
    return ""


def enter(path: str) -> None:
    """Moves the calling thread, and only it, into a network namespace for good."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(handle, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(handle)


def isolate() -> None:
    """Moves the calling thread, and all that it starts from now on, into a new network namespace.

    Only loopback is there, and no named network namespace. Without root nothing happens.
    """
    if missing():
        return
    if _libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _host("mount --make-rslave /")
    _host("mkdir -p /run/netns")
    _host("mount -t tmpfs netns /run/netns")
    _host("ip link set lo up")


class Namespace:
    """One network namespace, with its loopback up."""

    def __init__(self, name: str, *, there: bool = False) -> None:
        """Makes it, unless it is `there`, somebody else's."""
        self.name = name
        self.path = f"/run/netns/{name}"
        if not there:
            _host(f"ip netns add {name}")
            self.run("ip link set lo up")

    def __repr__(self) -> str:
        return self.name

    def run(self, command: str, *, check: bool = True, stdin: str | None = None) -> str:
        """Runs a command in it and returns its output; AssertionError when it fails."""
        return _host(f"ip netns exec {self.name} {command}", check=check, stdin=stdin)

    def succeeds(self, command: str) -> bool:
        """Whether a command ends with status 0."""
        words = ["ip", "netns", "exec", self.name, *shlex.split(command)]
        done = subprocess.run(words, capture_output=True, check=False, timeout=COMMAND_TIMEOUT)
        return done.returncode == 0

    def echo(self, address: str, *, source: str = "", timeout: float = 1.0) -> Answer:
        """Sends one echo request from it."""
        return self.call(lambda: echo(address, source=source, timeout=timeout))

    def pings(self, address: str, *, source: str = "", tries: int = 3) -> bool:
        """Whether an address answers one of some echo requests."""
        return any(self.echo(address, source=source) is Answer.REPLY for _ in range(tries))

    def start(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        """Starts a program in it; the caller ends it, at the latest leaving the context does."""
        words = ["ip", "netns", "exec", self.name, *command]
        return subprocess.Popen(words, **options)  # type: ignore[call-overload,no-any-return]

    def call(self, function: Callable[[], _T]) -> _T:
        """Calls a function in a thread of its own that is in this namespace."""
        result: list[_T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                enter(self.path)
                result.append(function())
            except BaseException as error:  # noqa: BLE001 - raised below, where the caller is
                errors.append(error)

        thread = threading.Thread(target=work, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return result[0]

    def link(self, other: Namespace, mine: str, its: str) -> None:
        """Joins two namespaces by a veth pair, both ends up."""
        _host(f"ip link add {mine} netns {self.name} type veth peer name {its} netns {other.name}")
        self.run(f"ip link set {mine} up")
        other.run(f"ip link set {its} up")

    def sysctl(self, name: str, value: object) -> None:
        """Sets one, written with dots or slashes."""
        path = Path("/proc/sys") / (name if "/" in name else name.replace(".", "/"))
        self.call(lambda: path.write_text(str(value)))

    def delete(self) -> None:
        """Ends what runs in it and removes it."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False
        )
        for pid in found.stdout.split():
            if int(pid) != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        _host(f"ip netns del {self.name}", check=False)


class Namespaces:
    """Makes namespaces and removes them at the end."""

    def __init__(self) -> None:
        self._prefix = f"rt-{uuid.uuid4().hex[:6]}"
        self._made: list[Namespace] = []

    def new(self, name: str) -> Namespace:
        """A namespace whose name ends in `name`."""
        made = Namespace(f"{self._prefix}-{name}")
        self._made.append(made)
        return made

    def __enter__(self) -> Namespaces:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for namespace in reversed(self._made):
            namespace.delete()


def _host(command: str, *, check: bool = True, stdin: str | None = None) -> str:
    done = subprocess.run(
        shlex.split(command),
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT,
        input=stdin,
    )
    assert not check or done.returncode == 0, f"{command}: {done.stderr.strip()}{done.stdout}"
    return done.stdout
