"""A replica of ipam as a child process that can be killed, paused and started again on its port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.etcd.process import LOOPBACK, free_port

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0


class IpamChild:
    """One replica. What it logs is kept in a file, over all its lives."""

    def __init__(
        self, folder: Path, name: str, etcd: str, root: str, *, election_ttl: int = 5
    ) -> None:
        self.name = name
        self.address = f"{LOOPBACK}:{free_port()}"
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        self._settings = {
            "LISTEN__ADDRESS": self.address,
            "METRICS__ADDRESS": f"{LOOPBACK}:0",
            "ETCD__ENDPOINTS": etcd,
            "ETCD__ROOT": root,
            "ELECTION_TTL": str(election_ttl),
            "LOG__FORMAT": "json",
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        assert not self.running
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROMANA")}
        # a killed parent leaves no replica behind
        shield = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*shield, sys.executable, "-m", "services.ipam.main"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=kept | {f"ROMANA_IPAM__{name}": text for name, text in self._settings.items()},
            )

    async def serving(self, timeout: float = START_TIMEOUT) -> None:
        """Waits until it says SERVING, and notices that within milliseconds."""
        async with asyncio.timeout(timeout):
            while True:
                await self._listening()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async with grpc.aio.insecure_channel(self.address) as channel:
                        request = health_pb2.HealthCheckRequest()
                        async for said in health_pb2_grpc.HealthStub(channel).Watch(request):
                            if said.status == health_pb2.HealthCheckResponse.SERVING:
                                return

    async def _listening(self) -> None:
        host, _, port = self.address.rpartition(":")
        while True:
            assert self.running, f"{self.name} ended; the end of its log:\n{self.tail()}"
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)  # checks that the pid is still that of our child

    def kill(self) -> None:
        """Ends it as a crash would, paused or not."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    async def terminate(self) -> int:
        """Ends it in order; returns its exit status."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOP_TIMEOUT)

    def tail(self, characters: int = 3000) -> str:
        return self.log.read_bytes()[-characters:].decode(errors="replace")

    def resident(self) -> int:
        """Bytes of memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def processor_seconds(self) -> float:
        """Time that it has computed so far."""
        return processor_seconds(self.pid)


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure_start(child: IpamChild) -> float:
    """Starts it; returns the seconds until it is SERVING."""
    begin = time.monotonic()
    child.start()
    await child.serving()
    return time.monotonic() - begin
