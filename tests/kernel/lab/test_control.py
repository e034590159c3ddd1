"""The control plane of a lab, without nodes."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.namespaces import hosts_of, missing
from services.common.errors import Unavailable
from tests.support.lab_command import romana

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.timeout(300),
]

TEXT = """
name: {name}
networks:
  - {{name: qa, cidr: 10.30.0.0/24, vlan_id: 30, gateway: 10.30.0.1, mode: onlink}}
topologies:
  - {{name: dc, networks: [qa], groups: [{{name: rack}}]}}
machines:
  - {{name: printer, network: qa, address: 10.30.0.20}}
"""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(
        TEXT.format(name=f"test-{uuid.uuid4().hex[:8]}"), folder=tmp_path / "lab", guarded=True
    )
    yield made
    made.down()


async def test_it_serves_and_knows_the_lab_and_goes_without_a_trace(cluster: Cluster) -> None:
    said: list[str] = []
    await cluster.up(said.append)
    assert "etcd, topology, ipam and policy" in said
    status = json.loads(romana(cluster, "status", "-o", "json"))
    assert {each["health"] for each in status} == {"serving"}
    listed = json.loads(romana(cluster, "reservation", "list", "-o", "json"))
    assert [each["ranges"] for each in listed] == [["10.30.0.20"]]
    assert all(part.pid for part in cluster.parts())

    again = Cluster(TEXT.format(name=cluster.lab.name), folder=cluster.folder)
    assert [part.pid for part in again.parts()] == [part.pid for part in cluster.parts()]
    again.down()
    assert hosts_of(cluster.lab.name) == []
    assert not cluster.folder.exists()
    assert not any(part.pid for part in cluster.parts())


async def test_a_killed_service_starts_again(cluster: Cluster) -> None:
    await cluster.up()
    for name in ("etcd", "ipam"):
        before = {part.name: part.pid for part in cluster.parts()}
        cluster.kill(name)
        assert {part.name: part.pid for part in cluster.parts()}[name] is None
        cluster.start(name)
        after = {part.name: part.pid for part in cluster.parts()}
        assert after.pop(name) not in {None, before.pop(name)}
        assert after == before


async def test_what_does_not_start_is_said_and_removed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.control.ETCD", "192.0.2.1:2379")
    monkeypatch.setattr("lab.cluster.PROVISION_TIMEOUT", 20.0)
    monkeypatch.setattr("lab.cluster.PROVISION", (sys.executable, "-c", "exit('no luck')"))
    with pytest.raises(Unavailable, match=r"no luck[^$]*etcd:"):
        await cluster.up()
    assert hosts_of(cluster.lab.name) == []
