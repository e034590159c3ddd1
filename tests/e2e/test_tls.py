"""Mutual TLS everywhere: etcd, topology, two replicas of ipam, policy, and the command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.common.etcd.process import EtcdOptions, LocalEtcd, free_port
from services.common.tls import TlsFiles
from tests.e2e.local_cluster import COMMAND, environment, romana
from tests.support.certificates import Authority

pytestmark = pytest.mark.timeout(300)

START_SECONDS = 100.0
STOP_SECONDS = 100.0


@dataclass(frozen=True)
class Secured:
    """A running cluster of which every connection has certificates of one authority."""

    folder: Path
    operator: TlsFiles
    stranger: TlsFiles
    etcd: str
    topology: str
    active: str
    standby: str
    policy: str

    def romana(
        self, *arguments: str, tls: TlsFiles | None, ipam: str = ""
    ) -> subprocess.CompletedProcess[str]:
        given = ("--tls-ca", "--tls-cert", "--tls-key")
        files = (tls.ca, tls.certificate, tls.key) if tls else ()
        return romana(
            self.folder,
            *arguments,
            *("--topology-address", self.topology, "--ipam-address", ipam or self.active),
            *("--policy-address", self.policy),
            *(text for pair in zip(given, map(str, files), strict=False) for text in pair),
        )

    def done(self, *arguments: str, ipam: str = "") -> subprocess.CompletedProcess[str]:
        """Runs what has to succeed."""
        done = self.romana(*arguments, tls=self.operator, ipam=ipam)
        assert done.returncode == 0, done.stderr
        return done


@contextlib.contextmanager
def serving(folder: Path, service: str, etcd: str, port: int, tls: TlsFiles) -> Iterator[None]:
    """`romana serve` with the same files as a server, to etcd, and between replicas."""
    prefix = f"ROMANA_{service.upper()}__"
    files = {"CA": tls.ca, "CERTIFICATE": tls.certificate, "KEY": tls.key}
    given = {
        f"{prefix}{section}__TLS__{name}": str(path)
        for section in ("LISTEN", "ETCD")
        for name, path in files.items()
    }
    with (folder / f"{service}-{port}.log").open("w") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", service, "--etcd", etcd, "--listen", f"127.0.0.1:{port}"],
            env={**environment(folder), **given, f"{prefix}METRICS__ADDRESS": "127.0.0.1:0"},
            stderr=log,
        )
    try:
        yield
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    ours, theirs = Authority(folder / "ours"), Authority(folder / "theirs")
    machine = ours.issue("services", uri="romana:service")
    ports = [free_port() for _ in range(4)]
    etcd = LocalEtcd(folder / "etcd", EtcdOptions(tls=machine))
    asyncio.run(etcd.start())
    try:
        with (
            serving(folder, "topology", etcd.endpoint, ports[0], machine),
            serving(folder, "ipam", etcd.endpoint, ports[1], machine),
            serving(folder, "ipam", etcd.endpoint, ports[2], machine),
            serving(folder, "policy", etcd.endpoint, ports[3], machine),
        ):
            topology, one, two, policy = (f"127.0.0.1:{port}" for port in ports)
            made = Secured(
                folder,
                ours.issue("operator", uri="romana:operator"),
                theirs.issue("x"),
                etcd.endpoint,
                topology,
                one,
                two,
                policy,
            )
            active = wait_until_serving(made)
            standby = two if active == one else one
            yield replace(made, active=active, standby=standby)
    finally:
        etcd.stop()


def wait_until_serving(made: Secured) -> str:
    """Waits for all of them; returns where the active replica of ipam is."""
    end = time.monotonic() + START_SECONDS
    while True:
        asked = [
            made.romana("status", "-o", "json", tls=made.operator, ipam=address)
            for address in (made.active, made.standby)
        ]
        if all(answer.returncode == 0 for answer in asked):
            status = json.loads(asked[0].stdout)[1]["status"]
            if status["active_address"]:
                return str(status["active_address"])
        assert time.monotonic() < end, [a.stdout[-900:] + a.stderr for a in asked]


def test_everything_works_with_certificates_of_one_authority(secured: Secured) -> None:
    secured.done("topology", "apply", "--builtin", "flat")
    secured.done("node", "register", "n1", "--address", "192.168.0.1")
    allocate = ("address", "allocate", "web-1", "--node", "n1", "--tenant", "t", "-o", "name")
    address = secured.done(*allocate).stdout
    # A write to the standby replica is passed on, with the certificate that it serves with.
    assert secured.done(*allocate, ipam=secured.standby).stdout == address
    status = json.loads(secured.done("status", "-o", "json", ipam=secured.standby).stdout)
    assert status[1]["status"]["active"] is False
    passed_on = secured.done(
        *("address", "allocate", "web-2", "--node", "n1", "--tenant", "t", "-o", "name"),
        ipam=secured.standby,
    ).stdout
    assert passed_on not in {"", address}
    assert passed_on.strip() in secured.done("address", "list").stdout
    assert "consistent" in secured.done("ipam", "check").stdout


@pytest.mark.parametrize(
    ("who", "says", "hint"),
    [
        ("nobody", "it closes the connection", "--tls-ca, --tls-cert and --tls-key"),
        ("a stranger", "its certificate is not trusted", "--tls-ca"),
        ("a stranger who trusts us", "it closes the connection", "--tls-cert"),
        ("we, with another authority", "its certificate is not trusted", "--tls-ca"),
    ],
)
def test_others_are_refused_and_told_why(secured: Secured, who: str, says: str, hint: str) -> None:
    ours, theirs = secured.operator, secured.stranger
    tls = {
        "nobody": None,
        "a stranger": theirs,
        "a stranger who trusts us": TlsFiles(ours.ca, theirs.certificate, theirs.key),
        "we, with another authority": TlsFiles(theirs.ca, ours.certificate, ours.key),
    }[who]
    for arguments in (("status",), ("node", "register", "n", "--address", "192.0.2.1")):
        done = secured.romana(*arguments, tls=tls)
        assert done.returncode == 5
        assert f"cannot be reached: {says}" in done.stderr
        hints = [line for line in done.stderr.splitlines() if line.startswith("Hint: ")]
        assert hints
        assert all(hint in line for line in hints)
        assert "ssl_transport_security" not in done.stderr


def test_without_a_certificate_the_store_is_not_read_and_nothing_is_served(
    secured: Secured,
) -> None:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "serve", "topology", "--etcd", secured.etcd, "--listen", f"127.0.0.1:{port}"],
        env={
            **environment(secured.folder),
            "ROMANA_TOPOLOGY__METRICS__ADDRESS": "127.0.0.1:0",
            "ROMANA_TOPOLOGY__ETCD__TIMEOUT": "2",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        assert process.stderr is not None
        with process.stderr:
            said = next(line for line in process.stderr if "Socket closed" in line)
            assert secured.etcd in said
            done = romana(
                *(secured.folder, "node", "list", "--timeout", "1"),
                *("--topology-address", f"127.0.0.1:{port}"),
            )
            assert done.returncode == 5
            process.terminate()
            assert "serving" not in process.stderr.read()
        assert process.wait(STOP_SECONDS) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def test_two_of_the_three_files_are_refused_with_the_section(secured: Secured) -> None:
    files = secured.operator
    refused = subprocess.run(
        [*COMMAND, "serve", "ipam"],
        env={
            **environment(secured.folder),
            "ROMANA_IPAM__LISTEN__TLS__CA": os.fspath(files.ca),
            "ROMANA_IPAM__LISTEN__TLS__KEY": os.fspath(files.key),
        },
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert refused.returncode == 2
    assert "listen.tls" in refused.stderr
