"""A team's certificate at ipam: its tenants' addresses and nothing of others, method by method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from romana.ipam.v1 import block_pb2
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.errors import RomanaError
from services.common.rpc.identity import Role
from services.common.rpc.role_table import SERVICES
from tests.contract.ipam.test_roles import Cluster, allocate, cluster, parts, refusal

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub as Stub

__all__ = ["cluster", "parts"]

TENANT = "NOT_THIS_TENANT"


def reservation(name: str, on: str, ranges: str) -> pb.CreateReservationRequest:
    return pb.CreateReservationRequest(
        reservation=block_pb2.Reservation(name=name, network=on, ranges=[ranges])
    )


async def reason(call: Awaitable[Any]) -> str:
    return (await refusal(call)).reason


async def items(answer: Awaitable[Any], field: str) -> list[str]:
    return [getattr(one, "name", "") or one.prefix for one in getattr(await answer, field)]


async def first_watched(team: Stub) -> list[str]:
    async for answer in team.WatchBlocks(pb.WatchBlocksRequest()):
        return sorted({block.tenant for block in answer.updated})
    return []


async def first_allocations(team: Stub) -> list[str]:
    async for answer in team.WatchAllocations(pb.WatchAllocationsRequest()):
        return sorted(each.name for each in answer.allocated)
    return []


async def batch(team: Stub) -> list[int]:
    specs = [pb.ReleaseSpec(name="shop-1"), pb.ReleaseSpec(name="nobody")]
    answer = await team.ReleaseAddresses(pb.ReleaseAddressesRequest(specs=specs))
    return [result.status.code for result in answer.results]


# What a team gets where it asks for others': the reason of a refusal, or what it sees.
OF_OTHERS: dict[str, tuple[Callable[[Stub], Awaitable[Any]], Any]] = {
    "AllocateAddress": (lambda team: reason(allocate(team, "x", "n1", "shop")), TENANT),
    "AllocateAddresses": (
        lambda team: reason(
            team.AllocateAddresses(
                pb.AllocateAddressesRequest(
                    specs=[AllocationSpec(name="x", node="n1", tenant="shop")]
                )
            )
        ),
        TENANT,
    ),
    "ReleaseAddress": (
        lambda team: reason(
            team.ReleaseAddress(pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name="shop-1")))
        ),
        TENANT,
    ),
    "ReleaseAddresses": (batch, [7, 0]),
    "GetAddress": (
        lambda team: reason(team.GetAddress(pb.GetAddressRequest(name="shop-1"))),
        "ALLOCATION_NOT_FOUND",
    ),
    "ListAddresses": (
        lambda team: items(team.ListAddresses(pb.ListAddressesRequest()), "allocations"),
        ["qa-1"],
    ),
    "ListBlocks": (
        lambda team: reason(team.ListBlocks(pb.ListBlocksRequest(tenant="shop"))),
        TENANT,
    ),
    "WatchBlocks": (first_watched, ["qa"]),
    "WatchAllocations": (first_allocations, ["qa-1"]),
    "CreateReservation": (
        lambda team: reason(team.CreateReservation(reservation("r", "net", "10.0.0.9"))),
        TENANT,
    ),
    "DeleteReservation": (
        lambda team: reason(team.DeleteReservation(pb.DeleteReservationRequest(name="others"))),
        TENANT,
    ),
    "ListReservations": (
        lambda team: items(team.ListReservations(pb.ListReservationsRequest()), "reservations"),
        [],
    ),
    "EvaluateNodes": (
        lambda team: reason(team.EvaluateNodes(pb.EvaluateNodesRequest(tenant="shop"))),
        TENANT,
    ),
    "EvaluateGroups": (
        lambda team: reason(team.EvaluateGroups(pb.EvaluateGroupsRequest(tenant="shop"))),
        TENANT,
    ),
}


def test_every_method_that_a_team_may_call_is_tried() -> None:
    rows = SERVICES["romana.ipam.v1.IpamService"]
    assert {name for name, row in rows.items() if Role.TENANT in row.roles} == set(OF_OTHERS)


async def test_a_team_neither_changes_nor_sees_what_is_anothers(cluster: Cluster) -> None:
    async with cluster.asking("operator") as operator, cluster.asking("team") as team:
        await allocate(operator, "shop-1", "n2", "shop")
        await operator.CreateReservation(reservation("others", "net", "10.0.0.77"))
        await allocate(team, "qa-1", "n1", "qa")
        for method, (ask, expected) in OF_OTHERS.items():
            assert await ask(team) == expected, method
        kept = await operator.GetAddress(pb.GetAddressRequest(name="shop-1"))
        assert kept.allocations


@pytest.mark.parametrize("standby", [False, True], ids=["active", "standby"])
async def test_a_team_takes_and_gives_back_its_own(cluster: Cluster, standby: bool) -> None:  # noqa: FBT001
    async with cluster.asking("team", standby=standby) as team:
        name = f"qa-{standby}"
        address = await allocate(team, name, "n1", "qa")
        assert address.startswith("10.1.0.")
        evaluated = await team.EvaluateNodes(pb.EvaluateNodesRequest(tenant="qa"))
        assert evaluated.evaluations[0].fits
        released = await team.ReleaseAddress(
            pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name=name))
        )
        assert list(released.addresses) == [address]
        await team.CreateReservation(reservation(name.lower(), "own", "10.1.0.99"))
        await team.DeleteReservation(pb.DeleteReservationRequest(name=name.lower()))


@pytest.mark.parametrize("standby", [False, True], ids=["active", "standby"])
async def test_who_has_a_name_that_is_taken_is_not_said(cluster: Cluster, standby: bool) -> None:  # noqa: FBT001
    async with cluster.asking("operator") as operator:
        await allocate(operator, "taken", "n2", "secret-tenant")
    async with cluster.asking("team", standby=standby) as team:
        error: RomanaError = await refusal(allocate(team, "taken", "n1", "qa"))
    assert error.reason == "NAME_TAKEN"
    assert "secret-tenant" not in f"{error.message}{error.metadata}"
