"""Network namespaces by name: make, enter, list, remove, and what runs or is opened in them.

A lab's namespaces are called `romana.LAB.NAME`, and everything else of a lab lives inside them, so
that removing what has the prefix removes the lab, whoever made it and however that ended. Entering
is done by a thread that ends afterwards: a socket stays in the namespace where it was opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute, NetlinkError, netns

from services.common.errors import WrongState

T = TypeVar("T")

FOLDER = Path("/run/netns")
PREFIX = "romana"
CLONE_NEWNET = 0x40000000
"""linux/sched.h"""
COMMAND_TIMEOUT = 30.0
END_TIMEOUT = 10.0
"""Seconds that killed processes get to disappear."""

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """What this machine lacks for labs, for people; empty: nothing."""
    if os.geteuid() != 0:
        return "root"
    for program, package in (("nft", "nftables"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            return f"the program {program} (Debian package {package})"
    try:
        _in_thread("probe", _probe)
    except (OSError, NetlinkError) as error:
        return f"network namespaces with bridges ({error})"
    return ""


def _probe() -> None:
    """Makes a bridge in a namespace that ends with the thread."""
    _unshare()
    with IPRoute(groups=0) as kernel:
        kernel.link("add", ifname="probe", kind="bridge")


def name_of(lab: str, host: str) -> str:
    return f"{PREFIX}.{lab}.{host}"


def path_of(lab: str, host: str) -> Path:
    return FOLDER / name_of(lab, host)


def hosts_of(lab: str) -> list[str]:
    """Who has a namespace in a lab, by name."""
    prefix = name_of(lab, "")
    if not FOLDER.is_dir():
        return []
    return sorted(
        path.name.removeprefix(prefix) for path in FOLDER.iterdir() if path.name.startswith(prefix)
    )


def labs() -> list[str]:
    """Names of the labs that there is anything of."""
    if not FOLDER.is_dir():
        return []
    names = (path.name.split(".") for path in FOLDER.iterdir())
    return sorted({parts[1] for parts in names if len(parts) > 2 and parts[0] == PREFIX})


def run(command: Sequence[str], *, stdin: str = "") -> str:
    """Runs a program to its end and returns what it said; raises WrongState when it fails."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT
    )
    if done.returncode != 0:
        lines = stdin.splitlines()
        place = done.stderr.rpartition("Command failed -:")[2].strip()
        culprit = lines[int(place) - 1] if place.isdigit() and int(place) <= len(lines) else ""
        raise WrongState(
            f"{' '.join([*command[:4], culprit])}: {done.stderr.strip() or done.stdout.strip()}",
            "LAB_COMMAND_FAILED",
        )
    return done.stdout


def inside(path: Path, command: Sequence[str]) -> list[str]:
    """The command line that runs a program in a namespace."""
    return ["nsenter", f"--net={path}", "--", *command]


def call(path: Path, function: Callable[[], T]) -> T:
    """Calls a function in a thread that is in the namespace."""

    def work() -> T:
        _enter(path)
        return function()

    return _in_thread(f"in {path.name}", work)


def _in_thread(name: str, function: Callable[[], T]) -> T:
    """Calls a function in a thread that ends afterwards."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001  # raised below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _unshare() -> None:
    """Puts the calling thread, and only it, into a namespace of its own."""
    if _libc.unshare(CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")


def _enter(path: Path) -> None:
    """Moves the calling thread, and only it, for good."""
    with path.open("rb") as handle:
        if _libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))


def open_socket(path: Path, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A non-blocking socket of a namespace, whoever uses it."""

    def opened() -> socket.socket:
        made = socket.socket(family, kind, protocol)
        made.settimeout(0)
        return made

    return call(path, opened)


def sysctl(path: Path, values: Mapping[str, int]) -> None:
    """Sets kernel parameters below /proc/sys/net; those of absent families are left out."""

    def write() -> None:
        for name, value in values.items():
            with contextlib.suppress(FileNotFoundError):
                Path("/proc/sys/net", name).write_text(str(value))

    call(path, write)


def add(lab: str, hosts: Sequence[str]) -> None:
    """Makes namespaces with their loopback up."""
    for host in hosts:
        _in_thread(host, partial(_make, name_of(lab, host)))


def _make(name: str) -> None:
    _unshare()
    try:
        netns.attach(name, "thread-self")
    except OSError as error:
        raise WrongState(f"namespace {name}: {error.strerror}", "LAB_COMMAND_FAILED") from error
    with IPRoute(groups=0) as kernel:
        kernel.link("set", ifname="lo", state="up")


def processes(lab: str, host: str) -> list[int]:
    found = netns.ns_pids().get(name_of(lab, host), [])
    return [pid for pid in found if pid != os.getpid()]


def remove(lab: str, hosts: Sequence[str]) -> None:
    """Ends what runs in namespaces and removes them; those that are not there are gone already."""
    for host in hosts:
        _end(lab, host)
    for host in hosts:
        with contextlib.suppress(OSError):
            netns.remove(name_of(lab, host))
    left = sorted(set(hosts) & set(hosts_of(lab)))
    if left:
        raise WrongState(f"these namespaces cannot be removed: {', '.join(left)}", "LAB_NOT_GONE")


def _end(lab: str, host: str) -> None:
    """Kills what runs there; again, since it may fork meanwhile."""
    deadline = time.monotonic() + END_TIMEOUT
    while running := processes(lab, host):
        if time.monotonic() > deadline:
            raise WrongState(f"{running} in {name_of(lab, host)} cannot be ended", "LAB_NOT_GONE")
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
