"""What the command does, it does whoever reads what it says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.local_cluster import COMMAND, Up, environment, up

pytestmark = pytest.mark.timeout(300)

TOPOLOGY = """
networks: [{name: prod, cidr: 10.1.0.0/24}]
topologies: [{name: dc, networks: [prod]}]
"""
POLICIES = """
policies:
  - {name: p, targets: [{endpoints: {}}]}
  - {name: q, targets: [{endpoints: {}}]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    with up(folder / "data") as made:
        yield made


def run(cluster: Up, arguments: Sequence[str], out: int) -> tuple[int, str]:
    """Runs the command with this file as its standard output; its exit code and stderr."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(cluster.folder),
        check=False,
    )
    return done.returncode, done.stderr


def unread() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_a_change_is_made_although_the_reader_is_gone(cluster: Up, tmp_path: Path) -> None:
    topology, policies = tmp_path / "dc.yaml", tmp_path / "p.yaml"
    topology.write_text(TOPOLOGY)
    policies.write_text(POLICIES)
    changes = (
        ("topology", "apply", str(topology)),
        ("policy", "apply", str(policies)),
        ("node", "register", "n1", "--address", "192.0.2.1"),
        ("node", "register", "n2", "--address", "192.0.2.2", "-o", "json"),
        ("address", "allocate", "a", "--node", "n1", "--tenant", "t"),
    )
    for arguments in changes:
        out = unread()
        try:
            assert run(cluster, arguments, out)[0] == 0, arguments
        finally:
            os.close(out)
    assert [item["name"] for item in cluster.json("network", "list")] == ["prod"]
    assert {item["name"] for item in cluster.json("policy", "list")} >= {"p", "q"}
    assert [item["name"] for item in cluster.json("node", "list")] == ["n1", "n2"]
    assert len(cluster.json("address", "show", "a")) == 1


def test_a_full_disk_is_told_and_the_change_is_made(cluster: Up) -> None:
    with Path("/dev/full").open("w") as full:
        code, said = run(
            cluster, ("node", "register", "n3", "--address", "192.0.2.3"), full.fileno()
        )
    assert code == 74
    assert "No space left on device" in said
    assert "n3" in [item["name"] for item in cluster.json("node", "list")]


def test_a_change_is_made_without_any_standard_stream(cluster: Up) -> None:
    words = " ".join((*COMMAND, "node", "register", "n4", "--address", "192.0.2.4"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {words} <&- >&- 2>&-"],
        env=environment(cluster.folder),
        check=False,
    )
    assert done.returncode == 0
    assert "n4" in [item["name"] for item in cluster.json("node", "list")]


def test_a_watch_ends_with_its_reader(cluster: Up) -> None:
    for form in ("json", "table"):
        out = unread()
        try:
            assert run(cluster, ("topology", "watch", "-o", form), out)[0] == 0
        finally:
            os.close(out)
