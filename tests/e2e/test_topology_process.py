"""`services.topology.main` as a process: its start, its end, and settings that are wrong."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.etcd.process import LocalEtcd, free_port
from tests.e2e.local_cluster import environment, romana

pytestmark = pytest.mark.timeout(300)

WAIT = 100.0
FILE = """
networks: [{name: prod, cidr: 10.1.0.0/16}]
topologies: [{networks: [prod], groups: [{name: a}, {name: b}]}]
"""


@pytest.fixture
def root(shared_etcd: LocalEtcd, tmp_path: Path) -> dict[str, str]:
    """The environment of a service on a store of its own."""
    return {
        **environment(tmp_path),
        "ROMANA_TOPOLOGY__ETCD__ENDPOINTS": shared_etcd.endpoint,
        "ROMANA_TOPOLOGY__ETCD__ROOT": f"/process-{uuid.uuid4().hex[:8]}",
        "ROMANA_TOPOLOGY__METRICS__ADDRESS": "127.0.0.1:0",
        "ROMANA_TOPOLOGY__LOG__FORMAT": "json",
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.topology.main", *arguments]


@contextlib.contextmanager
def running(
    root: dict[str, str], *arguments: str
) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    address = f"127.0.0.1:{free_port()}"
    log = Path(root["ROMANA_DATA_DIR"]) / f"{address}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("--listen", address, *arguments), env=root, stderr=output
        )
    try:
        yield address, process, log
    finally:
        process.kill()
        process.wait()


def networks(folder: Path, address: str) -> list[str]:
    """Waits for the service; the command tries again while it is not reached."""
    done = romana(
        *(folder, "network", "list", "-o", "name", "--topology-address", address),
        *("--timeout", "30"),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_initial_topology_is_applied_once_and_a_signal_ends_it_in_order(
    root: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(FILE)
    for number, initial in ((signal.SIGTERM, str(file)), (signal.SIGINT, "kubeadm")):
        with running(root, "--initial-topology", initial) as (address, process, log):
            assert networks_when_serving(tmp_path, address) == ["prod"]
            process.send_signal(number)
            assert process.wait(WAIT) == 0
            events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
        assert events[-1] == "stopped"
        assert ("initial_topology_not_applied" in events) == (initial == "kubeadm")


def networks_when_serving(folder: Path, address: str) -> list[str]:
    """It may answer before the initial topology is applied; health says when it is."""
    end = 100
    while end:
        done = romana(
            *(folder, "status", "-o", "json", "--topology-address", address),
            *("--ipam-address", "127.0.0.1:1", "--policy-address", "127.0.0.1:1"),
            *("--timeout", "5"),
        )
        if json.loads(done.stdout)[0]["health"] == "serving":
            return networks(folder, address)
        end -= 1
    raise AssertionError(f"{address} does not serve")


@pytest.mark.parametrize(
    ("variable", "value", "path"),
    [
        ("LISTEN__ADDRESS", "nonsense", "listen.address"),
        ("LISTEN__PORT", "1", "listen.port"),
        ("ETCD__TIMEOUT", "0", "etcd.timeout"),
        ("ETCD__ROOT", "romana", "etcd.root"),
        ("LOG__LEVEL", "loud", "log.level"),
        ("DRAIN", "-1", "drain"),
        ("NOTHING", "1", "nothing"),
    ],
)
def test_wrong_settings_end_it_with_2_and_the_path_of_the_field(
    root: dict[str, str], variable: str, value: str, path: str
) -> None:
    done = subprocess.run(
        command(),
        env={**root, f"ROMANA_TOPOLOGY__{variable}": value},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 2
    assert f"{path}: " in done.stderr
    assert f"ROMANA_TOPOLOGY__{variable}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "initial_topology: cannot read"),
        ("networks: [", "line 2, column 1"),
        (FILE.replace("10.1.0.0/16", "10.1.0.1/16"), "networks[0].cidr"),
    ],
)
def test_an_initial_topology_that_is_wrong_ends_it_and_says_why(
    root: dict[str, str], tmp_path: Path, text: str | None, says: str
) -> None:
    file = tmp_path / "topology.yaml"
    if text is not None:
        file.write_text(text)
    with running(root, "--initial-topology", str(file)) as (_, process, log):
        assert process.wait(WAIT) == 1
        said = log.read_text()
    assert says in said
    assert "start_failed" in said
    assert "Traceback" not in said
