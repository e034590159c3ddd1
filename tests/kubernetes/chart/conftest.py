"""A cluster of its own for the chart, beside the one of the other checks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.installed import Installed, folder_beside

PREPARED = Path(os.environ.get("ROMANA_KUBERNETES_TEST_DIR", "/var/tmp/romana-kubernetes-test"))
KEEP = bool(os.environ.get("ROMANA_KUBERNETES_TEST_KEEP"))


@pytest.fixture(scope="session")
def installed() -> Iterator[Installed]:
    """Romana by its chart, as it is by default but for images and storage, on two nodes."""
    folder = folder_beside(PREPARED)
    if KEEP and (folder / "run").exists():
        yield Installed(Cluster.known(folder))
        return
    made = Installed(Cluster.up(folder, nodes=2, name="chart"))
    try:
        made.up()
        yield made
    finally:
        made.cluster.keep_logs()
        made.keep_logs()
        if not KEEP:
            made.cluster.down()
