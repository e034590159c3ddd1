"""Agents and services one version apart, both ways: addresses, packets, policy, upgrade."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from lab import connections
from lab.cluster import Cluster
from lab.control import ENVIRONMENT
from lab.fabric import CONTROL
from lab.local import COMMAND
from lab.namespaces import inside, missing
from lab.processes import Program, environment
from lab.spec import Endpoint
from tests.support import former
from tests.support.ipam_process import poll

REVISION = former.revision()
pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.skipif(not REVISION, reason="this clone lacks the former version: git fetch"),
    pytest.mark.timeout(300),
]
TEXT = """
name: {name}
networks:
  - {{name: pods, cidr: 10.78.0.0/24, vlan_id: 20, gateway: 10.78.0.1, mode: onlink, tenants: [t]}}
topologies:
  - {{name: dc, networks: [pods], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{pods: 10.78.0.251}}}}
  - {{name: n2, addresses: {{pods: 10.78.0.252}}}}
endpoints:
  - {{name: web, node: n1, tenant: t, labels: {{app: closed}}}}
  - {{name: asks, node: n2, tenant: t}}
"""
CLOSED = """
policies:
  - name: closed
    targets: [{endpoints: {labels: {match_labels: {app: closed}}}}]
    directions: [ingress]
"""
PORT = 81
NODES = ("n1", "n2")
SERVICES = ("topology", "ipam", "policy")
TOO_OLD = {"n1": "of a version that does not say", "services": "does not offer this"}
"""What says that it cannot be asked what a kernel has."""
WAIT = ("--wait", "60")


class MixedCluster(Cluster):
    """A lab of which some programs are of the former version."""

    def __init__(self, folder: Path, sources: Path, old: Sequence[str]) -> None:
        super().__init__(
            TEXT.format(name=f"skew-{uuid.uuid4().hex[:8]}"), folder=folder, guarded=True
        )
        self.sources = sources
        self.old = {*old}

    def program(self, name: str) -> Program:
        program = super().program(name)
        return former.run_from(program, self.sources) if name in self.old else program

    def environment(self, name: str) -> str:
        """Of the process that runs."""
        program = self.program(name)
        pid = self.processes.pid(program.name, program.host)
        return Path(f"/proc/{pid}/environ").read_text()

    async def romana(self, *words: str, stdin: str = "") -> str:
        """What the command of this version prints."""
        code, out, errors = await self.run_command(*words, stdin=stdin)
        assert code == 0, errors
        return out

    async def run_command(self, *words: str, stdin: str = "") -> tuple[int | None, str, str]:
        """Its exit code, what it prints, and errors."""
        process = await asyncio.create_subprocess_exec(
            *inside(self.path(CONTROL), [*COMMAND, *words]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), **ENVIRONMENT},
        )
        out, errors = await process.communicate(stdin.encode())
        return process.returncode, out.decode(), errors.decode()

    async def in_use(self) -> set[str]:
        listed = json.loads(await self.romana("address", "list", "-o", "json"))
        return {item["name"] for item in listed}

    async def connects(self) -> bool:
        web, asks = await self.host("web"), await self.host("asks")
        return (await connections.connected([asks], [web], PORT))["asks", "web"]

    async def until(self, *, connects: bool) -> None:
        async def so() -> bool:
            return await self.connects() is connects

        await poll(so, 60, what=f"connects: {connects}")

    async def until_kernel_agrees(self, what: str) -> None:
        async def so() -> bool:
            return (await self.run_command("node", what, "n1", "--kernel"))[0] == 0

        await poll(so, 60, what=f"the {what} of n1 to be in its kernel")

    async def restart(self, names: Sequence[str]) -> None:
        for name in names:
            program = self.program(name)
            self.processes.stop(program.name, program.host)
            self.start(name)
        for node in NODES:
            await self.agent(node).ready()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("former")
    former.unpack(REVISION, folder)
    return folder


@pytest.fixture(params=["agents", "services"])
async def cluster(
    request: pytest.FixtureRequest, tmp_path: Path, sources: Path
) -> AsyncIterator[MixedCluster]:
    """With agents of the former version, or with services."""
    old = NODES if request.param == "agents" else SERVICES
    made = MixedCluster(tmp_path / "lab", sources, old)
    await made.up()
    yield made
    made.down()


async def test_one_version_apart_they_work_together_and_are_upgraded(
    cluster: MixedCluster, sources: Path
) -> None:
    old = sorted(cluster.old)
    assert all(str(sources) in cluster.environment(name) for name in old)
    assert await cluster.in_use() == {"web", "asks"}
    await cluster.until(connects=True)
    await cluster.romana("policy", "apply", "-", *WAIT, stdin=CLOSED)
    await cluster.until(connects=False)
    for what in ("rules", "routes"):
        code, _, errors = await cluster.run_command("node", what, "n1", "--kernel")
        assert code
        assert TOO_OLD["n1" if "n1" in old else "services"] in errors

    cluster.old = set()
    await cluster.restart(old)
    for what in ("rules", "routes"):
        await cluster.until_kernel_agrees(what)
    assert await cluster.in_use() == {"web", "asks"}
    assert not await cluster.connects()
    await cluster.romana("policy", "delete", "closed", *WAIT, "--yes")
    await cluster.until(connects=True)
    await cluster.detach("n1", "web")
    assert await cluster.in_use() == {"asks"}


async def test_an_endpoint_that_the_former_version_attached_is_released(
    cluster: MixedCluster,
) -> None:
    later = Endpoint(name="later", node="n2", tenant="t", network="pods")
    attached = await cluster.attach(later)
    assert attached.network == "pods"
    await cluster.detach("n2", "later")
    assert await cluster.in_use() == {"web", "asks"}
