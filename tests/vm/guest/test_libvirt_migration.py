"""`virsh migrate` between two of Debian's libvirtd, each on a node of a lab, with the hook.

On the second node the hook prepares moves itself; on the first one an operator has to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.control import ENVIRONMENT
from lab.namespaces import name_of
from tests.support.netns import Namespace
from tests.vm.guest import image
from tests.vm.guest.libvirtd import REASON, Libvirtd
from tests.vm.guest.probing import agent, connects, romana, until
from tests.vm.guest.talking import connect

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
  - {{name: n2, addresses: {{a: 10.20.0.252}}}}
endpoints:
  - {{name: near, node: n1, tenant: shop}}
"""
VM = "vm-1"


@dataclass
class Site:
    cluster: Cluster
    libvirts: Mapping[str, Libvirtd]
    address: str = ""

    def migrate(self, node: str, to: str, *words: str) -> tuple[int, str]:
        """As an operator does, over a socket."""
        with tempfile.TemporaryDirectory(prefix="rt-") as folder:
            return self.libvirts[node].virsh(
                *["migrate", "--live", "--verbose", *words, VM, self.libvirts[to].uri],
                *["--migrateuri", f"unix://{folder}/memory.sock"],
            )

    def where(self) -> tuple[str, str, str]:
        """State, node, and where it moves to."""
        found = json.loads(romana(self.cluster, "endpoint", "move", VM, "-o", "json").stdout)
        move = found["move"]
        return move["state"].removeprefix("MOVE_STATE_"), move["node"], move.get("to_node", "")

    def attached(self, node: str) -> list[str]:
        """Its addresses there."""
        words = ["endpoint", "show", VM, "-o", "json", *agent(self.cluster, node)]
        done = romana(self.cluster, *words, check=False)
        if done.returncode:
            assert "ENDPOINT_NOT_FOUND" in done.stderr
            return []
        return [item["address"] for item in json.loads(done.stdout)["addresses"]]

    def is_on(self, node: str) -> bool:
        """Whether it is there alone."""
        other = {"n1": "n2", "n2": "n1"}[node]
        return (
            self.where() == ("SETTLED", node, "")
            and self.attached(node) == [self.address]
            and self.attached(other) == []
        )

    def runs_on(self, node: str) -> bool:
        """To libvirt."""
        status, said = self.libvirts[node].virsh("domstate", VM)
        return status == 0 and said.split()[:1] == ["running"]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="rt-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)  # sockets' paths are short
        cluster = Cluster(
            TEXT.format(name=f"test-{uuid.uuid4().hex[:8]}"),
            folder=folder / "lab",
            guarded=True,
            patience=3.0,
        )
        asyncio.run(cluster.up())
        stack.callback(cluster.down)
        image.build(folder)
        libvirts = {}
        for node in ("n1", "n2"):
            (folder / node).mkdir()
            more = {"ROMANA_NODE": node, **ENVIRONMENT} if node == "n2" else {}
            libvirts[node] = Libvirtd.of_node(cluster, node, folder / node, **more)
            stack.callback(libvirts[node].stop)
        found = Site(cluster, libvirts)
        libvirts["n1"].define(VM, "shop", folder / "guest.gz")
        status, said = libvirts["n1"].virsh("start", VM)
        assert status == 0, said + libvirts["n1"].log()
        (found.address,) = found.attached("n1")
        near = Namespace(name_of(cluster.lab.name, "near"), there=True)
        until(lambda: connects(near, found.address, image.PORT))
        yield found


def test_a_domain_migrates_with_its_connections(site: Site) -> None:
    """There by the hook alone, back after an operator has prepared it."""
    with contextlib.closing(connect(site.cluster.path("near"), site.address, image.PORT)) as asking:
        asking.sendall(b"GET / HTTP/1.0\r\n")
        status, said = site.migrate("n1", "n2")
        assert status == 0, said + site.libvirts["n2"].log()
        until(lambda: site.is_on("n2"))
        assert site.runs_on("n2")
        status, said = site.migrate("n2", "n1")
        assert status != 0
        assert "NAME_TAKEN" in said
        assert site.is_on("n2")
        romana(site.cluster, "endpoint", "move", VM, "--to", "n1")
        status, said = site.migrate("n2", "n1")
        assert status == 0, said + site.libvirts["n1"].log()
        until(lambda: site.is_on("n1"))
        asking.sendall(b"\r\n")
        asking.settimeout(60)
        assert image.ANSWER.encode() in asking.makefile("rb").read()
    romana(site.cluster, "ipam", "check")


def test_one_that_is_cancelled_goes_on_where_it_was(site: Site) -> None:
    near = Namespace(name_of(site.cluster.lab.name, "near"), there=True)
    words = [
        *["virsh", "-c", site.libvirts["n1"].uri],
        *["migrate", "--live", "--bandwidth", "1", VM, site.libvirts["n2"].uri],
        *["--migrateuri", f"unix://{site.cluster.folder}/m"],
    ]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as migrating:
        until(lambda: site.where() == ("READY", "n1", "n2"))
        until(lambda: site.libvirts["n1"].virsh("domjobabort", VM)[0] == 0)
        _, said = migrating.communicate(timeout=60)
    assert migrating.returncode != 0, said
    until(lambda: site.is_on("n1"))
    assert connects(near, site.address, image.PORT)
    romana(site.cluster, "ipam", "check")
