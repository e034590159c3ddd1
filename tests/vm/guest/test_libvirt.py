"""Debian's libvirt with the hook: a domain that is defined and started as an operator does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.cluster import Cluster
from lab.namespaces import name_of
from tests.support.netns import Namespace
from tests.vm.guest import image
from tests.vm.guest.libvirtd import REASON, Libvirtd
from tests.vm.guest.probing import agent, connects, romana, until

pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=f"needs {REASON}"),
    pytest.mark.timeout(900),
]

TEXT = """
name: {name}
networks:
  - {{name: a, cidr: 10.20.0.0/24, vlan_id: 20, gateway: 10.20.0.1}}
topologies:
  - {{name: dc, networks: [a], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{a: 10.20.0.251}}}}
endpoints:
  - {{name: near, node: n1, tenant: shop}}
"""


class Site(NamedTuple):
    cluster: Cluster
    libvirt: Libvirtd
    folder: Path

    def endpoints(self) -> dict[str, list[str]]:
        """Addresses of VMs, by name."""
        listed = romana(self.cluster, "endpoint", "list", "-o", "json", *agent(self.cluster))
        return {
            item["name"]: [each["address"] for each in item["addresses"]]
            for item in map(json.loads, _documents(listed.stdout))
            if "interface" in item["target"]
        }


def _documents(text: str) -> list[str]:
    found = json.loads(text)
    items = found if isinstance(found, list) else found.get("endpoints", [])
    return [json.dumps(item) for item in items]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="rt-") as name:  # sockets' paths are short
        folder = Path(name)
        cluster = Cluster(
            TEXT.format(name=f"test-{uuid.uuid4().hex[:8]}"),
            folder=folder / "lab",
            guarded=True,
            patience=3.0,
        )
        asyncio.run(cluster.up())
        try:
            image.build(folder)
            libvirt = Libvirtd.of_node(cluster, "n1", folder)
            try:
                yield Site(cluster, libvirt, folder)
            finally:
                libvirt.stop()
        finally:
            cluster.down()


def test_a_domain_is_attached_and_reached_and_detached(site: Site) -> None:
    site.libvirt.define("vm-1", "shop", site.folder / "guest.gz")
    status, said = site.libvirt.virsh("start", "vm-1")
    assert status == 0, said + site.libvirt.log()
    ((address,),) = site.endpoints().values()
    near = Namespace(name_of(site.cluster.lab.name, "near"), there=True)
    until(lambda: connects(near, address, image.PORT))
    status, said = site.libvirt.virsh("destroy", "vm-1")
    assert status == 0, said
    until(lambda: site.endpoints() == {})


def test_a_domain_that_cannot_be_attached_does_not_start(site: Site) -> None:
    site.libvirt.define("vm-2", "", site.folder / "guest.gz")
    status, said = site.libvirt.virsh("start", "vm-2")
    assert status != 0
    assert "vm-2: it has no tenant" in said
    assert "vm-2" not in subprocess.check_output(["ps", "-eo", "args"], text=True)
    assert site.endpoints() == {}
