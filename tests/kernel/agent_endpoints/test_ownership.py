"""Ipam forgets an address that is in use on a node, or gives it to somebody else."""

from __future__ import annotations

import asyncio

import pytest
from romana.ipam.v1 import allocation_pb2, sync_routes_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_pb

from tests.kernel.agent_endpoints.test_upkeep import DEGRADED, is_ready, is_whole, state_of
from tests.support.agent_node import NODE, RealNode
from tests.support.ipam_process import poll


async def release(node: RealNode, name: str) -> None:
    async with node.ipam.connect() as stub:
        spec = ipam_pb.ReleaseSpec(name=name)
        await stub.ReleaseAddress(ipam_pb.ReleaseAddressRequest(spec=spec))


async def told(node: RealNode, *resources: str) -> bool:
    """Whether the agent complains of these to ipam."""
    async with node.ipam.connect() as stub:
        answer = await stub.GetSyncStatus(sync_routes_pb2.GetSyncStatusRequest(nodes=[NODE]))
    failures = [each for status in answer.statuses for each in status.failures]
    assert all(each.reason == "NOT_ALLOCATED" for each in failures)
    return {each.resource for each in failures} == set(resources)


async def allocate(node: RealNode, name: str, address: str, tenant: str = "t") -> None:
    async with node.ipam.connect() as stub:
        await stub.AllocateAddress(
            ipam_pb.AllocateAddressRequest(
                spec=allocation_pb2.AllocationSpec(
                    name=name,
                    node=NODE,
                    tenant=tenant,
                    addresses=[allocation_pb2.AddressSpec(address=address)],
                )
            )
        )


async def test_what_ipam_has_forgotten_is_claimed_again(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    address = (await real.attach("a", pod)).endpoint.addresses[0].address
    await release(real, "a")
    problems = (await real.check("a")).problems
    assert problems == [f"ipam has nothing for it on this node, not {address}"]

    async def claimed() -> bool:
        return await real.addresses() == [address]

    await poll(claimed, 60)
    await poll(lambda: is_whole(real, "a"), 60)
    assert await asyncio.to_thread(real.home.pings, address)


@pytest.mark.parametrize("tenant", ["t", "other"])
async def test_what_ipam_has_given_to_another_is_not_used_here(real: RealNode, tenant: str) -> None:
    pod = real.namespaces.new("pod")
    address = (await real.attach("a", pod)).endpoint.addresses[0].address
    await release(real, "a")
    await allocate(real, "b", address, tenant)

    async def withdrawn() -> bool:
        found = await state_of(real, "a")
        return found.state == DEGRADED and address in found.problem

    await poll(withdrawn, 60)
    assert (await real.check("a")).problems
    assert await is_ready(real)
    assert not await asyncio.to_thread(real.home.pings, address)
    await poll(lambda: told(real, "endpoint/a"), 60)

    await release(real, "b")
    await poll(lambda: is_whole(real, "a"), 60)
    assert await asyncio.to_thread(real.home.pings, address)
    assert await real.addresses() == [address]
    await poll(lambda: told(real), 60)


@pytest.mark.parametrize("tenant", ["t", "other"])
async def test_an_address_is_never_attached_twice(real: RealNode, tenant: str) -> None:
    pod, other = real.namespaces.new("pod"), real.namespaces.new("other")
    first = (await real.attach("a", pod)).endpoint.addresses[0].address
    await release(real, "a")
    second = (await real.attach("b", other, tenant=tenant)).endpoint.addresses[0].address
    assert second != first
    assert sorted(await real.addresses()) == sorted([first, second])
    await poll(lambda: is_whole(real, "a"), 60)
    for address in (first, second):
        assert await asyncio.to_thread(real.home.pings, address)


async def test_a_lost_journal_loses_no_link_however_long_its_name_is(real: RealNode) -> None:
    names = ["x" * length for length in (1, 239, 240, 253)]
    given = {}
    for number, name in enumerate(names):
        pod = real.namespaces.new(f"p{number}")
        given[name] = (await real.attach(name, pod)).endpoint.addresses[0].address
    links = real.links()
    real.kill()
    for path in (real.folder / "state" / "endpoints").iterdir():
        path.unlink()
    real.start()
    await real.ready()
    assert real.links() == links
    for name, address in given.items():
        assert await asyncio.to_thread(real.home.pings, address)
        assert (await real.detach(name)).addresses == [address]
    assert real.links() == []
