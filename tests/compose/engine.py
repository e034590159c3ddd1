"""A Docker engine of the test's own: its data, its socket, its network namespace.

It builds in the machine's network, since packages come from there, without bridges and without
touching iptables. It runs containers in a network namespace of its own, so that bridges, Docker's
rules and the published ports are nobody else's; `outside` runs a command on that "machine".
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(os.environ.get("ROMANA_COMPOSE_TEST_DIR", "/var/tmp/romana-compose-test"))
"""Kept from run to run: the second is quicker."""
NAMESPACE = "romana-compose-test"
BASE = "romana-base:bookworm"
COMPOSE = Path(__file__).parents[2] / "compose"
DOCKER = "/usr/bin/docker"
TARGETS = ("service", "agent", "etcd", "prometheus")
START_TIMEOUT = 30.0
COMPOSE_TIMEOUT = 400.0
"""Of one command about all containers, which start one after the other: with much else to do a
machine of two cores takes minutes."""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

figures: list[str] = []
"""What was measured, printed at the end."""


class Engine:
    """One at a time."""

    def __init__(self) -> None:
        self.environment = os.environ | {
            "DOCKER_HOST": f"unix://{FOLDER}/docker.sock",
            "DOCKER_CONFIG": str(FOLDER / "docker"),
            "DOCKER_BUILDKIT": "1",
            "BASE": BASE,
            "XDG_DATA_HOME": str(FOLDER / "share"),  # a cluster of `romana up` here is another one
        }
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self, *, running: bool) -> None:
        """To build, or, with `running`, to run."""
        if running:
            subprocess.run(["ip", "netns", "delete", NAMESPACE], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
            subprocess.run(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"], check=True)
        network = ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
        command = [
            *(self.prefix() if running else []),
            "dockerd",
            f"--data-root={FOLDER}/data",
            f"--exec-root={FOLDER}/exec",
            f"--host=unix://{FOLDER}/docker.sock",
            f"--pidfile={FOLDER}/docker.pid",
            *(network[:1] if running else network),
        ]
        with (FOLDER / "dockerd.log").open("wb") as log:
            self._daemon = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        end = time.monotonic() + START_TIMEOUT
        while self.attempt(DOCKER, "version").returncode:
            if self._daemon.poll() is not None or time.monotonic() > end:
                raise RuntimeError((FOLDER / "dockerd.log").read_text()[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it, and what runs in it; images and volumes stay."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(60)
            self._daemon = None
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=False, capture_output=True)

    @staticmethod
    def prefix() -> list[str]:
        """Runs what follows where the containers' ports are. Unlike `ip netns exec` it leaves /sys,
        and the control groups there, as they are."""
        return ["nsenter", f"--net=/run/netns/{NAMESPACE}"]

    def attempt(
        self, *command: str, timeout: float = 60, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, whatever that is."""
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=COMPOSE,
            env={**self.environment, **(environment or {})},
        )

    def do(
        self, *command: str, timeout: float = 60, environment: Mapping[str, str] | None = None
    ) -> str:
        """Runs a command that has to succeed; returns what it printed."""
        done = self.attempt(*command, timeout=timeout, environment=environment)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def outside(self, *command: str, timeout: float = 60) -> str:
        """Runs a command on the machine that the ports are published on."""
        return self.do(*self.prefix(), *command, timeout=timeout)

    def compose(self, *arguments: str, timeout: float = COMPOSE_TIMEOUT) -> str:
        """Compose v2."""
        return self.do(DOCKER, "compose", *arguments, timeout=timeout)

    def make_base(self) -> None:
        """Brings the base image in."""
        if self.attempt(DOCKER, "image", "inspect", BASE).returncode:
            self.do(DOCKER, "import", str(FOLDER / "base.tar"), BASE, timeout=200)

    def build(self, target: str) -> None:
        """Builds one image, as docs/compose.md says it."""
        self.do(
            *(DOCKER, "build", "--network", "host", "--file", "Dockerfile", "--target", target),
            *("--build-arg", f"BASE={BASE}", "--secret", f"id=ca,src={AUTHORITIES}"),
            *("--tag", f"romana/{target}:dev", ".."),
            timeout=500,
        )

    def inspect(self, *names: str) -> list[dict[str, object]]:
        """What Docker knows of images or containers."""
        found: list[dict[str, object]] = json.loads(self.do(DOCKER, "inspect", *names))
        return found

    def container(self, service: str, number: int = 1) -> dict[str, object]:
        """What Docker knows of a service's container."""
        return self.inspect(f"romana-{service}-{number}")[0]

    def inside(self, service: str, *command: str, timeout: float = 30) -> str:
        """Runs a command in a service's container."""
        return self.compose("exec", "-T", service, *command, timeout=timeout)

    def attempt_inside(
        self, service: str, command: Sequence[str], timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """The same, whatever its end."""
        return self.attempt(DOCKER, "compose", "exec", "-T", service, *command, timeout=timeout)
