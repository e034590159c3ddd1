"""Workers of a parallel run do not see each other's namespaces."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.support.netns import missing

CHILD = """
import os, subprocess, sys
from tests.support.netns import isolate
isolate()
assert os.listdir("/run/netns") == []
subprocess.run(["ip", "netns", "add", sys.argv[1]], check=True)
subprocess.run(["ip", "netns", "exec", sys.argv[1], "ip", "link", "set", "lo", "up"], check=True)
assert os.listdir("/run/netns") == [sys.argv[1]]
"""


@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
def test_a_namespace_that_a_worker_makes_is_its_own() -> None:
    name = f"rt-{uuid.uuid4().hex[:6]}-own"
    subprocess.run([sys.executable, "-c", CHILD, name], check=True, timeout=60)
    assert not Path("/run/netns", name).exists()
