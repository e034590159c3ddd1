from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lab.cluster import Cluster
from lab.fabric import CONTROL
from lab.namespaces import missing
from tests.kernel.conformance.driver import Driver
from tests.kernel.conformance.pods import Pods
from tests.kernel.conformance.site import Site

TEXT = """
name: {name}
networks:
  - {{name: pods4, cidr: 10.77.0.0/24, vlan_id: 20, gateway: 10.77.0.1, mode: onlink}}
  - {{name: pods6, cidr: "fd77::/112", vlan_id: 21, gateway: "fd77::1", mode: onlink}}
topologies:
  - {{name: dc, networks: [pods4, pods6], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{pods4: 10.77.0.251, pods6: "fd77::f1"}}}}
  - {{name: n2, addresses: {{pods4: 10.77.0.252, pods6: "fd77::f2"}}}}
  - {{name: n3, addresses: {{pods4: 10.77.0.253, pods6: "fd77::f3"}}}}
"""
NODES = ("n1", "n2", "n3")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """Nine pods on three nodes, for all tests of a module."""
    lacking = missing()
    if lacking:
        pytest.skip(f"needs {lacking}")
    cluster = Cluster(TEXT.format(name=f"np-{uuid.uuid4().hex[:8]}"), guarded=True)
    await cluster.up()
    try:
        driver = await Driver.start(cluster.path(CONTROL))
        pods = Pods(cluster=cluster, nodes=NODES)
        try:
            await pods.attach()
            made = Site(pods, driver)
            await made.prepare()
            yield made
        finally:
            pods.close()
            await driver.close()
    finally:
        cluster.down()
