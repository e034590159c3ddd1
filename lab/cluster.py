"""A lab that runs: the fabric, etcd and the services, an agent on each node, endpoints.

Nothing here is remembered between runs of the command: namespaces say who is there, agents say
which endpoints they have. Logs, data and sockets are below /run/romana-lab/NAME.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import agents, control, namespaces
from lab.fabric import CONTROL, ROUTER, Fabric, down
from lab.file import parse
from lab.matrix import Host
from lab.namespaces import add, hosts_of, inside, labs, missing, path_of
from lab.processes import Processes, Program, environment
from lab.routing import Routing, routing
from lab.spec import Endpoint, Lab
from services.common.errors import NotFound, Unavailable, WrongState
from services.common.terminal.plural import count

FOLDER = Path("/run/romana-lab")
FILE = "lab.yaml"
PROVISION_TIMEOUT = 60.0
"""Seconds."""
PROVISION = (sys.executable, "-m", "lab.provision")
CONTROL_PROGRAMS = ("etcd", "topology", "ipam", "policy")


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    host: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class Known:
    """Who can be pinged in a lab, as far as its agents say so."""

    lab: str
    hosts: list[Host]
    silent: list[str]
    """Nodes whose agents do not answer: their endpoints are missing among the hosts."""

    def host(self, name: str) -> Host:
        """Raises NotFound."""
        for host in self.hosts:
            if host.name == name:
                return host
        unless = f", unless on {', '.join(self.silent)}: no agent answers there"
        raise NotFound(
            f"the lab {self.lab} has no endpoint or machine {name}{unless if self.silent else ''}"
        )


class Cluster:
    def __init__(
        self,
        text: str,
        *,
        folder: Path | None = None,
        guarded: bool = False,
        patience: float = 1.0,
    ) -> None:
        """Changes nothing.

        Args:
            text: The lab's file.
            folder: For logs, data and sockets; below /run/romana-lab if none is given.
            guarded: Programs end with this process.
            patience: By how much everything may take longer than on a machine of its own.

        Raises:
            InvalidInput: The file is wrong.
        """
        self.lab: Lab = parse(text)
        self.routing: Routing = routing(self.lab, text)
        self.folder = folder or FOLDER / self.lab.name
        self.processes = Processes(self.lab.name, self.folder, guarded=guarded)
        self._text = text
        self._patience = patience

    def path(self, host: str) -> Path:
        return path_of(self.lab.name, host)

    @property
    def router(self) -> Path:
        return self.path(ROUTER)

    @property
    def routers(self) -> dict[str, Path]:
        """Namespaces of the core router and those of racks, by name."""
        return {name: self.path(name) for name in (ROUTER, *self.routing.racks)}

    async def up(self, report: Callable[[str], None] = lambda _: None) -> None:
        """Makes all of it, or nothing; `report` is told what is there.

        Raises:
            WrongState: This machine cannot, or a lab of that name is there.
            Unavailable: Something did not start; with the end of its log.
        """
        lacking = missing()
        if lacking:
            raise WrongState(f"a lab needs {lacking}", "LAB_CAPABILITY", {"missing": lacking})
        Fabric(self.lab, self.routing).up()
        try:
            report(self._extent())
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(mode=0o700, parents=True)
            (self.folder / FILE).write_text(self._text)
            for name in CONTROL_PROGRAMS:
                self.start(name)
            await self._provision()
            report("etcd, topology, ipam and policy")
            for node in self.lab.nodes:
                self.start(node.name)
            await asyncio.gather(*(self._agent_ready(node.name) for node in self.lab.nodes))
            report(f"{len(self.lab.nodes)} agents")
            for endpoint in self.lab.endpoints:
                await self.attach(endpoint)
            report(f"{len(self.lab.endpoints)} endpoints")
        except BaseException:
            self.down()
            raise

    def _extent(self) -> str:
        lab = self.lab
        parts = [count(len(lab.vlans), "VLAN")] if lab.vlans else []
        if lab.racks:
            parts.append(f"{count(len(lab.racks), 'rack')} with routers")
        parts += ["a core router", count(len(lab.machines), "machine")]
        if lab.firewalls:
            parts.append(count(len(lab.firewalls), "firewall"))
        return ", ".join(parts)

    def down(self) -> list[str]:
        """Removes everything of this lab, whoever made it; returns whose namespaces there were."""
        hosts = down(self.lab.name)
        self.processes.reap()
        shutil.rmtree(self.folder, ignore_errors=True)
        return hosts

    def program(self, name: str) -> Program:
        """`etcd`, a service, or the agent of the node with that name."""
        if name == "etcd":
            return control.etcd(self.folder)
        if name in CONTROL_PROGRAMS:
            return control.service(name)
        return agents.program(name, self.folder)

    def start(self, name: str) -> None:
        self.processes.start(self.program(name))

    def kill(self, name: str) -> None:
        program = self.program(name)
        self.processes.kill(program.name, program.host)

    def parts(self) -> list[Part]:
        names = (*CONTROL_PROGRAMS, *(node.name for node in self.lab.nodes))
        programs = [self.program(name) for name in names]
        return [
            Part(each.name, each.host, self.processes.pid(each.name, each.host))
            for each in programs
        ]

    def is_up(self) -> bool:
        return bool(hosts_of(self.lab.name))

    def agent(self, node: str) -> agents.Agent:
        path = agents.socket_path(self.folder, node)
        return agents.Agent(node, path, patience=self._patience)

    async def attach(self, endpoint: Endpoint, address: str = "") -> agents.Attached:
        """Makes its namespace, unless there is one, and has its node's agent attach it."""
        if endpoint.name not in hosts_of(self.lab.name):
            add(self.lab.name, [endpoint.name])
        return await self.agent(endpoint.node).attach(
            endpoint, self.path(endpoint.name), address=address
        )

    async def detach(self, node: str, name: str) -> None:
        """Has its agent detach it, then removes its namespace."""
        await self.agent(node).detach(name)
        namespaces.remove(self.lab.name, [name])

    async def attached(self) -> list[agents.Attached]:
        """All endpoints, by node; those of agents that do not answer are left out."""
        return (await self._asked())[0]

    async def hosts(self) -> list[Host]:
        """Everybody who can be pinged: endpoints, then plain machines."""
        return (await self.known()).hosts

    async def known(self) -> Known:
        """The same, and of whom nothing is known."""
        attached, silent = await self._asked()
        endpoints = [
            Host(
                each.name,
                self.path(each.name),
                each.address,
                each.network,
                each.node,
                self.lab.rack_of(each.node, each.network),
            )
            for each in attached
        ]
        machines = [
            Host(each.name, self.path(each.name), each.address, each.network)
            for each in self.lab.machines
        ]
        return Known(self.lab.name, [*endpoints, *machines], silent)

    async def host(self, name: str) -> Host:
        """One of them; raises NotFound."""
        return (await self.known()).host(name)

    async def _asked(self) -> tuple[list[agents.Attached], list[str]]:
        """All endpoints, and the nodes whose agents do not answer."""
        found: list[agents.Attached] = []
        silent: list[str] = []
        for node in self.lab.nodes:
            try:
                found += await self.agent(node.name).endpoints()
            except Unavailable:
                silent.append(node.name)
        return found, silent

    async def _agent_ready(self, node: str) -> None:
        program = self.program(node)
        ready = asyncio.ensure_future(self.agent(node).ready())
        try:
            while not ready.done() and self.processes.pid(program.name, program.host) is not None:
                await asyncio.wait({ready}, timeout=0.2)
            if ready.done():
                await ready
                return
            why = f"the agent of {node} ended"
        except Unavailable as error:
            why = error.message
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
        raise Unavailable(
            f"{why}; its log:\n{self.processes.tail(program.name)}", "AGENT_NOT_READY"
        )

    async def _provision(self) -> None:
        """In the control namespace, since the services listen there."""
        process = await asyncio.create_subprocess_exec(
            *inside(self.path(CONTROL), [*PROVISION, str(self.folder / FILE), str(self._patience)]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        try:
            async with asyncio.timeout(PROVISION_TIMEOUT * self._patience):
                _, errors = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            logs = "\n".join(f"{name}:\n{self.processes.tail(name)}" for name in CONTROL_PROGRAMS)
            raise Unavailable(
                f"the services could not be set up: {errors.decode().strip()}\n{logs}",
                "LAB_NOT_STARTED",
            )


def left_over() -> list[str]:
    """Names of all labs that there is anything of, running or not."""
    folders = [path.name for path in FOLDER.iterdir()] if FOLDER.is_dir() else []
    return sorted({*labs(), *folders})


def remove(lab: str) -> list[str]:
    """Removes everything of a lab, wherever its file is; returns whose namespaces there were."""
    hosts = down(lab)
    shutil.rmtree(FOLDER / lab, ignore_errors=True)
    return hosts
