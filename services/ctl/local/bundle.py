"""What goes into a support bundle, and how each part of it is found out. A part that fails says so.

Most parts are what a verb of this command prints, run as a child: so a part can hang or crash and
take nothing else with it, and a person can ask for the same again.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import shutil
import sys
import tarfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import yaml

from services.common.socket_address import TcpAddress, parse_address
from services.ctl.local import harmless

AT_ONCE: Final = 4
"""Parts that are found out at the same time: a child costs half a second of CPU."""
_REST: Final = 65536

VERBS: Final[Mapping[str, Sequence[str]]] = {
    "state/status.json": ("status", "-o", "json"),
    "state/topology.yaml": ("topology", "export"),
    "state/groups.json": ("topology", "show", "-o", "json"),
    "state/networks.json": ("network", "list", "-o", "json"),
    "state/nodes.json": ("node", "list", "-o", "json"),
    "state/nodes.txt": ("node", "list", "-o", "wide"),
    "state/reservations.json": ("reservation", "list", "-o", "json"),
    "state/ipam-status.json": ("ipam", "status", "-o", "json"),
    "state/ipam-check.json": ("ipam", "check", "-o", "json"),
    "state/policies.json": ("policy", "list", "-o", "json"),
}
"""What the services say."""
VERBS_OF_NODE: Final[Mapping[str, Sequence[str]]] = {
    "node/agent.json": ("agent", "status", "-o", "json"),
    "node/endpoints.json": ("endpoint", "list", "-o", "json"),
}
"""What the agent of this node says."""
KERNEL: Final[Mapping[str, Sequence[str]]] = {
    "kernel/links.txt": ("ip", "-details", "-statistics", "link"),
    "kernel/addresses.txt": ("ip", "address"),
    "kernel/rules.txt": ("ip", "rule"),
    "kernel/rules6.txt": ("ip", "-6", "rule"),
    "kernel/routes.txt": ("ip", "-details", "route", "show", "table", "all"),
    "kernel/routes6.txt": ("ip", "-6", "-details", "route", "show", "table", "all"),
    "kernel/nexthops.txt": ("ip", "nexthop"),
    "kernel/neighbours.txt": ("ip", "neighbour"),
    "kernel/proxies.txt": ("ip", "neighbour", "show", "proxy"),
    "kernel/namespaces.txt": ("ip", "netns"),
    "kernel/sysctls.txt": ("sysctl", "-a", "--pattern", "forward|rp_filter|proxy_|accept_ra"),
    "kernel/romana.nft": ("nft", "list", "table", "inet", "romana"),
}
"""What the kernel of this node holds."""
UNITS: Final = ("journalctl", "--unit=romana*", "--lines=20000", "--no-pager", "--output=cat")
"""What units of systemd logged last."""
LOG_BYTES: Final = 4 << 20
"""Of the end of a file of logs."""
PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    "etcd": ("etcd", "--version"),
    "iproute2": ("ip", "-Version"),
    "nft": ("nft", "--version"),
}


@dataclass(frozen=True, slots=True)
class Part:
    path: str
    content: bytes
    problem: str = ""
    """Why it is not there, or not all of it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    environment: Mapping[str, str]
    """Of the children: says where the services are."""
    configs: Sequence[Path]
    """Files of settings."""
    logs: Sequence[Path]
    """Files of logs."""
    metrics: Mapping[str, str]
    """`host:port` by name of the process."""
    node: bool
    """This is a node: its agent and kernel are asked."""
    timeout: float
    """Seconds for each part."""


async def collect(wanted: Wanted) -> list[Part]:
    verbs = {**VERBS, **(VERBS_OF_NODE if wanted.node else {})}
    command = (sys.executable, "-m", "services.ctl.main")
    running = [_run(path, (*command, *words), wanted) for path, words in verbs.items()]
    if wanted.node:
        running += [_whole(path, words, wanted) for path, words in KERNEL.items()]
    running += [_scraped(name, address, wanted) for name, address in wanted.metrics.items()]
    if shutil.which(UNITS[0], path=wanted.environment.get("PATH")):
        running.append(_whole("logs/units.txt", UNITS, wanted))
    running.append(_versions(wanted))
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(part: Awaitable[Part]) -> Part:
        async with slots:
            return await part

    found = await asyncio.gather(*map(one, running))
    made = [_read(path) for path in wanted.configs]
    made += [_end_of(path) for path in wanted.logs]
    made.append(Part("settings/environment.yaml", _yaml(harmless.environment(wanted.environment))))
    return sorted([*found, *made], key=lambda part: part.path)


