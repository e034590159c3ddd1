"""Removes all that agents of this node have made in the kernel, and puts sysctls back.

Refused while an agent runs, before anything is touched. Endpoints' links go too, and VMs'
interfaces are let go of. Their addresses stay allocated in ipam, so the journal stays as well:
without it nobody on this node would know what to give back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from services.agent.endpoints.journal import Journal
from services.agent.guests.dnsmasq import Dnsmasq
from services.agent.kernel import endpoint_names
from services.agent.kernel.diff import diff
from services.agent.kernel.drivers import KernelDrivers
from services.agent.kernel.netlink import KernelUnavailable
from services.agent.kernel.nftables.driver import Nft
from services.agent.kernel.state import KernelState, Kind
from services.agent.kernel.veth import EndpointLinks
from services.agent.lock import StateLock, answers
from services.agent.rules.spool import FILE as RULES
from services.agent.settings import AgentSettings
from services.agent.steering.memory import FILE as DEVICES
from services.common.errors import RomanaError, WrongState
from services.common.process.settings import load_settings

FILES = (
    RULES,
    DEVICES,
    "routes.jsonl",
    "numbers.json",
    "attachments.json",
    "address.json",
    "sysctls.json",
)


async def uninstall(kernel: KernelDrivers, state_dir: Path) -> list[str]:
    """Removes everything; returns what could not be removed, for people."""
    await kernel.start()
    try:
        problems = await kernel.run(lambda: _remove(kernel))
    finally:
        await kernel.close()
    if not problems:
        for name in FILES:
            (state_dir / name).unlink(missing_ok=True)
    return problems


def _remove(kernel: KernelDrivers) -> list[str]:
    actual = kernel.read(KernelState(), tuple(Kind))
    return [
        *_remove_table(),
        *(
            f"{step.kind.value} {key}: {problem}"
            for step in diff(KernelState(), actual)
            for key, problem in kernel.apply(step).items()
        ),
    ]


def _remove_table() -> list[str]:
    """Removes the table of rules, and no other."""
    try:
        nft = Nft()
    except KernelUnavailable:
        return []  # without nf_tables there is none
    try:
        nft.remove()
    except KernelUnavailable as error:
        return [str(error)]
    finally:
        nft.close()
    return []


async def _remove_links(journal: Path) -> None:
    links = EndpointLinks()
    try:
        for link in await links.ours():
            if endpoint_names.is_host_interface(link.name):
                await links.delete(link.name)
        for interface in await asyncio.to_thread(lambda: _taps(journal)):
            await links.disown(interface)
    finally:
        links.close()


def _taps(journal: Path) -> list[str]:
    """Interfaces that were there before, and are endpoints'."""
    records = Journal(journal).read() if journal.is_dir() else ()
    specs = (record.spec for record in records)
    return [spec.interface for spec in specs if spec.interface and not spec.namespace]


async def _run(state_dir: Path) -> list[str]:
    await _remove_links(state_dir / "endpoints")
    Dnsmasq(state_dir / "guests").stop()
    return await uninstall(KernelDrivers(state_dir), state_dir)


def _alone(settings: AgentSettings) -> StateLock | None:
    """Makes sure that no agent runs; None: there is no state directory.

    Raises:
        WrongState: One runs, with this state directory or this socket.
    """
    for path in (settings.socket, settings.cni_socket):
        if answers(path):
            raise WrongState(f"an agent runs: it listens on {path}", "AGENT_RUNS")
    return StateLock(settings.state_dir) if settings.state_dir.is_dir() else None


def main(arguments: list[str]) -> int:
    """`romana agent uninstall`: 0 when all is gone, 1 when something could not be removed."""
    parser = argparse.ArgumentParser(prog="romana agent uninstall", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as YAML")
    parser.add_argument("--state-dir", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings(
            AgentSettings, file=options.config, overrides={"state_dir": options.state_dir}
        )
        lock = _alone(settings)
        try:
            problems = asyncio.run(_run(settings.state_dir))
        finally:
            if lock is not None:
                lock.close()
    except RomanaError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    kept = len(list((settings.state_dir / "endpoints").glob("*.json")))
    if kept:
        sys.stderr.write(
            f"{kept} endpoints keep their addresses in ipam, and their place in "
            f"{settings.state_dir / 'endpoints'}: an agent that starts again makes their links "
            "anew where their namespaces are, and detaches them when asked to\n"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
