"""`romana lab` as a person runs it, on a lab without nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.fabric import down
from lab.namespaces import hosts_of, missing
from lab.processes import environment

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.timeout(300),
]

TEXT = """
name: {name}
networks:
  - {{name: qa, cidr: 10.30.0.0/24, vlan_id: 30, gateway: 10.30.0.1, mode: onlink}}
  - {{name: prod, cidr: 10.40.0.0/24, vlan_id: 40, gateway: 10.40.0.1, mode: onlink}}
topologies:
  - {{name: dc, networks: [qa, prod], groups: [{{name: rack}}]}}
router:
  allow: [{{from: qa, to: prod}}]
machines:
  - {{name: q, network: qa, address: 10.30.0.20}}
  - {{name: p, network: prod, address: 10.40.0.20}}
"""


NODE = """
nodes:
  - {name: n1, addresses: {qa: 10.30.0.11}}
endpoints:
  - {name: e1, node: n1, tenant: shop}
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    made = tmp_path / "lab.yaml"
    made.write_text(TEXT.format(name=name))
    yield made
    romana("down", str(made))
    down(name)


def romana(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.ctl.main", "lab", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment(),
    )


def test_up_status_ping_exec_and_down(file: Path) -> None:
    path = str(file)
    assert romana("status", path).returncode == 1
    up = romana("up", path)
    assert up.returncode == 0, up.stderr
    assert "etcd, topology, ipam and policy: up" in up.stderr
    again = romana("up", path)
    assert again.returncode == 4
    assert "already" in again.stderr

    status = romana("status", path, "-o", "json")
    assert status.returncode == 0, status.stdout
    states = {line["name"]: line["state"] for line in json.loads(status.stdout)}
    assert states == {
        "etcd": "runs",
        "topology": "runs",
        "ipam": "runs",
        "policy": "runs",
        "q": "there",
        "p": "there",
    }

    everybody = romana("ping", path)
    assert everybody.returncode == 0, everybody.stdout
    rows = [line.split() for line in everybody.stdout.splitlines()]
    assert [row[-2:] for row in rows[1:3]] == [["-", "router"], ["·", "-"]]
    one = json.loads(romana("ping", path, "q", "p", "-o", "json").stdout)
    assert [(each["way"], each["outcome"]) for each in one] == [("router", "answered")]
    assert romana("ping", path, "nobody").returncode == 3

    inside = romana("exec", path, "q", "--", "ip", "-br", "address", "show", "vlan30")
    assert "10.30.0.20/24" in inside.stdout
    command = [sys.executable, "-m", "services.ctl.main", "network", "list", "-o", "name"]
    assert romana("exec", path, "control", "--", *command).stdout.split() == ["qa", "prod"]
    assert romana("exec", path, "nobody", "--", "true").returncode == 3

    name = file.read_text().split()[1]
    assert hosts_of(name)
    gone = romana("down", path)
    assert gone.returncode == 0
    assert "is removed" in gone.stderr
    assert hosts_of(name) == []
    assert "was not up" in romana("down", path).stderr


def test_what_is_wrong_is_said(file: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(file.read_text().replace("gateway: 10.30.0.1", "gateway: 10.99.0.1"))
    done = romana("up", str(wrong))
    assert done.returncode == 2
    assert "networks[0].gateway" in done.stderr
    assert romana("ping", str(file)).returncode == 3
    assert romana("attach", str(file), "x", "--node", "n", "--tenant", "t").returncode == 3


def test_what_an_agent_that_is_away_has_is_not_called_absent(file: Path) -> None:
    path = str(file)
    file.write_text(file.read_text() + NODE)
    up = romana("up", path)
    assert up.returncode == 0, up.stderr
    lines = json.loads(romana("status", path, "-o", "json").stdout)
    (agent,) = (int(line["detail"].split()[1]) for line in lines if line["name"] == "agent.n1")
    os.kill(agent, signal.SIGKILL)

    status = romana("status", path)
    assert status.returncode == 1
    lines = [" ".join(line.split()) for line in status.stdout.splitlines()]
    assert "endpoints of n1 not known the agent does not answer" in lines
    found = romana("ping", path, "q", "e1")
    assert found.returncode == 3
    assert "has no endpoint or machine e1, unless on n1: no agent answers there" in found.stderr
    everybody = romana("ping", path)
    assert "without endpoints of n1: the agent does not answer" in everybody.stderr
    assert romana("ping", path, "q", "p").returncode == 0