def files_in(folder: Path, *patterns: str) -> list[Path]:
    """Its files whose names match; itself if it may not be listed: reading it says why."""
    try:
        names = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return [folder]
    return [path for path in names if any(path.match(pattern) for pattern in patterns)]


def packed(folder: str, parts: Iterable[Part], now: float) -> bytes:
    """A .tar.gz with one folder; readable by its owner alone.

    Args:
        folder: Its name.
        parts: Its files; one without content is left out.
        now: Time of the files, seconds since the epoch.
    """
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for part in parts:
            if part.content:
                entry = tarfile.TarInfo(f"{folder}/{part.path}")
                entry.size, entry.mtime, entry.mode = len(part.content), int(now), 0o600
                archive.addfile(entry, io.BytesIO(part.content))
    return written.getvalue()


async def _whole(path: str, command: Sequence[str], wanted: Wanted) -> Part:
    """What a program prints that complains, and succeeds, when it may not read everything."""
    return await _run(path, command, wanted, complains=True)


async def _run(
    path: str, command: Sequence[str], wanted: Wanted, *, complains: bool = False
) -> Part:
    """What a program prints; if it fails, what it says on stderr is the problem.

    Args:
        path: Of the part.
        command: The program and its arguments.
        wanted: The environment, and the time it has.
        complains: What it says on stderr is a problem even when it succeeds.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=wanted.environment,
        )
    except OSError as error:
        return Part(path, b"", f"{command[0]}: {error.strerror}")
    try:
        async with asyncio.timeout(wanted.timeout):
            output, complaints = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.communicate()
        return Part(path, b"", f"no end within {wanted.timeout:g} s")
    problem = _said(complaints.decode(errors="replace").strip())
    if child.returncode:
        return Part(path, output, problem or f"exit code {child.returncode}")
    return Part(path, output, problem if complains else "")


def _said(complaints: str) -> str:
    """What a verb with -o json says of a failure is JSON, too."""
    try:
        return str(json.loads(complaints)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return complaints


async def _scraped(name: str, address: str, wanted: Wanted) -> Part:
    """A process' metrics as Prometheus gets them."""
    path = f"metrics/{name}.txt"
    where = parse_address(address)
    if not isinstance(where, TcpAddress):
        return Part(path, b"", f"{address} is no host:port")
    try:
        async with asyncio.timeout(wanted.timeout):
            answer = await _get(where.host, where.port)
    except (OSError, TimeoutError) as error:
        return Part(path, b"", f"{address}: {error or 'no answer in time'}")
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    ok = status.split(" ")[1:2] == ["200"]
    return Part(path, body if ok else b"", "" if ok else f"{address}: {status or 'no HTTP'}")


async def _get(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        request = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        return b"".join(await _all(lambda: reader.read(_REST)))
    finally:
        writer.close()


async def _all(read: Callable[[], Awaitable[bytes]]) -> list[bytes]:
    found = []
    while piece := await read():
        found.append(piece)
    return found


async def _versions(wanted: Wanted) -> Part:
    """Of Romana, of what it is made of, and of what is around it."""
    programs: dict[str, str] = {}
    for name, command in PROGRAMS.items():
        if shutil.which(command[0], path=wanted.environment.get("PATH")):
            shown = await _run(name, command, wanted)
            programs[name] = (shown.content.decode(errors="replace").splitlines() or [""])[0]
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    packages = {item.name: item.version for item in metadata.distributions()}
    found = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "system": release.get("PRETTY_NAME", platform.system()),
        "programs": programs,
        "packages": dict(sorted(packages.items())),
    }
    return Part("versions.yaml", _yaml(found))


def _read(file: Path) -> Part:
    """A file of settings, without what may be secret."""
    path = f"settings/{file.name}"
    try:
        return Part(path, _yaml(harmless.settings(yaml.safe_load(file.read_text("utf-8")))))
    except OSError as error:
        return Part(path, b"", f"{file}: {error.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError):
        # as it is it cannot be told from its secrets
        return Part(path, b"", f"{file} is not YAML")


def _end_of(file: Path) -> Part:
    path = f"logs/{file.name}"
    try:
        with file.open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - LOG_BYTES, 0))
            return Part(path, log.read())
    except OSError as error:
        return Part(path, b"", f"{file}: {error.strerror}")


def _yaml(value: object) -> bytes:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text.encode()
