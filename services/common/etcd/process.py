"""etcd as a child process: for `romana up` and for tests.

The program is Debian's `etcd-server` (3.4). It listens on loopback only. It is started by way of
util-linux's setpriv, which asks the kernel to kill it when the thread that started it ends
(PR_SET_PDEATHSIG), so that a killed parent leaves no etcd behind; in a Python `preexec_fn` that
would fork a process with gRPC's threads. etcd's data survives any kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Unavailable, WrongState
from services.common.etcd.client import EtcdClient
from services.common.tls import TlsFiles

LOOPBACK = "127.0.0.1"
ALONE = ("--heartbeat-interval", "20", "--election-timeout", "200")
"""For a cluster of one member, in milliseconds: it waits for nobody's votes or heartbeats, and yet
elects itself only after the time-out: a second of every start by etcd's defaults."""
_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 10.0
_POLL = BackoffPolicy(initial=0.02, maximum=0.1)
_LOG_TAIL = 2000
_PORTS = range(10_000, 30_000)
"""Below those that Linux gives to connections, see net.ipv4.ip_local_port_range."""
_PORT_TRIES = 1000


def free_port() -> int:
    """A loopback port that nobody has now, that is given to nobody else while this process lives,
    and that the kernel gives to nobody who asks for any.

    Who is away for a moment would else find that a connection has taken its port.
    """
    for _ in range(_PORT_TRIES):
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0romana port {port}")
            with socket.socket() as listener:
                listener.bind((LOOPBACK, port))
        except OSError as error:
            mark.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            mark.detach()  # the name is in the kernel as long as this process lasts
            return port
    raise WrongState(f"no port of {LOOPBACK} from {_PORTS.start} to {_PORTS.stop - 1} is free")


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    client_port: int = 0
    """0: a free one."""
    peer_port: int = 0
    """0: a free one."""
    name: str = "local"
    peers: Mapping[str, int] | None = None
    """Name to peer port of all members, this one too; None: the only one."""
    token: str = ""
    """Of the cluster, so that strangers do not join; empty: a unique one."""
    retention: str = "1h"
    """How long overwritten values are kept (`--auto-compaction-retention`)."""
    tls: TlsFiles | None = None
    """For clients, which need a certificate then."""
    extra: tuple[str, ...] = ()
    """Further flags."""


class LocalEtcd:
    """One member; it can be started and stopped repeatedly, on the same ports and data."""

    def __init__(self, folder: Path, options: EtcdOptions | None = None) -> None:
        """Keeps everything in `folder`: `data` and `etcd.log`. Starts nothing yet."""
        self._folder = folder
        self._options = options or EtcdOptions()
        self._client_port = self._options.client_port or free_port()
        self._peer_port = self._options.peer_port or free_port()
        self._token = self._options.token or uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """For clients: `host:port`."""
        return f"{LOOPBACK}:{self._client_port}"

    @property
    def log(self) -> Path:
        return self._folder / "etcd.log"

    @property
    def data(self) -> Path:
        return self._folder / "data"

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    async def start(self, *, wait: bool = True) -> None:
        """Starts it and waits until it answers a linearizable read.

        With `wait=False` it returns at once: a member of a cluster answers only with a quorum.

        Raises:
            WrongState: etcd is not installed, the port is taken, or it ended while starting.
        """
        if self.pid is not None:
            return
        self._check()
        self._folder.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(mode=0o700, exist_ok=True)
        self._spawn()
        if wait:
            try:
                await self.healthy()
            except BaseException:
                self.kill()
                raise

    async def healthy(self, timeout: float = _START_TIMEOUT) -> None:
        """Waits until it answers; raises WrongState."""
        backoff = Backoff(_POLL, random.random)
        deadline = time.monotonic() + timeout
        async with EtcdClient([self.endpoint], tls=self._options.tls, timeout=2.0) as client:
            while True:
                if self.pid is None:
                    raise self._failure("etcd ended while starting")
                try:
                    await client.revision()
                except Unavailable as error:
                    if time.monotonic() > deadline:
                        raise self._failure(f"etcd does not answer: {error.message}") from error
                    await asyncio.sleep(backoff.failed())
                else:
                    return

    def _spawn(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # ^C of a terminal is for the parent
            )

    def stop(self) -> None:
        """Ends it in order, or by force if that takes too long."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Stops it in its tracks: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:  # its threads stop one after the other
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # Popen's own method checks that the pid is still that of our child
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _check(self) -> None:
        if shutil.which("etcd") is None:
            raise WrongState(
                "etcd is not installed: apt-get install etcd-server", reason="ETCD_NOT_INSTALLED"
            )
        for port in (self._client_port, self._peer_port):
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((LOOPBACK, port))
                except OSError as error:
                    raise WrongState(
                        f"etcd cannot listen on {LOOPBACK}:{port}: {error.strerror}",
                        reason="ETCD_PORT_TAKEN",
                        metadata={"port": str(port)},
                    ) from error

    def _command(self) -> list[str]:
        options = self._options
        scheme = "https" if options.tls else "http"
        client = f"{scheme}://{LOOPBACK}:{self._client_port}"
        peer = f"http://{LOOPBACK}:{self._peer_port}"
        peers = options.peers or {options.name: self._peer_port}
        command = [
            *(["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []),
            "etcd",
            *("--name", options.name),
            *("--data-dir", str(self.data)),
            *("--listen-client-urls", client),
            *("--advertise-client-urls", client),
            *("--listen-peer-urls", peer),
            *("--initial-advertise-peer-urls", peer),
            *(
                "--initial-cluster",
                ",".join(f"{name}=http://{LOOPBACK}:{port}" for name, port in peers.items()),
            ),
            *("--initial-cluster-token", self._token),
            *("--auto-compaction-mode", "periodic"),
            *("--auto-compaction-retention", options.retention),
            # 3.4 copies its write buffer for every read: without this, reads after a burst of
            # writes are three times slower
            *("--backend-batch-limit", "1000"),
            *("--logger", "zap"),
            *("--log-level", "warn"),
        ]
        if options.peers is None:
            command += ALONE
        if options.tls is not None:
            command += [
                "--client-cert-auth",
                *("--trusted-ca-file", str(options.tls.ca)),
                *("--cert-file", str(options.tls.certificate)),
                *("--key-file", str(options.tls.key)),
            ]
        return [*command, *options.extra]

    def _failure(self, what: str) -> WrongState:
        tail = self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        return WrongState(
            f"{what}; the end of {self.log}:\n{tail}",
            reason="ETCD_START_FAILED",
            metadata={"log": str(self.log)},
        )
