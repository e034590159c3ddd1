"""Whole agents with real certificates, and ipam that serves nobody without."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
from romana.agent.v1 import agent_service_pb2
from romana.ipam.v1 import allocation_pb2
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.rpc.channel import open_channel
from services.common.rpc.status import error_of
from services.common.tls import TlsFiles
from tests.support.agent_node import NODE, RealNode
from tests.support.certificates import Authority
from tests.support.ipam_process import IpamProcess, poll, seed
from tests.support.netns import Namespaces
from tests.support.topologies import layout, network, node

OWN_NAME = f"{NODE}/web-1"
"""A node's certificate takes only names of its own."""


@dataclass(frozen=True)
class Secured:
    """Ipam, and who may ask it."""

    ipam: IpamProcess
    operator: TlsFiles
    node: TlsFiles
    other: TlsFiles


@pytest.fixture(scope="module")
def secured(shared_etcd: LocalEtcd) -> Iterator[Secured]:
    with tempfile.TemporaryDirectory(prefix="rt-") as folder:
        ours = Authority(Path(folder) / "ca")
        own = ours.issue("ipam", uri="romana:service")
        keys = Keys(f"/test-{uuid.uuid4().hex[:12]}")
        replica = IpamProcess([shared_etcd.endpoint], keys.root, Path(folder), tls=own)
        replica.address = f"unix:{folder}/ipam.sock"
        replica._environment["ROMANA_IPAM__LISTEN__ADDRESS"] = replica.address
        made = Secured(
            replica,
            ours.issue("operator", uri="romana:operator"),
            ours.issue("agent-1", uri=f"romana:node:{NODE}"),
            ours.issue("agent-2", uri="romana:node:n2"),
        )
        asyncio.run(_seed(shared_etcd.endpoint, keys))
        try:
            replica.start()
            asyncio.run(_active(made))
            yield made
        finally:
            replica.kill()


async def _seed(endpoint: str, keys: Keys) -> None:
    async with EtcdClient([endpoint]) as client:
        known = [node(NODE, address="192.168.0.1"), node("n2", address="192.168.0.2")]
        await seed(client, keys, layout([network("net", "10.1.0.0/24")]), known)


async def _active(made: Secured) -> None:
    async with asking(made, made.operator) as stub:

        async def active() -> bool:
            try:
                return bool((await stub.GetStatus(pb.GetStatusRequest(), timeout=2)).active)
            except grpc.aio.AioRpcError:
                return False

        await poll(active, 60)


@asynccontextmanager
async def asking(made: Secured, tls: TlsFiles) -> AsyncIterator[IpamServiceStub]:
    async with open_channel(made.ipam.address, tls=tls) as channel:
        yield IpamServiceStub(channel)


@asynccontextmanager
async def agent(made: Secured, tls: TlsFiles, folder: Path) -> AsyncIterator[RealNode]:
    """An agent of n1 with a certificate."""

    class Certified(RealNode):
        networks = ("net",)
        more = {  # noqa: RUF012 - read only
            "TLS__CA": str(tls.ca),
            "TLS__CERTIFICATE": str(tls.certificate),
            "TLS__KEY": str(tls.key),
        }

    with Namespaces() as namespaces:
        there = Certified(namespaces, folder, made.ipam)
        there.home.link(namespaces.new("outside"), "up0", "up0")
        there.home.run("ip addr add 192.168.0.1/24 dev up0")
        async with there:
            there.start()
            yield there


def spec(name: str) -> allocation_pb2.AllocationSpec:
    wanted = [allocation_pb2.AddressSpec(network="net")]
    return allocation_pb2.AllocationSpec(name=name, node=NODE, tenant="t", addresses=wanted)


async def test_an_agent_with_its_own_certificate_works(secured: Secured, folder: Path) -> None:
    async with agent(secured, secured.node, folder) as there:
        await there.ready()
        pod = there.namespaces.new("pod")
        address = (await there.attach(OWN_NAME, pod)).endpoint.addresses[0].address
        assert await asyncio.to_thread(there.home.pings, address)
        assert (await there.detach(OWN_NAME)).addresses == [address]


async def test_an_agent_with_another_nodes_certificate_gets_no_stream(
    secured: Secured, folder: Path
) -> None:
    async with agent(secured, secured.other, folder) as there:
        await poll(lambda: "NOT_THIS_NODE" in there.log.read_text(), 30)
        status = await there.stub.GetStatus(
            agent_service_pb2.GetStatusRequest(), timeout=20, wait_for_ready=True
        )
        # it may be trying again just now: what counts is that it was told nothing
        assert not status.applied.epoch
        assert not status.ready


async def test_a_node_allocates_and_releases_for_itself_only(secured: Secured) -> None:
    asked = pb.AllocateAddressRequest(spec=spec(OWN_NAME))
    async with asking(secured, secured.other) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.AllocateAddress(asked)
        assert error_of(refused.value).reason == "NOT_THIS_NODE"
    release = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name=OWN_NAME, node=NODE))
    async with asking(secured, secured.node) as stub:
        given = await stub.AllocateAddress(asked)
        assert len(given.allocations) == 1
        assert len((await stub.ReleaseAddress(release)).addresses) == 1


async def test_only_an_operator_deletes_a_reservation(secured: Secured) -> None:
    request = pb.DeleteReservationRequest(name="none")
    async with asking(secured, secured.node) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.DeleteReservation(request)
        assert error_of(refused.value).reason == "NOT_OPERATOR"
    async with asking(secured, secured.operator) as stub:
        await stub.DeleteReservation(request)  # idempotent: there is none
