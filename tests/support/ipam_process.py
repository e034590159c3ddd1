"""The ipam service as processes, and a topology written straight into their store.

    async with EtcdClient([endpoint]) as client:
        keys = Keys("/some-root")
        await seed(client, keys, layout([network("net", "10.0.0.0/24")]), [node("h1")])
        with IpamProcess.started(endpoint, keys.root, tmp_path) as one:
            async with one.connect() as stub:
                status = await one.wait_until_active()

A process is killed with its parent, and by the context manager whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LOOPBACK, free_port
from services.common.etcd.types import Delete, Operation, Put
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.common.records.layout import (
    RemovedNodeRecord,
    encode_layout,
    encode_node,
    encode_removed_node,
)
from services.common.rpc.channel import open_channel
from services.common.tls import TlsFiles
from tests.support.fake_clock import FakeClock
from tests.support.leftovers import owner

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

START_SECONDS = 60.0
IN_VM: Final = bool(os.environ.get("ROMANA_VM"))
VM_PATIENCE: Final = 8.0
"""Without hardware support a VM is some 20 times slower than the machine."""
STOP_SECONDS = 60.0
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # no back-off inherited from a process that is gone
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Not min_reconnect_backoff_ms: that is how long an attempt may take, and 50 ms are too short
    # for a server that does not get the processor at once. The call's own timeout is the bound.
)


class IpamProcess:
    """One replica; it can be started and ended repeatedly, on the same ports."""

    def __init__(
        self,
        endpoints: Sequence[str],
        root: str,
        folder: Path,
        *,
        name: str = "ipam",
        ttl: int = 5,
        drain: float = 2,
        tls: TlsFiles | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            endpoints: Of the store.
            root: Of its keys.
            folder: For its log.
            name: Of the log.
            ttl: Seconds after which a silent active replica is replaced.
            drain: Seconds that running calls get at a stop.
            tls: Served with, and shown by `channel` and all that uses it.
            clock: What it takes for the wall clock.
        """
        self._tls = tls
        self.address = f"{LOOPBACK}:{free_port()}"
        self.metrics_address = f"{LOOPBACK}:{free_port()}"
        self.log = folder / f"{name}.log"
        self._environment = {
            **owner(),
            "ROMANA_IPAM__ETCD__ENDPOINTS": ",".join(endpoints),
            "ROMANA_IPAM__ETCD__ROOT": root,
            "ROMANA_IPAM__LISTEN__ADDRESS": self.address,
            "ROMANA_IPAM__METRICS__ADDRESS": self.metrics_address,
            "ROMANA_IPAM__ELECTION_TTL": str(ttl),
            "ROMANA_IPAM__DRAIN": str(drain),
        }
        if tls is not None:
            for field, path in (("CA", tls.ca), ("CERTIFICATE", tls.certificate), ("KEY", tls.key)):
                self._environment[f"ROMANA_IPAM__LISTEN__TLS__{field}"] = str(path)
        if clock is not None:
            self._environment |= clock.environment
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        endpoints: str | Sequence[str],
        root: str,
        folder: Path,
        *,
        name: str = "ipam",
        ttl: int = 5,
        drain: float = 2,
        clock: FakeClock | None = None,
    ) -> Iterator[IpamProcess]:
        """Starts a replica, does not wait for it, and kills it in the end."""
        several = [endpoints] if isinstance(endpoints, str) else endpoints
        replica = cls(several, root, folder, name=name, ttl=ttl, drain=drain, clock=clock)
        try:
            replica.start()
            yield replica
        finally:
            replica.kill()

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Starts it and returns at once."""
        assert self.pid is None
        inherited = {key: text for key, text in os.environ.items() if not key.startswith("ROMANA")}
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*guard, sys.executable, "-m", "services.ipam.main"],
                env={**inherited, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; SIGSTOP, which is waited for, silences it and SIGCONT lets it speak."""
        assert self._process is not None
        self._process.send_signal(number)
        if number is signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def terminate(self) -> None:
        """Tells it to end, as an operator does, and returns at once."""
        self.signal(signal.SIGTERM)

    async def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Waits until it has ended; returns its exit status."""
        assert self._process is not None
        process = self._process
        await poll(lambda: process.poll() is not None, seconds, what=f"end of {self.address}")
        return process.wait()

    async def stop(self) -> int:
        """Ends it in order; returns its exit status."""
        self.terminate()
        return await self.wait()

    def kill(self) -> None:
        """Ends it as a crash would; also when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def channel(self) -> grpc.aio.Channel:
        """A new channel to it."""
        if self._tls is not None:
            return open_channel(self.address, tls=self._tls)
        return grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[IpamServiceAsyncStub]:
        """Its methods."""
        async with self.channel() as channel:
            yield IpamServiceStub(channel)

    async def status(self) -> pb.GetStatusResponse | None:
        """What it says of itself; None: it does not answer."""
        try:
            async with self.connect() as stub:
                return await stub.GetStatus(pb.GetStatusRequest(), timeout=2)
        except grpc.aio.AioRpcError:
            return None

    async def is_serving(self) -> bool:
        """Says whether it answers and is in-sync."""
        try:
            async with self.channel() as channel:
                health = health_pb2_grpc.HealthStub(channel)
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def wait_until_serving(self, seconds: float = START_SECONDS) -> pb.GetStatusResponse:
        """Waits until it is in-sync, active or not."""
        await self._until(self.is_serving, seconds, "serving")
        return await self._status_when(lambda _: True, seconds, "answering")

    async def wait_until_active(self, seconds: float = START_SECONDS) -> pb.GetStatusResponse:
        """Waits until it is the active writer."""
        return await self._status_when(lambda status: status.active, seconds, "active")

    async def wait_until_reached(self, revision: int, seconds: float = START_SECONDS) -> None:
        """Waits until its memory holds everything up to a revision of the store."""
        await self._status_when(
            lambda status: status.revision >= revision, seconds, f"at revision {revision}"
        )

    async def _status_when(
        self, wanted: Callable[[pb.GetStatusResponse], bool], seconds: float, what: str
    ) -> pb.GetStatusResponse:
        """The first status that is as wanted. A busy machine may not answer each time."""
        seen: list[pb.GetStatusResponse] = []

        async def found() -> bool:
            status = await self.status()
            seen[:] = [status] if status is not None else []
            return bool(seen) and wanted(seen[0])

        await self._until(found, seconds, what)
        return seen[0]

    async def scrape(self, path: str = "/metrics") -> tuple[int, str]:
        """Status and text of its HTTP endpoint."""
        return await asyncio.to_thread(_fetch, f"http://{self.metrics_address}{path}")

    async def _until(
        self, condition: Callable[[], Awaitable[bool]], seconds: float, what: str
    ) -> None:
        try:
            await poll(condition, seconds, what=f"{self.address} to be {what}")
        except TimeoutError as error:
            tail = self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
            raise TimeoutError(f"{error}; the end of {self.log}:\n{tail}") from None


