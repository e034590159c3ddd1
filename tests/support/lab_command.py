"""The `romana` command where operators of a lab have it: in its control namespace."""

from __future__ import annotations

import subprocess

from lab.cluster import Cluster
from lab.control import ENVIRONMENT
from lab.fabric import CONTROL
from lab.local import COMMAND
from lab.namespaces import inside
from lab.processes import environment


def attempt(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end, whatever that is."""
    return subprocess.run(
        inside(cluster.path(CONTROL), [*COMMAND, *arguments]),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**environment(), **ENVIRONMENT},
    )


def romana(cluster: Cluster, *arguments: str) -> str:
    """Runs the command, which has to succeed; what it prints."""
    done = attempt(cluster, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
