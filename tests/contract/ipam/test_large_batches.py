"""The largest batches: all that was done is told, in an answer that fits into a message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2
from romana.ipam.v1 import allocation_pb2
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.rpc.channel import open_channel
from services.common.sizes import ANSWER_BYTES, BATCH_ADDRESSES, BATCH_ITEMS
from tests.conftest import Store
from tests.contract.ipam.asking import refused
from tests.support.ipam_process import IpamProcess, seed
from tests.support.topologies import layout, network, node

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

NETWORKS = 30
"""A refusal says of each why: 10,000 have 40 MiB."""
NODE = "worker-1.rack-1.example.com"


@pytest.fixture
async def stub(store: Store, tmp_path: Path) -> AsyncIterator[IpamServiceAsyncStub]:
    nets = [network(f"network-{n}", f"10.{n}.0.0/29", 29) for n in range(NETWORKS)]
    await seed(store.client, store.keys, layout(nets), [node(NODE)])
    with IpamProcess.started(store.endpoint, store.keys.root, tmp_path) as one:
        await one.wait_until_active()
        async with open_channel(one.address) as channel:
            yield IpamServiceStub(channel)


def spec(number: int, addresses: int = 0) -> allocation_pb2.AllocationSpec:
    wanted = [allocation_pb2.AddressSpec() for _ in range(addresses)]
    return allocation_pb2.AllocationSpec(
        name=f"pod-{number}", node=NODE, tenant=f"t{number % 3}", addresses=wanted
    )


@pytest.mark.timeout(180)
async def test_what_was_given_is_told_beside_thousands_of_refusals(
    stub: IpamServiceAsyncStub,
) -> None:
    specs = [spec(number) for number in range(BATCH_ITEMS)]
    for _ in range(2):
        answer = await stub.AllocateAddresses(pb.AllocateAddressesRequest(specs=specs), timeout=120)
        assert answer.ByteSize() <= ANSWER_BYTES
        given = [result for result in answer.results if result.allocations]
        assert len(given) == NETWORKS * 8
        status = await stub.GetStatus(pb.GetStatusRequest())
        assert status.addresses == len(given)
        errors = [result.status for result in answer.results if not result.allocations]
        assert len(errors) == BATCH_ITEMS - len(given)
        for error in errors[:: len(errors) // 50]:
            info = error_details_pb2.ErrorInfo()
            assert error.details[0].Unpack(info)
            assert info.reason == "ADDRESSES_EXHAUSTED"
            assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            assert error.message.startswith("cannot give an address to tenant")


@pytest.mark.timeout(180)
async def test_what_could_not_be_answered_is_refused_before_anything_is_given(
    stub: IpamServiceAsyncStub,
) -> None:
    specs = [spec(number, addresses=16) for number in range(BATCH_ADDRESSES // 16 + 1)]
    with refused() as said:
        await stub.AllocateAddresses(pb.AllocateAddressesRequest(specs=specs), timeout=120)
    assert said.reasons == ["INVALID_INPUT"]
    assert (await stub.GetStatus(pb.GetStatusRequest())).addresses == 0
    specs.pop()
    answer = await stub.AllocateAddresses(pb.AllocateAddressesRequest(specs=specs), timeout=120)
    assert len(answer.results) == len(specs)


@pytest.mark.timeout(180)
async def test_releases_that_are_refused_are_answered_whole(stub: IpamServiceAsyncStub) -> None:
    await stub.AllocateAddresses(
        pb.AllocateAddressesRequest(specs=[spec(number) for number in range(100)])
    )
    releases = [
        pb.ReleaseSpec(name=f"pod-{n}", tenant="x" * 63, segment="y" * 63)
        for n in range(BATCH_ITEMS)
    ]
    answer = await stub.ReleaseAddresses(pb.ReleaseAddressesRequest(specs=releases), timeout=120)
    assert answer.ByteSize() <= ANSWER_BYTES
    assert len(answer.results) == BATCH_ITEMS
    assert sum(result.status.code != 0 for result in answer.results) == 100