async def poll(
    condition: Callable[[], bool | Awaitable[bool]], seconds: float, *, what: str = "a condition"
) -> None:
    """Waits until a condition holds; TimeoutError says what was waited for."""
    seconds *= VM_PATIENCE if IN_VM else 1.0
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        await asyncio.sleep(0.03)


async def wait_until_one_active(
    replicas: Sequence[IpamProcess], seconds: float = START_SECONDS
) -> IpamProcess:
    """Waits until exactly one of the replicas says that it is active, and returns that one."""
    found: list[IpamProcess] = []

    async def one() -> bool:
        running = [replica for replica in replicas if replica.pid is not None]
        answers = await asyncio.gather(*(replica.status() for replica in running))
        found[:] = [
            replica
            for replica, answer in zip(running, answers, strict=True)
            if answer is not None and answer.active
        ]
        return len(found) == 1

    await poll(one, seconds, what="one active replica")
    return found[0]


async def release_all(stub: IpamServiceAsyncStub) -> None:
    """Leaves no allocation and no reservation."""
    found = await stub.ListAddresses(pb.ListAddressesRequest(page_size=5000))
    names = {item.name for item in found.allocations}
    await stub.ReleaseAddresses(
        pb.ReleaseAddressesRequest(specs=[pb.ReleaseSpec(name=name) for name in names])
    )
    reservations = await stub.ListReservations(pb.ListReservationsRequest(page_size=1000))
    for item in reservations.reservations:
        await stub.DeleteReservation(pb.DeleteReservationRequest(name=item.name))


async def seed(
    client: EtcdClient, keys: Keys, layout: Layout | None = None, nodes: Sequence[Node] = ()
) -> int:
    """Writes a layout (None: leaves it) and nodes as topology would; returns the revision."""
    writes: list[Operation] = [Put(keys.node(node.name), encode_node(node)) for node in nodes]
    writes += [Delete(keys.removed_node(node.name)) for node in nodes]
    if layout is not None:
        writes.append(Put(keys.layout, encode_layout(layout)))
    return await _topology(client, keys, writes)


async def drop_nodes(
    client: EtcdClient,
    keys: Keys,
    names: Sequence[str],
    *,
    force: bool = True,
    machine_is_off: bool = True,
) -> int:
    """Deletes nodes as topology would, when asked to or not; returns the revision."""
    removal = encode_removed_node(RemovedNodeRecord(machine_is_off=machine_is_off))
    writes: list[Operation] = [Delete(keys.node(NodeName(name))) for name in names]
    if force:
        writes += [Put(keys.removed_node(NodeName(name)), removal) for name in names]
    return await _topology(client, keys, writes)


async def _topology(client: EtcdClient, keys: Keys, writes: Sequence[Operation]) -> int:
    """Every topology transaction writes the generation: `Follower` relies on it as its beacon."""
    for start in range(0, len(writes), 100):
        part = [Put(keys.generation, b"test"), *writes[start : start + 100]]
        outcome = await client.transact((), part)
        revision = outcome.revision
    return revision


def _fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
