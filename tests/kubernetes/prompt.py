"""How long something takes from the API server's answer to the first packet: calls and packets."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lab.namespaces import call
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.files import kubeconfig
from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.shell import Failed

ECHO = 7
PAUSE = 0.004
SILENCE = 0.4
SECONDS = 90.0
MERGE = "application/merge-patch+json"


class ApiCalls:
    """The administrator's, on one connection."""

    def __init__(self, cluster: Cluster) -> None:
        config = kubeconfig(cluster.hosts, "")
        line = (sys.executable, "-m", "tests.kubernetes.api_calls", config)
        self._process = subprocess.Popen(
            cluster.hosts.inside(CONTROL, *line),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> float:
        """When it was answered; raises Failed if it was refused."""
        return self.ask(method, path, body)[0]

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[float, Any]:
        """When it was answered, and what; raises Failed if it was refused."""
        asked: dict[str, Any] = {"method": method, "path": path}
        if body is not None:
            asked["body"] = body
        if method == "PATCH":
            asked["type"] = MERGE
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        if said["status"] >= 300:
            raise Failed(f"{method} {path}: {said['body'].get('message')}")
        return float(said["at"]), said["body"]


class Stream:
    """Packets from a namespace to a server that answers each, every few milliseconds; each from a
    port of its own, so that none belongs to a connection that was let through before."""

    def __init__(self, namespace: Path, address: str, port: int = ECHO) -> None:
        self._namespace = namespace
        self._to = (address, port)
        self._answered: deque[float] = deque(maxlen=2000)
        """When packets were sent that were answered, in the order of answers."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: call(namespace, self._run))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def first_answered(self, since: float) -> float:
        """How long after that the first packet was sent that was answered."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            sent = [at for at in list(self._answered) if at > since]
            if sent:
                return min(sent) - since
            time.sleep(PAUSE)
        raise Failed(f"nothing was answered within {SECONDS:.0f} s")

    def last_answered(self, since: float) -> float:
        """How long after that the last packet was sent that was answered, before a silence."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            last = max(list(self._answered), default=0.0)
            if time.monotonic() - max(last, since) > SILENCE:
                return max(0.0, last - since)
            time.sleep(PAUSE)
        raise Failed(f"packets are answered after {SECONDS:.0f} s")

    def _run(self) -> None:
        asked: deque[tuple[float, socket.socket]] = deque()
        with selectors.DefaultSelector() as selector:
            while not self._over.wait(PAUSE):
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                client.settimeout(0)
                sent = time.monotonic()
                asked.append((sent, client))
                selector.register(client, selectors.EVENT_READ)
                with contextlib.suppress(OSError):  # refused on the way out
                    client.connect(self._to)
                    client.send(f"{sent:.6f}".encode())
                for key, _ in selector.select(0):
                    with contextlib.suppress(OSError):
                        self._answered.append(float(key.fileobj.recv(64)))  # type: ignore[union-attr]
                while asked[0][0] < sent - 1:
                    _, old = asked.popleft()
                    selector.unregister(old)
                    old.close()
        for _, client in asked:
            client.close()
