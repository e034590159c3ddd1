"""The demo as a person runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.namespaces import missing
from tests.e2e.local_cluster import wait_until_gone

pytestmark = pytest.mark.timeout(480)

ROOT = Path(__file__).parents[2]
DEADLINE = 400.0
"""Of a whole demo on a busy machine, in seconds: some forty processes, one after the other."""


IGNORING = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")
"""Runs a program with SIGINT ignored, as `nohup` and a shell's background jobs do."""


def start(
    tmp_path: Path, *options: str, before: Sequence[str] = (), **variables: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-m", "lab.demo", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1", **variables},
    )


def processes_of(tmp_path: Path) -> list[int]:
    """Whoever has the temporary directory in its command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(tmp_path).encode() in told and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def namespaces() -> str:
    done = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=False)
    return "".join(line for line in done.stdout.splitlines() if line.startswith("romana.demo-"))


@dataclass(frozen=True, slots=True)
class Finished:
    """A demo that was let run to its end."""

    pid: int
    code: int
    out: str
    err: str
    files: list[Path]
    """That it left."""
    processes: list[int]
    """That it left."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The whole demo, once for all that look at what it said."""
    folder = tmp_path_factory.mktemp("demo")
    demo = start(folder)
    out, err = demo.communicate(timeout=DEADLINE)
    left = processes_of(folder)
    return Finished(demo.pid, demo.returncode, out, err, [*folder.iterdir()], left)


def test_it_shows_the_reachability_matrix(finished: Finished) -> None:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs {lacking}")
    out = finished.out
    matrix = out.partition("FROM     NETWORK")[2].partition("direct: answered")[0]
    rows = {line.split()[0]: line.split() for line in matrix.splitlines() if line.strip()}
    assert rows["t1"][1:4] == ["test", "test-1", "-"]
    assert {"direct", "router", "·"} <= set(rows["q2"])
    assert "LOST" not in out
    assert "both on shared-1" in out


def test_it_ends_with_connections_as_policy_has_them(finished: Finished) -> None:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs {lacking}")
    tables = finished.out.split("FROM  OWNER ")[1:]
    allowed = [table.partition("+: connects")[0].count("  +") for table in tables]
    assert allowed == [16, 4, 6]
    for said in (
        "$ romana tenant set production --isolation segment",
        "$ romana policy apply examples/policies/production.yaml --wait 20",
        "Applied by 2 nodes",
        "10.40.192.0 -> 10.40.64.8: ALLOW",
        "its ports match, but its peers are endpoints of production with app=front",
        "4 p4  + + + .",
    ):
        assert said in finished.out
    assert finished.out.count("All 16 as `romana policy matrix` says.") == 3


def test_its_firewalls_see_both_directions_of_what_is_led_and_nothing_else(
    finished: Finished,
) -> None:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs {lacking}")
    chapter = finished.out.partition("Lead connections through a firewall")[2]
    assert "through one of fw-1, fw-2 of group firewalls, both directions" in chapter
    first, second = chapter.split("FIREWALL ")[1:]
    assert ways(first) == [
        ("vlan40", "in"),
        ("vlan40", "out"),
        ("vlan40", "in"),
        ("vlan40", "out"),
    ]
    assert "no rule says `via`: not one packet." in chapter
    assert ways(second) == [
        ("outside40", "in"),
        ("vlan40", "out"),
        ("vlan40", "in"),
        ("outside40", "out"),
    ]
    assert "no firewall has met a connection of which it saw only a part" in second


def ways(table: str) -> list[tuple[str, str]]:
    """Interface and way of the four packets of a handshake, which passed one firewall."""
    packets = [line.split() for line in table.splitlines()[1:5]]
    assert len({packet[0] for packet in packets}) == 1
    there, _, back, _ = (tuple(packet[3:]) for packet in packets)
    assert there == tuple(reversed(back))
    return [(packet[1], packet[2]) for packet in packets]


def test_it_shows_everything_and_leaves_nothing(finished: Finished) -> None:
    assert finished.code == 0, finished.out + finished.err
    assert finished.err == ""
    for said in (
        "$ romana topology apply examples/datacenter.yaml",
        "$ romana evaluate --tenant qa",
        "400 addresses in ",
        "the same addresses",
        "├─ rack-1       3  test ",
        "production-2  production         53       4  10.40.128.0/18",
        "production  node not attached",
        "12 got an address, 8 did not",
        "REFUSAL_GROUP_FULL",
        "1 rest, the first for ",
        "And 400 in one call of ReleaseAddresses",
        ": consistent.",
    ):
        assert said in finished.out
    assert finished.files == []
    assert finished.processes == []
    assert f"romana.demo-{finished.pid}." not in namespaces()


@pytest.mark.parametrize("before", [(), IGNORING], ids=["usual", "ignoring"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(
    tmp_path: Path, number: signal.Signals, before: Sequence[str]
) -> None:
    demo = start(tmp_path, before=before)
    assert demo.stdout is not None
    while "Register the nodes" not in demo.stdout.readline():
        assert demo.poll() is None
    children = processes_of(tmp_path)
    demo.send_signal(number)
    _, err = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 130, err
    assert "Interrupted" in err
    wait_until_gone(children)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    while "Register the nodes" not in demo.stdout.readline():
        assert demo.poll() is None
    children = processes_of(tmp_path)
    assert len(children) > 3
    demo.kill()
    demo.communicate(timeout=DEADLINE)
    wait_until_gone(children)


def test_without_root_it_sends_no_packets_and_keep_goes_on_until_it_is_interrupted(
    tmp_path: Path,
) -> None:
    site, temporary = tmp_path / "site", tmp_path / "temporary"
    site.mkdir()
    temporary.mkdir()
    (site / "sitecustomize.py").write_text("import os\nos.geteuid = lambda: 1000\n")
    demo = start(temporary, "--keep", PYTHONPATH=str(site))
    assert demo.stdout is not None
    said = ""
    while not (line := demo.stdout.readline()).startswith("export ROMANA_DATA_DIR="):
        assert demo.poll() is None
        said += line
    assert "needs root, which is not here" in said
    folder = line.strip().partition("=")[2]
    status = subprocess.run(
        [sys.executable, "-m", "services.ctl.main", "status"],
        cwd=ROOT,
        env={**os.environ, "ROMANA_DATA_DIR": folder},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert status.returncode == 0, status.stderr
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 0, err
    assert "removed" in out
    assert list(temporary.iterdir()) == []


def test_a_demo_that_fails_shows_the_log(tmp_path: Path) -> None:
    """Without etcd on PATH the cluster does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "lab.demo"],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert "etcd is not installed" in done.stderr
    assert list(tmp_path.iterdir()) == []
