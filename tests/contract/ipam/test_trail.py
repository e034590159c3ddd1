"""What every allocation and release leaves in the log: who, what, when, by which request."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AddressSpec, AllocationSpec
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.rpc.channel import open_channel
from services.common.rpc.metadata_keys import REQUEST_ID_KEY
from tests.conftest import Store
from tests.contract.ipam.asking import spec
from tests.contract.ipam.conftest import NODES, usual_layout
from tests.support.certificates import Authority
from tests.support.ipam_process import IpamProcess, poll, seed, wait_until_one_active

SECONDS = 60.0


@contextlib.asynccontextmanager
async def two(
    store: Store, folder: Path, authority: Authority | None = None
) -> AsyncIterator[tuple[IpamProcess, IpamProcess]]:
    """The active one, and the other."""
    await seed(store.client, store.keys, usual_layout(), NODES)
    service = authority.issue("service", uri="romana:service") if authority else None
    replicas = [
        IpamProcess([store.endpoint], store.keys.root, folder, name=name, tls=service)
        for name in ("one", "two")
    ]
    try:
        for each in replicas:
            each.start()
        active = await wait_until_one_active(replicas)
        (other,) = (each for each in replicas if each is not active)
        await other.wait_until_serving()
        yield active, other
    finally:
        for each in replicas:
            each.kill()


async def trail(replica: IpamProcess, entries: int) -> list[dict[str, Any]]:
    """The lines about addresses, when there are so many."""
    found: list[dict[str, Any]] = []

    def complete() -> bool:
        lines = [json.loads(line) for line in replica.log.read_text().splitlines()]
        found[:] = [line for line in lines if line["event"].startswith("address_")]
        return len(found) >= entries

    await poll(complete, SECONDS)
    assert len(found) == entries
    return found


@pytest.mark.parametrize("way", ["active", "standby"])
async def test_each_address_is_said_by_whoever_decided(
    store: Store, tmp_path: Path, way: str
) -> None:
    async with two(store, tmp_path) as (active, other):
        asked = active if way == "active" else other
        async with asked.connect() as stub:
            wanted = AllocationSpec(
                name="web-1", node="h1", tenant="shop", segment="front",
                addresses=[AddressSpec(network="net"), AddressSpec(network="six")],
            )  # fmt: skip
            request = pb.AllocateAddressRequest(spec=wanted, request_id="by-message")
            answer = await stub.AllocateAddress(request)
            await stub.AllocateAddress(request)  # the same again is no allocation
            release = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name="web-1"))
            await stub.ReleaseAddress(release, metadata=((REQUEST_ID_KEY, "by-metadata"),))
            await stub.ReleaseAddress(release)  # releases nothing
            four, six = (item.address for item in answer.allocations)

        lines = await trail(active, 4)
        assert [(line["event"], line["address"], line["network"]) for line in lines] == [
            ("address_allocated", four, "net"),
            ("address_allocated", six, "six"),
            ("address_released", four, "net"),
            ("address_released", six, "six"),
        ]
        assert [line["request_id"] for line in lines] == ["by-message"] * 2 + ["by-metadata"] * 2
        for line in lines:
            assert (line["name"], line["caller"], line["level"]) == ("web-1", "127.0.0.1", "info")
            assert (line["service"], bool(line["version"])) == ("ipam", True)
            assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
        assert (lines[0]["node"], lines[0]["tenant"], lines[0]["segment"]) == (
            "h1",
            "shop",
            "front",
        )
        assert await trail(other, 0) == []


async def test_a_batch_and_a_stream_leave_a_line_for_each(store: Store, tmp_path: Path) -> None:
    async with two(store, tmp_path) as (active, other), other.connect() as stub:
        specs = [spec(f"b{number}", f"h{number % 2 + 1}", f"t{number % 3}") for number in range(9)]
        bad = spec("bad", "nowhere")
        batch = pb.AllocateAddressesRequest(specs=[*specs[:4], bad, *specs[4:]], request_id="batch")
        await stub.AllocateAddresses(batch)
        stream = stub.AllocateStream(metadata=((REQUEST_ID_KEY, "stream"),))
        await stream.write(pb.AllocateStreamRequest(specs=[spec("s", "h1")]))
        await stream.read()
        await stream.done_writing()
        await stub.ReleaseAddresses(
            pb.ReleaseAddressesRequest(
                specs=[pb.ReleaseSpec(name=item.name) for item in specs], request_id="gone"
            )
        )
        lines = await trail(active, 19)
        by_request = {
            request: {line["name"] for line in lines if line["request_id"] == request}
            for request in ("batch", "stream", "gone")
        }
        names = {item.name for item in specs}
        assert by_request == {"batch": names, "stream": {"s"}, "gone": names}


async def test_who_asked_is_what_the_certificate_says(store: Store, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    async with two(store, tmp_path, authority) as (active, other):
        for asked, name in ((active, "alice"), (other, "bob")):
            files = authority.issue(name, uri="romana:operator")
            async with open_channel(asked.address, tls=files) as channel:
                request = pb.AllocateAddressRequest(spec=spec(name, "h1"))
                await IpamServiceStub(channel).AllocateAddress(request)
        lines = await trail(active, 2)
        assert [line["caller"] for line in lines] == [
            "alice, romana:operator",
            "bob, romana:operator",
        ]
