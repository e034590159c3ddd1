"""Requests in a line, and what a failed call says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AddressSpec, Allocation, AllocationSpec
from romana.ipam.v1.utilization_pb2 import Exhaustion

from services.common.rpc.status import DETAILS_KEY, code_of

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub


@dataclass
class Said:
    """What the status of a failed call says."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    reasons: list[str] = field(default_factory=list)
    """Of all ErrorInfos."""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    """Paths of field violations."""
    exhaustion: Exhaustion | None = None
    retry: bool = False

    def read(self, status: status_pb2.Status) -> Said:
        self.code, self.message = code_of(status), status.message
        for detail in status.details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            exhaustion, retry = Exhaustion(), error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                assert info.domain == "romana"
                self.reasons.append(info.reason)
                self.metadata = dict(info.metadata)
            elif detail.Unpack(bad):
                self.fields = [item.field for item in bad.field_violations]
            elif detail.Unpack(exhaustion):
                self.exhaustion = exhaustion
            elif detail.Unpack(retry):
                self.retry = True
        return self


@contextlib.contextmanager
def refused() -> Iterator[Said]:
    """Expects a call to fail, with exactly one ErrorInfo."""
    said = Said()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        yield said
    for key, value in raised.value.trailing_metadata() or ():
        if key == DETAILS_KEY:
            assert isinstance(value, bytes)
            said.read(status_pb2.Status.FromString(value))
    assert said.code == raised.value.code(), raised.value
    assert len(said.reasons) == 1, raised.value


def spec(
    name: str,
    node: str = "h1",
    tenant: str = "t",
    segment: str = "",
    addresses: Sequence[AddressSpec] = (),
) -> AllocationSpec:
    return AllocationSpec(
        name=name, node=node, tenant=tenant, segment=segment, addresses=list(addresses)
    )


async def allocate(
    stub: IpamServiceAsyncStub,
    name: str,
    node: str = "h1",
    tenant: str = "t",
    segment: str = "",
    addresses: Sequence[AddressSpec] = (),
) -> list[Allocation]:
    request = pb.AllocateAddressRequest(spec=spec(name, node, tenant, segment, addresses))
    return list((await stub.AllocateAddress(request, timeout=20)).allocations)


async def one(stub: IpamServiceAsyncStub, name: str, node: str = "h1", tenant: str = "t") -> str:
    return (await allocate(stub, name, node, tenant))[0].address


async def release(stub: IpamServiceAsyncStub, name: str, **claim: str) -> list[str]:
    request = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name=name, **claim))
    return list((await stub.ReleaseAddress(request, timeout=20)).addresses)


async def addresses_of(stub: IpamServiceAsyncStub, name: str) -> list[str]:
    """Empty: nothing is allocated to it."""
    try:
        found = await stub.GetAddress(pb.GetAddressRequest(name=name), timeout=20)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return []
        raise
    return [item.address for item in found.allocations]


async def findings(stub: IpamServiceAsyncStub) -> list[str]:
    """Reasons of what the consistency check finds; asserts that it comes to its end."""
    found, done = [], False
    async for progress in stub.CheckConsistency(pb.CheckConsistencyRequest(), timeout=30):
        found += [item.reason for item in progress.findings]
        done = progress.done
    assert done
    return found
