"""The examples against a real cluster."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local_cluster import Up, up

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NODE_PACKAGES = ROOT / "build" / "node"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The data center of the examples, with three nodes."""
    folder = tmp_path_factory.mktemp("up") / "data"
    with up(folder, ["--initial-topology", str(EXAMPLES / "datacenter.yaml")]) as made:
        for number, rack, attached in ((1, 1, "qa"), (2, 2, "qa"), (3, 2, "test")):
            made.json(
                *("node", "register", f"n{number}", "--address", f"192.0.2.{number}"),
                *("--label", f"rack=rack-{rack}", "--attach", f"network={attached}"),
            )
        yield made


def scheduler(cluster: Up, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, str(EXAMPLES / "scheduler.py")),
            *("--topology", cluster.cluster["topology"], "--ipam", cluster.cluster["ipam"]),
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_scheduler_places_its_endpoints_and_releases_them(cluster: Up) -> None:
    done = scheduler(cluster, "--tenant", "qa", "--count", "20")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines() if line[0] != " ")
    assert lines["nodes"] == "n1, n2, n3"
    assert lines["allocated"].startswith("20 addresses: ")
    assert lines["refused"].startswith("RESOURCE_EXHAUSTED ADDRESSES_EXHAUSTED: ")
    assert "network qa: REFUSAL_NODE_NOT_ATTACHED" in done.stdout
    assert lines["invalid"].startswith("INVALID_ARGUMENT INVALID_INPUT: ")
    assert "field spec.node: is missing" in done.stdout
    assert lines["released"] == "20 addresses"
    assert cluster.json("address", "list") == []


def test_the_scheduler_says_why_it_fails(cluster: Up) -> None:
    done = scheduler(cluster, "--tenant", "nobody")
    assert done.returncode == 1
    assert done.stderr.startswith("NOT_FOUND TENANT_NOT_FOUND: ")


def test_the_scheduler_imports_nothing_of_the_services() -> None:
    tree = ast.parse((EXAMPLES / "scheduler.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    roots = {str(name).partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert roots == {"grpc", "google", "romana"}


@pytest.fixture(scope="module")
def node() -> str:
    """The program that runs examples/scheduler.js."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("needs Node, Debian's nodejs")
    if not (NODE_PACKAGES / ".ready").exists():
        pytest.skip("needs what `tools/node_packages build/node` installs; `make test` runs that")
    return program


def scheduler_in_node(node: str, cluster: Up, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node, str(EXAMPLES / "scheduler.js"), cluster.cluster["ipam"], *arguments],
        env=os.environ | {"NODE_PATH": str(NODE_PACKAGES / "node_modules")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_scheduler_in_node_takes_and_releases_an_address(cluster: Up, node: str) -> None:
    held = cluster.json("address", "allocate", "held", "--node", "n2", "--tenant", "qa")
    done = scheduler_in_node(node, cluster, "qa", "web-1")
    assert done.returncode == 0, done.stderr
    took, counted, released = done.stdout.splitlines()
    # a block of n2 has room for this owner already, so n2 comes first
    assert re.fullmatch(r"web-1 has 10\.30\.\d+\.\d+ on n2", took)
    assert counted == "qa has 2 in use"
    assert released == "web-1 is released"
    left = [each["address"] for each in cluster.json("address", "list")]
    assert left == [each["address"] for each in held["allocations"]]
    assert cluster.romana("address", "release", "held").returncode == 0


def test_the_scheduler_in_node_says_why_it_fails(cluster: Up, node: str) -> None:
    done = scheduler_in_node(node, cluster, "nobody", "web-1")
    assert done.returncode == 1
    assert done.stderr == "Error: no network is for tenant 'nobody', and none is open to all\n"


def test_the_topology_survives_export_and_import(cluster: Up) -> None:
    exported = cluster.romana("topology", "export").stdout
    planned = cluster.romana("topology", "plan", "-", stdin=exported)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout == "Nothing changes.\n"
