"""What each role may do at ipam, at the active replica and by way of the other."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from romana.ipam.v1 import block_pb2
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AddressSpec, AllocationSpec
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.errors import RomanaError
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.model.names import Tenant
from services.common.model.node import NodeAllowance
from services.common.rpc.channel import open_channel
from services.common.rpc.status import error_of
from services.common.tls import TlsFiles
from tests.support.certificates import Authority
from tests.support.ipam_process import IpamProcess, poll, seed, wait_until_one_active
from tests.support.topologies import layout, network, node

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub as Stub

ROLES = {
    "operator": "romana:operator",
    "orchestrator": "romana:orchestrator",
    "reader": "romana:reader",
    "team": "romana:tenant:qa romana:tenant:test",
    "n1": "romana:node:n1",
    "nobody": "",
}


@dataclass(frozen=True)
class Cluster:
    """Two replicas, and a certificate of each role."""

    active: IpamProcess
    standby: IpamProcess
    files: dict[str, TlsFiles]

    @contextlib.asynccontextmanager
    async def asking(self, role: str, *, standby: bool = False) -> AsyncIterator[Stub]:
        address = (self.standby if standby else self.active).address
        async with open_channel(address, tls=self.files[role]) as channel:
            yield IpamServiceStub(channel)


@pytest.fixture(scope="module")
def parts(
    shared_etcd: LocalEtcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[IpamProcess], dict[str, TlsFiles]]]:
    folder, root = tmp_path_factory.mktemp("roles"), f"/test-{uuid.uuid4().hex[:12]}"
    authority = Authority(folder / "ca")
    service = authority.issue("service", uri="romana:service")
    files = {name: authority.issue(name, uri=uri) for name, uri in ROLES.items()}
    replicas = [
        IpamProcess([shared_etcd.endpoint], root, folder, name=name, tls=service)
        for name in ("one", "two")
    ]
    try:
        for one in replicas:
            one.start()
        yield root, replicas, files
    finally:
        for one in replicas:
            one.kill()


@pytest.fixture
async def cluster(
    shared_etcd: LocalEtcd, parts: tuple[str, list[IpamProcess], dict[str, TlsFiles]]
) -> Cluster:
    root, replicas, files = parts
    keys = Keys(root)
    allowed = NodeAllowance(tenants=(Tenant("shop"),), names=("job-*",))
    nodes = [replace(node("n1"), allowance=allowed), node("n2")]
    async with EtcdClient([shared_etcd.endpoint]) as client:
        await seed(
            client,
            keys,
            layout([network("net", "10.0.0.0/24"), network("own", "10.1.0.0/24", tenants=("qa",))]),
            nodes,
        )
    active = await wait_until_one_active(replicas)
    standby = next(one for one in replicas if one is not active)
    await standby.wait_until_serving()
    return Cluster(active, standby, files)


async def allocate(stub: Stub, name: str, on: str, tenant: str = "shop") -> str:
    spec = AllocationSpec(name=name, node=on, tenant=tenant)
    answer = await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec))
    return answer.allocations[0].address


async def refusal(call: Any) -> RomanaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_of(caught.value)


@pytest.mark.parametrize("standby", [False, True], ids=["active", "standby"])
async def test_a_node_takes_only_what_it_may(cluster: Cluster, standby: bool) -> None:  # noqa: FBT001
    """The active replica decides by who asked, whatever way the call took."""
    at = "standby" if standby else "active"
    async with cluster.asking("n1", standby=standby) as n1, cluster.asking("operator") as operator:
        others = await allocate(operator, f"db-{at}", "n2")
        assert await allocate(n1, f"n1/{at}", "n1")
        assert await allocate(n1, f"job-{at}", "n1")
        for call, reason in (
            (allocate(n1, f"web-{at}", "n1"), "NAME_NOT_ALLOWED"),
            (allocate(n1, f"n1/{at}-2", "n1", "admin"), "TENANT_NOT_ALLOWED"),
            (allocate(n1, f"n1/{at}-2", "n2"), "NOT_THIS_NODE"),
            (allocate(n1, f"db-{at}", "n1"), "NAME_TAKEN"),
            (n1.GetAddress(pb.GetAddressRequest(name=f"db-{at}")), "ALLOCATION_NOT_FOUND"),
            (n1.GetAddress(pb.GetAddressRequest(address=others)), "ALLOCATION_NOT_FOUND"),
            (n1.ListAddresses(pb.ListAddressesRequest()), "NOT_THIS_NODE"),
            (n1.EvaluateNodes(pb.EvaluateNodesRequest(tenant="shop")), "OTHER_ROLE"),
        ):
            assert (await refusal(call)).reason == reason
        scheduled = await allocate(operator, f"web-{at}", "n1", "admin")
        assert await allocate(n1, f"web-{at}", "n1", "admin") == scheduled

        async def is_found() -> bool:
            try:
                found = await n1.GetAddress(pb.GetAddressRequest(name=f"web-{at}"))
            except grpc.aio.AioRpcError:
                return False
            return found.allocations[0].address == scheduled

        await poll(is_found, 30)  # the standby replica learns of it a moment later


async def test_each_of_a_batch_is_bounded(cluster: Cluster) -> None:
    specs = [
        AllocationSpec(name=name, node="n1", tenant=tenant)
        for name, tenant in (
            ("n1/b1", "shop"),
            ("b2", "shop"),
            ("n1/b3", "admin"),
            ("job-b", "shop"),
        )
    ]
    async with cluster.asking("n1", standby=True) as n1:
        answer = await n1.AllocateAddresses(pb.AllocateAddressesRequest(specs=specs))
    assert [item.status.code for item in answer.results] == [0, 7, 7, 0]


@pytest.mark.parametrize("standby", [False, True], ids=["active", "standby"])
async def test_a_node_reserves_nothing_but_a_conflict(cluster: Cluster, standby: bool) -> None:  # noqa: FBT001
    async with cluster.asking("n1", standby=standby) as n1, cluster.asking("operator") as operator:
        at = "standby" if standby else "active"
        others = await allocate(operator, f"other-{at}", "n2")
        own = await allocate(n1, f"n1/conflict-{at}", "n1")

        def reserve(stub: Stub, ranges: str) -> Any:
            reservation = block_pb2.Reservation(
                name=f"conflict-{ranges}".replace("/", "-"), network="net", ranges=[ranges]
            )
            return stub.CreateReservation(pb.CreateReservationRequest(reservation=reservation))

        for ranges in ("10.0.0.0/24", others, "10.0.0.200"):
            assert (await refusal(reserve(n1, ranges))).reason == "NOT_THIS_NODE"
        made = await reserve(n1, own)
        assert made.reservation.node == "n1"
        assert await reserve(n1, own) == made
        delete = pb.DeleteReservationRequest(name=f"conflict-{own}")
        assert (await refusal(n1.DeleteReservation(delete))).reason == "NOT_OPERATOR"
        await operator.DeleteReservation(delete)


async def test_a_node_releases_only_its_own(cluster: Cluster) -> None:
    async with cluster.asking("n1") as n1, cluster.asking("operator") as operator:
        await allocate(operator, "kept", "n2", "secret-tenant")
        spec = pb.ReleaseSpec(name="kept", node="n1", tenant="shop")
        error = await refusal(n1.ReleaseAddress(pb.ReleaseAddressRequest(spec=spec)))
        assert error.reason == "OTHER_NODE"
        assert "secret-tenant" not in error.message + str(error.metadata)


async def test_an_orchestrator_places_endpoints_anywhere_and_changes_nothing_else(
    cluster: Cluster,
) -> None:
    async with cluster.asking("orchestrator", standby=True) as stub:
        assert await allocate(stub, "anything", "n2", "admin")
        evaluated = await stub.EvaluateNodes(pb.EvaluateNodesRequest(tenant="shop"))
        assert evaluated.evaluations
        call = stub.DeleteReservation(pb.DeleteReservationRequest(name="none"))
        assert (await refusal(call)).reason == "NOT_OPERATOR"


async def test_a_reader_looks_and_takes_nothing(cluster: Cluster) -> None:
    async with cluster.asking("reader") as stub:
        await stub.ListAddresses(pb.ListAddressesRequest())
        assert (await refusal(allocate(stub, "a", "n1"))).reason == "OTHER_ROLE"


async def test_without_a_role_nothing_is_answered(cluster: Cluster) -> None:
    async with cluster.asking("nobody") as stub:
        for call in (
            stub.GetStatus(pb.GetStatusRequest()),
            stub.ListAddresses(pb.ListAddressesRequest()),
            allocate(stub, "a", "n1"),
        ):
            assert (await refusal(call)).reason == "NO_ROLE"


async def test_who_asks_is_not_believed_from_others_than_services(cluster: Cluster) -> None:
    spec = AllocationSpec(name="x", node="n1", tenant="shop", addresses=[AddressSpec()])
    async with cluster.asking("n1") as n1:
        call = n1.AllocateAddress(
            pb.AllocateAddressRequest(spec=spec), metadata=(("x-romana-caller", "romana:operator"),)
        )
        assert (await refusal(call)).reason == "NAME_NOT_ALLOWED"
