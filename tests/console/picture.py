"""Makes the picture of README: `python -m tests.console.picture docs/console.png`.

The map of a network of examples/datacenter.yaml with some nodes and addresses in use, as the
console draws it. Needs Debian's package chromium.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from romana.ipam.v1 import allocation_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.etcd.process import LocalEtcd
from services.common.rpc.channel import open_channel
from tests.support.console_site import START_SECONDS, Site, running
from tests.support.ipam_process import poll

TOPOLOGY = Path(__file__).parents[2] / "examples" / "datacenter.yaml"
NODES = 24
SIZE = {"width": 1180, "height": 760}


async def fill(site: Site) -> None:
    """Nodes in both racks, and as many endpoints on each as it happens to have."""
    draw = random.Random(4)  # the same picture each time
    async with (
        open_channel(site.address("topology")) as topology_channel,
        open_channel(site.address("ipam")) as ipam_channel,
    ):
        topology, ipam = TopologyServiceStub(topology_channel), IpamServiceStub(ipam_channel)
        document = topology_pb2.TopologyDocument(text=TOPOLOGY.read_text())
        await topology.ApplyTopology(topology_api.ApplyTopologyRequest(document=document))
        for number in range(1, NODES + 1):
            labels = {"rack": f"rack-{number % 2 + 1}"}
            node = node_pb2.Node(name=f"n{number}", address=f"192.0.2.{number}", labels=labels)
            await topology.RegisterNode(topology_api.RegisterNodeRequest(node=node))
        status = ipam_api.GetStatusRequest()

        async def active() -> bool:
            return (await ipam.GetStatus(status)).active

        await poll(active, START_SECONDS, what="ipam to decide")
        reservation = {"name": "printers", "network": "production", "ranges": ["10.40.4.0/22"]}
        await ipam.CreateReservation(ipam_api.CreateReservationRequest(reservation=reservation))
        for number in range(1, NODES + 1):
            specs = [
                allocation_pb2.AllocationSpec(
                    name=f"{tenant}-{number}-{each}", node=f"n{number}", tenant=tenant
                )
                for tenant in ("production", "test", "qa")
                for each in range(draw.randint(20, 400 if tenant == "production" else 90))
            ]
            answer = await ipam.AllocateAddresses(ipam_api.AllocateAddressesRequest(specs=specs))
            assert all(result.status.code == 0 for result in answer.results)


def main(target: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        etcd = LocalEtcd(Path(folder) / "etcd")
        asyncio.run(etcd.start())
        try:
            with running(etcd.endpoint, "/picture", Path(folder)) as site:
                asyncio.run(fill(site))
                site.until(lambda: site.get("/api/map/production")["usage"]["used"] > 1000, "use")
                photograph(site, target)
        finally:
            etcd.stop()


def photograph(site: Site, target: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{site.url}/map/production")
        page.locator(".cells a").first.wait_for()
        page.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
