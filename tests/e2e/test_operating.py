"""What docs/operating.md says of metrics, against the real ones."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.local_cluster import up

pytestmark = pytest.mark.timeout(120)

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
KINDS = "counter|gauge|histogram"


def documented() -> dict[str, str]:
    """Kinds of metrics by name."""
    return dict(re.findall(rf"(?m)^\| `(romana_\w+)` \| ({KINDS}) \|", OPERATING.read_text()))


def exposed(address: str) -> dict[str, str]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = dict(re.findall(rf"(?m)^# TYPE (romana_\w+) ({KINDS})$", text))
    return {name: kind for name, kind in found.items() if not name.endswith("_created")}


def test_the_documented_metrics_are_those_there_are(tmp_path: Path) -> None:
    with up(tmp_path / "data") as made:
        topology = exposed(made.cluster["topology_metrics"])
        ipam = exposed(made.cluster["ipam_metrics"])
    assert {**topology, **ipam} == documented()
    common = {name for name in documented() if not re.match("romana_(ipam|topology)_", name)}
    assert common <= topology.keys() & ipam.keys()
