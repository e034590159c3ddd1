"""One attach and one change, followed through all processes that take part."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from lab.cluster import Cluster
from lab.control import ENVIRONMENT
from lab.fabric import CONTROL
from lab.namespaces import add, inside, missing
from lab.processes import Program
from tests.support.agent_node import run_plugin
from tests.support.collector import Collector, collecting

pytestmark = pytest.mark.timeout(300)

if reason := missing():
    pytest.skip(f"needs {reason}", allow_module_level=True)

TEXT = """
name: {name}
networks:
  - {{name: pods, cidr: 10.78.0.0/24, vlan_id: 20, gateway: 10.78.0.1, mode: onlink}}
topologies:
  - {{name: dc, networks: [pods], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{pods: 10.78.0.251}}}}
"""
POLICY = """
policies:
  - {name: t/closed, targets: [{endpoints: {tenants: [t]}}], directions: [ingress]}
"""
SECONDS = 60.0


class TracedCluster(Cluster):
    """Every service and agent sends spans."""

    target = ""

    def program(self, name: str) -> Program:
        made = super().program(name)
        service = "agent" if made.name.startswith("agent.") else made.name
        variable = f"ROMANA_{service.upper()}__TRACES__ENDPOINT"
        return replace(made, environment={**made.environment, variable: self.target})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[tuple[TracedCluster, Collector]]:
    with (
        tempfile.TemporaryDirectory(prefix="rt-") as folder,
        collecting(Path(folder) / "otlp.sock") as collector,
    ):
        name = f"trace-{uuid.uuid4().hex[:6]}"
        cluster = TracedCluster(TEXT.format(name=name), guarded=True, patience=4.0)
        cluster.target = f"unix:{folder}/otlp.sock"
        await cluster.up()
        try:
            yield cluster, collector
        finally:
            cluster.down()


def test_an_attach_is_followed_from_the_plug_in_to_the_kernel(
    site: tuple[TracedCluster, Collector],
) -> None:
    cluster, collector = site
    add(cluster.lab.name, ["web"])
    status, answer = run_plugin(
        "ADD",
        {"network": "pods", "socket": str(cluster.folder / "agent.n1" / "cni.sock")},
        container="c1",
        netns=str(cluster.path("web")),
        args="IgnoreUnknown=1;K8S_POD_NAMESPACE=t",
    )
    assert status == 0, answer
    expected = {
        ("romana-agent", "romana-cni"),
        ("romana-agent", "agent: ADD"),
        ("romana-agent", "allocated"),
        ("romana-agent", "linked"),
        ("romana-agent", "placed"),
        ("romana-agent", "kernel: routes"),
        ("romana-ipam", "romana.ipam.v1.IpamService/AllocateAddress"),
        ("romana-ipam", "commit"),
        ("romana-ipam", "etcd transact"),
    }
    collector.wait("romana-cni", expected, SECONDS)
    (plugin,) = [span for span in collector.spans if span.name == "romana-cni"]
    (agent,) = [span for span in collector.spans if span.name == "agent: ADD"]
    assert plugin.begun <= agent.begun < agent.ended <= plugin.ended


def test_a_change_is_followed_from_the_operator_to_the_kernel(
    site: tuple[TracedCluster, Collector], tmp_path: Path
) -> None:
    cluster, collector = site
    (tmp_path / "closed.yaml").write_text(POLICY)
    command = [sys.executable, "-m", "services.ctl.main", "policy", "apply"]
    done = subprocess.run(
        inside(cluster.path(CONTROL), [*command, str(tmp_path / "closed.yaml"), "--wait", "60"]),
        env={**os.environ, **ENVIRONMENT, "ROMANA_TRACES": cluster.target},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = {
        ("romana-ctl", "romana policy apply"),
        ("romana-policy", "romana.policy.v1.PolicyService/ApplyPolicies"),
        ("romana-policy", "etcd transact"),
        ("romana-policy", "stream to n1"),
        ("romana-agent", "apply"),
        ("romana-agent", "kernel: rules"),
    }
    collector.wait("romana policy apply", expected, SECONDS)
