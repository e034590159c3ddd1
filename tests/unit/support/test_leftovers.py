"""A test that leaves something running fails itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.leftovers import processes_of

ROOT = Path(__file__).parents[3]
SECONDS = 30.0
START = """
import subprocess
import pytest

def sleep():
    return subprocess.Popen(["sleep", "4242"])
"""


def run(folder: Path, text: str) -> tuple[dict[str, int], str]:
    """Outcomes and what was said of a file of tests."""
    (folder / "test_it.py").write_text(START + text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.leftovers", "-q", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LEFTOVERS_SECONDS": "0.2"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    counted = {word: done.stdout.count(f"\n{word} test_it.py") for word in ("ERROR", "FAILED")} | {
        "passed": done.stdout.count(" passed")
    }
    return counted, done.stdout


def test_a_process_that_a_test_leaves_is_its_own_failure(tmp_path: Path) -> None:
    counted, said = run(
        tmp_path, "def test_leaves():\n    sleep()\n\ndef test_after():\n    pass\n"
    )
    assert counted["ERROR"] == 1
    assert "ERROR test_it.py::test_leaves" in said
    assert "left something running" in said
    assert "sleep 4242" in said
    assert "2 passed" in said


def test_a_process_that_is_ended_is_nobodys_failure(tmp_path: Path) -> None:
    text = """
@pytest.fixture
def process():
    one = sleep()
    yield one
    one.kill()
    one.wait()

def test_ends(process):
    process.kill()
    process.wait()

def test_fixture_ends(process):
    pass
"""
    counted, said = run(tmp_path, text)
    assert counted["ERROR"] == 0
    assert "2 passed" in said


def test_what_a_modules_fixture_starts_belongs_to_the_module(tmp_path: Path) -> None:
    """And what its tests start again; with the last fixture all of it has to be gone."""
    text = """
@pytest.fixture(scope="module")
def process():
    made = [sleep()]
    yield made
    for one in made:
        one.kill()
        one.wait()

def test_first(process):
    assert process[0].poll() is None

def test_again(process):
    process[0].kill()
    process[0].wait()
    process[0] = sleep()

def test_third(process):
    assert process[0].poll() is None
"""
    counted, said = run(tmp_path, text)
    assert counted["ERROR"] == 0, said
    assert "3 passed" in said
    left = text.replace("        one.kill()\n        one.wait()\n", "        pass\n")
    counted, said = run(tmp_path, left)
    assert counted["ERROR"] == 1
    assert "fixture 'process'" in said
    assert "sleep 4242" in said


@pytest.mark.parametrize("orphaned", [False, True], ids=["child", "orphan"])
def test_whatever_comes_of_it_is_found(orphaned: bool) -> None:  # noqa: FBT001
    mark = f"test-{os.getpid()}"
    line = "sleep 4243 & echo $!" + ("" if orphaned else "; wait")
    with subprocess.Popen(
        ["sh", "-c", line],
        env={**os.environ, "TEST_OWNER": mark},
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        try:
            if orphaned:
                shell.wait()
            end = time.monotonic() + SECONDS
            # between fork and exec it is a shell, and for a moment nothing
            while "sleep 4243" not in processes_of(mark).get(pid, ""):
                assert time.monotonic() < end
        finally:
            os.kill(pid, 9)
