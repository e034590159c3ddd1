"""A cluster on this machine: etcd and the services as children of this process.

Started in the order of their dependence, stopped in reverse. The first child that ends by itself
ends all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NoReturn

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from romana.ipam.v1 import ipam_service_pb2 as api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.etcd.process import EtcdOptions, LocalEtcd
from services.common.rpc.channel import open_channel
from services.common.tls import TlsFiles
from services.ctl.calls.choosing import accepts, each
from services.ctl.calls.service_addresses import Cluster
from services.ctl.failures.failure import Failure, of_call
from services.ctl.local.child import Child, Program
from services.ctl.local.cluster_tls import ClusterTls
from services.ctl.local.data_dir import check_port_free

LOOPBACK = "127.0.0.1"
START_TIMEOUT = 30.0
ETCD_TIMEOUT = 5.0
"""Seconds that an etcd of somebody else may take to be there."""
POLL_INTERVAL = 0.1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Ports:
    topology: int
    ipam: int
    policy: int
    topology_metrics: int
    ipam_metrics: int
    policy_metrics: int
    console: int | None = None
    """None: there is no console."""

    def check(self) -> None:
        """Raises WrongState for one that is taken."""
        for field in fields(self):
            port: int | None = getattr(self, field.name)
            if port is not None:
                check_port_free(port, f"--{field.name.replace('_', '-')}-port")


@dataclass(frozen=True, slots=True)
class Plan:
    folder: Path
    ports: Ports
    etcd: str
    """Comma-separated endpoints of an etcd that runs already; empty: start one."""
    log_level: str
    tls: ClusterTls | None = None
    """None: everything is in the clear, on loopback."""


class Running:
    """The children, from the first start to the last stop."""

    def __init__(self, plan: Plan, relay: Callable[[str, str], None]) -> None:
        self._plan = plan
        self._relay = relay
        self._children: list[Child] = []
        self._etcd: LocalEtcd | None = None
        self.stop_requested = asyncio.Event()

    async def start(self) -> Cluster:
        """Starts everything and returns when everything serves."""
        plan = self._plan
        if plan.etcd:
            await self.unless_ended(_etcd_reached(plan.etcd))
        endpoints = plan.etcd or await self._start_etcd()
        ports = plan.ports
        own = plan.tls.operator if plan.tls is not None else None
        for name, port, metrics in (
            ("topology", ports.topology, ports.topology_metrics),
            ("ipam", ports.ipam, ports.ipam_metrics),
            ("policy", ports.policy, ports.policy_metrics),
        ):
            child = Child(_program(name, port, metrics, endpoints, plan), self._relay)
            self._children.append(child)
            await child.start()
        try:
            await self.unless_ended(
                asyncio.gather(
                    _serving("topology", f"{LOOPBACK}:{ports.topology}", own),
                    _serving("ipam", f"{LOOPBACK}:{ports.ipam}", own),
                    _serving("policy", f"{LOOPBACK}:{ports.policy}", own),
                )
            )
        except Failure as error:
            error.message += "".join(f"\n  {why}" for why in self._awaited())
            raise
        await self.unless_ended(_active(f"{LOOPBACK}:{ports.ipam}", own))
        if ports.console is not None:
            console = Child(_console(ports, ports.console, plan), self._relay)
            self._children.append(console)
            await console.start()
        return Cluster(
            pid=os.getpid(),
            topology=f"{LOOPBACK}:{ports.topology}",
            ipam=f"{LOOPBACK}:{ports.ipam}",
            topology_metrics=f"{LOOPBACK}:{ports.topology_metrics}",
            ipam_metrics=f"{LOOPBACK}:{ports.ipam_metrics}",
            etcd=endpoints,
            policy=f"{LOOPBACK}:{ports.policy}",
            policy_metrics=f"{LOOPBACK}:{ports.policy_metrics}",
            certificates=str(plan.tls.romana.path) if plan.tls is not None else "",
            console=_console_url(plan),
            data_dir=str(plan.folder),
        )

    def _awaited(self) -> list[str]:
        """What the children say they wait for, each once."""
        said = [child.awaited for child in self._children if child.awaited]
        return list(dict.fromkeys(said))

    async def unless_ended(self, work: Awaitable[object]) -> None:
        """Waits for `work`, but no longer than all children live and no stop is requested.

        Raises:
            Failure: A child ended; or whatever `work` raises.
            Stopped: A stop was requested.
        """
        ends: list[Awaitable[object]] = [child.ended() for child in self._children]
        if self._etcd is not None:
            ends.append(_etcd_ended(self._etcd))
        tasks: list[asyncio.Future[object]] = [
            asyncio.ensure_future(each) for each in (*ends, self.stop_requested.wait(), work)
        ]
        *ended, stop, working = tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for end in ended:
                if end.done():
                    end.result()
            if stop.done():
                raise Stopped
            working.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until_stopped(self, meanwhile: Awaitable[object]) -> None:
        """Returns when a stop is requested; raises Failure when a child ends before."""
        with contextlib.suppress(Stopped):
            await self.unless_ended(meanwhile)

    async def stop(self) -> None:
        """Stops what was started, the last first."""
        for child in reversed(self._children):
            await child.stop()
        if self._etcd is not None:
            await asyncio.to_thread(self._etcd.stop)

    def kill(self) -> None:
        for child in self._children:
            child.kill()

    async def _start_etcd(self) -> str:
        tls = self._plan.tls.store if self._plan.tls is not None else None
        etcd = LocalEtcd(self._plan.folder / "etcd", EtcdOptions(tls=tls))
        await etcd.start()
        self._etcd = etcd
        return etcd.endpoint


class Stopped(Exception):
    """A signal came while something else was waited for."""


@contextlib.asynccontextmanager
async def cluster(plan: Plan, relay: Callable[[str, str], None]) -> AsyncIterator[Running]:
    """The children for as long as the block runs; signals request its stop, a second one kills."""
    running = Running(plan, relay)
    loop = asyncio.get_running_loop()

    def received() -> None:
        if running.stop_requested.is_set():
            running.kill()
        running.stop_requested.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, received)
    try:
        yield running
    finally:
        await running.stop()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


def _program(name: str, port: int, metrics: int, etcd: str, plan: Plan) -> Program:
    prefix = f"ROMANA_{name.upper()}__"
    return Program(
        name,
        f"services.{name}.main",
        {
            f"{prefix}LISTEN__ADDRESS": f"{LOOPBACK}:{port}",
            f"{prefix}METRICS__ADDRESS": f"{LOOPBACK}:{metrics}",
            f"{prefix}ETCD__ENDPOINTS": etcd,
            f"{prefix}LOG__LEVEL": plan.log_level,
            f"{prefix}LOG__FORMAT": "json",
            **_tls_settings(prefix, plan),
        },
    )


def _console(ports: Ports, port: int, plan: Plan) -> Program:
    prefix = "ROMANA_CONSOLE__"
    settings = {
        "LISTEN__ADDRESS": f"{LOOPBACK}:{port}",
        "METRICS__ADDRESS": f"{LOOPBACK}:0",
        "TOPOLOGY": f"{LOOPBACK}:{ports.topology}",
        "IPAM": f"{LOOPBACK}:{ports.ipam}",
        "POLICY": f"{LOOPBACK}:{ports.policy}",
        "LOG__LEVEL": plan.log_level,
        "LOG__FORMAT": "json",
    }
    if plan.tls is not None:
        settings |= _files("LISTEN__TLS", plan.tls.services) | _files("TLS", plan.tls.services)
    named = {prefix + name: value for name, value in settings.items()}
    return Program("console", "services.console.main", named)


def _console_url(plan: Plan) -> str:
    if plan.ports.console is None:
        return ""
    scheme = "https" if plan.tls is not None else "http"
    return f"{scheme}://{LOOPBACK}:{plan.ports.console}/"


def _tls_settings(prefix: str, plan: Plan) -> dict[str, str]:
    """An etcd that runs already has its own way."""
    if plan.tls is None:
        return {}
    uses = {"LISTEN": plan.tls.services} | ({} if plan.etcd else {"ETCD": plan.tls.store})
    named = [_files(f"{use}__TLS", files) for use, files in uses.items()]
    return {prefix + name: path for each in named for name, path in each.items()}


def _files(section: str, files: TlsFiles) -> dict[str, str]:
    found = (("CA", files.ca), ("CERTIFICATE", files.certificate), ("KEY", files.key))
    return {f"{section}__{field}": str(path) for field, path in found}


async def _etcd_reached(endpoints: str) -> None:
    """Waits until a member takes connections; raises Failure if none does for too long.

    Whether it is an etcd, and takes our certificate, the services say."""
    end = asyncio.get_running_loop().time() + ETCD_TIMEOUT
    found = each(endpoints)
    while True:
        if any(await asyncio.gather(*map(accepts, found))):
            return
        if asyncio.get_running_loop().time() >= end:
            raise Failure(
                f"etcd at {endpoints} does not take connections",
                status="UNAVAILABLE",
                reason="STORE_UNAVAILABLE",
                hint="start it, or let `romana up` start one: without --etcd",
            )
        await asyncio.sleep(POLL_INTERVAL)


async def _serving(name: str, address: str, tls: TlsFiles | None) -> None:
    """Polls a service's health until it serves; raises Failure if it takes too long."""
    state = "does not answer"
    try:
        async with asyncio.timeout(START_TIMEOUT), open_channel(address, tls=tls) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                try:
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2.0)
                except grpc.aio.AioRpcError as error:
                    state = f"does not answer ({error.code().name})"
                else:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                    state = "answers but does not serve"
                await asyncio.sleep(POLL_INTERVAL)
    except TimeoutError:
        raise Failure(
            f"{name} at {address} {state} after {START_TIMEOUT:.0f} s", status="UNAVAILABLE"
        ) from None


async def _active(address: str, tls: TlsFiles | None) -> None:
    """Polls ipam until a replica is elected: before that it serves, but takes no writes."""
    try:
        async with asyncio.timeout(START_TIMEOUT), open_channel(address, tls=tls) as channel:
            stub = IpamServiceStub(channel)
            while not (await stub.GetStatus(api.GetStatusRequest())).active_address:  # noqa: ASYNC110  # on the far side
                await asyncio.sleep(POLL_INTERVAL)
    except TimeoutError:
        raise Failure(
            f"ipam at {address} has no active replica after {START_TIMEOUT:.0f} s",
            status="UNAVAILABLE",
        ) from None
    except grpc.aio.AioRpcError as error:
        raise of_call(error, name="ipam", address=address) from error


async def _etcd_ended(etcd: LocalEtcd) -> NoReturn:
    while etcd.pid is not None:  # noqa: ASYNC110  # Popen tells nobody
        await asyncio.sleep(0.5)
    lines = etcd.log.read_text(errors="replace").splitlines()[-20:]
    tail = "\n".join(f"  {line}" for line in lines)
    raise Failure(f"etcd ended; the last lines of {etcd.log}:\n{tail}", reason="CHILD_ENDED")
