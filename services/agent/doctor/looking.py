"""Looks at the node: files, /proc, sockets, other programs' tables. Changes nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.agent.doctor.facts import Facts, Feature, Listener
from services.agent.doctor.trying import features
from services.agent.kernel import rtnetlink
from services.agent.kernel.foreign_forwarding import closed_chains, tables
from services.agent.kernel.netlink import KernelUnavailable, Netlink
from services.agent.lock import answers

SYSCTLS: Final = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/proxy_arp",
    "net/ipv4/neigh/default/proxy_delay",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/accept_ra",
)
RUNTIMES: Final = {
    "containerd": ("run/containerd/containerd.sock", "run/k3s/containerd/containerd.sock"),
    "CRI-O": ("run/crio/crio.sock",),
    "Docker": ("run/docker.sock",),
    "podman": ("usr/bin/podman",),
}
_NEEDED: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""linux/capability.h."""
_LISTENING: Final = "0A"
_CONFIGURATIONS: Final = frozenset({".conf", ".conflist", ".json"})
_NETWORKD: Final = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look."""

    root: Path = Path("/")
    """Where the node's file system is: elsewhere in a container."""
    cni_configurations: str = "etc/cni/net.d"
    cni_plugins: str = "opt/cni/bin"
    state_dir: str = "var/lib/romana"
    agent: Path = Path("/run/romana/agent.sock")


def look(places: Places) -> Facts:
    """All that can be found out in this network namespace."""
    root = os.geteuid() == 0
    tried, untried = _features()
    kind, writable = _state(places.root / places.state_dir)
    with Netlink() as kernel:
        interfaces = frozenset(link.name for link in rtnetlink.links(kernel))
    return Facts(
        release=platform.release(),
        is_root=root,
        features=tried,
        untried=untried,
        read_only=tuple(_read_only()),
        has_ipv6=Path("/proc/sys/net/ipv6").is_dir(),
        agent_runs=answers(places.agent),
        listeners=tuple(_listeners()),
        configurations=tuple(
            path.name
            for path in _files(places.root / places.cni_configurations)
            if path.suffix in _CONFIGURATIONS
        ),
        plugins=frozenset(path.name for path in _files(places.root / places.cni_plugins)),
        runtimes=tuple(
            name
            for name, signs in RUNTIMES.items()
            if any(_is_there(places.root / sign) for sign in signs)
        ),
        interfaces=interfaces,
        tables=tuple(_tables()),
        closed_chains=() if untried else tuple(closed_chains()),
        networkd_removes=tuple(_networkd_removes(places.root)),
        state_dir=f"/{places.state_dir}",
        state_filesystem=kind,
        state_writable=writable,
    )


def _features() -> tuple[tuple[Feature, ...], str]:
    """What was tried, or why nothing could be."""
    if os.geteuid() != 0:
        return (), "not run as root"
    if missing := [name for name, bit in _NEEDED.items() if not _capabilities() >> bit & 1]:
        return (), f"run without {' and '.join(missing)}"
    try:
        return features(), ""
    except OSError as error:
        return (), f"no network namespace can be made ({error.strerror})"


def _capabilities() -> int:
    """The effective ones, as bits."""
    status = Path("/proc/thread-self/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True  # somebody has made the folder that is closed to us


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _read_only() -> Iterator[str]:
    for name in SYSCTLS:
        path = Path("/proc/sys", name)
        if path.exists() and not os.access(path, os.W_OK):
            yield name


def _tables() -> list[str]:
    try:
        return tables()
    except KernelUnavailable:
        return []


def _listeners() -> Iterator[Listener]:
    """By port, each once, in whichever family."""
    found: dict[int, str] = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/thread-self/net", name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING:
                    found[int(fields[1].rpartition(":")[2], 16)] = fields[9]
    programs = _programs(frozenset(found.values()))
    for port, inode in sorted(found.items()):
        yield Listener(port, programs.get(inode, ""))


def _programs(inodes: frozenset[str]) -> dict[str, str]:
    """Names of programs that have one of these sockets, as far as we may see them."""
    found: dict[str, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                match = re.fullmatch(r"socket:\[([0-9]+)\]", str(descriptor.readlink()))
                if match is not None and match[1] in inodes:
                    found.setdefault(match[1], (process / "comm").read_text().strip())
    return found


def _networkd_removes(root: Path) -> Iterator[str]:
    if not _is_there(root / "run/systemd/netif/state"):
        return  # it does not run
    text = ""
    for folder in ("usr/lib/systemd", "run/systemd", "etc/systemd"):
        for path in (
            root / folder / "networkd.conf",
            *sorted((root / folder / "networkd.conf.d").glob("*.conf")),
        ):
            with contextlib.suppress(OSError):
                text += path.read_text() + "\n"
    for name in _NETWORKD:
        values = re.findall(rf"^\s*{name}\s*=\s*(\S+)", text, re.MULTILINE)
        if not values or values[-1].lower() not in {"no", "false", "off", "0"}:
            yield name


def _state(folder: Path) -> tuple[str, bool]:
    """The kind of file system that it is on or will be, and whether it can be written."""
    there = next(path for path in (folder, *folder.parents) if _is_there(path))
    best, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mounted, filesystem, *_ = line.split()
            if there.is_relative_to(mounted) and len(mounted) >= len(best):
                best, kind = mounted, filesystem
    return kind, os.access(there, os.W_OK)
