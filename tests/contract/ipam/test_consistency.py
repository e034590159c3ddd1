"""The consistency check, with the store as it should be and with what others wrote into it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address

import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.block_pb2 import Reservation

from services.common.model.names import NetworkName
from services.common.records.blocks import BlockPage, PageUse, encode
from tests.contract.ipam.asking import findings, one, spec
from tests.contract.ipam.conftest import Pair, usual_layout
from tests.support.ipam_process import drop_nodes, poll, seed
from tests.support.topologies import node

BOTH = pytest.mark.parametrize("by", ["stub", "other"])


async def plant(pair: Pair, base: int, record: BlockPage | bytes, page: int = 0) -> str:
    """Writes a page past the service, to be removed in the end; returns its key."""
    key = pair.keys.block(NetworkName("net"), base, page, 32)
    document = record if isinstance(record, bytes) else encode(record)
    await pair.client.put(key, document)
    return key


@BOTH
async def test_a_store_as_it_should_be(pair: Pair, by: str) -> None:
    specs = [spec(f"n{number}", f"h{number % 2 + 1}", f"t{number % 7}") for number in range(200)]
    await pair.stub.AllocateAddresses(pb.AllocateAddressesRequest(specs=specs))
    assert await findings(getattr(pair, by)) == []


@BOTH
async def test_a_page_that_cannot_be_read_is_that_and_nothing_else(pair: Pair, by: str) -> None:
    """Its block is known, and is not in memory alone."""
    await one(pair.stub, "a")
    await plant(pair, int(ip_address("10.0.0.0")), b"{")
    assert await findings(getattr(pair, by)) == ["UNREADABLE"]


async def test_checks_at_once_all_come_to_their_end_and_allocations_go_on(pair: Pair) -> None:
    specs = [spec(f"n{number}", f"h{number % 2 + 1}", f"t{number % 7}") for number in range(150)]
    await pair.stub.AllocateAddresses(pb.AllocateAddressesRequest(specs=specs))
    checks = [asyncio.create_task(findings(pair.stub)) for _ in range(5)]
    given = [await one(pair.stub, f"m{number}") for number in range(20)]
    assert len(set(given)) == 20
    assert await asyncio.gather(*checks) == [[]] * 5


async def test_the_check_counts_what_it_read(pair: Pair) -> None:
    await one(pair.stub, "a")
    await one(pair.stub, "b", "h2")
    last = None
    async for progress in pair.stub.CheckConsistency(pb.CheckConsistencyRequest()):
        last = progress
    assert last is not None
    assert (last.done, last.addresses) == (True, 2)
    assert last.blocks == last.total_blocks >= 2
    assert last.revision


@BOTH
@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"{", "UNREADABLE"),
        (b'{"length": 29, "used": [[9, "x", 1]]}', "ADDRESS_OUTSIDE_BLOCK"),
        (b'{"length": 29, "used": [[1, "x", 1], [1, "y", 1]]}', "DUPLICATE_ADDRESS"),
        (
            BlockPage(29, "h1", "t", used=(PageUse(0, "a", 1),), born=99),
            "DUPLICATE_NAME",
        ),
        (
            BlockPage(29, "h2", "u", used=(PageUse(0, "a", 1, 1),), born=99),
            "NAME_OF_TWO_OWNERS",
        ),
        (BlockPage(29, "h1", "t", used=(PageUse(0, "x", 1, 1),), born=99), "NAME_INCOMPLETE"),
        (BlockPage(23, "h1", "t", born=99), "BLOCKS_OVERLAP"),
    ],
)
async def test_what_somebody_else_wrote_is_found(
    pair: Pair, by: str, record: BlockPage | bytes, expected: str
) -> None:
    await one(pair.stub, "a")
    base = 0x0A000000 - 256 if isinstance(record, BlockPage) and record.length == 23 else 0x0A0000C0
    key = await plant(pair, base, record)
    try:
        found = await findings(getattr(pair, by))
        assert expected in found
    finally:
        await _remove(pair, key)
    assert await findings(pair.stub) == []


@BOTH
async def test_an_address_that_somebody_else_has_besides_is_found(pair: Pair, by: str) -> None:
    """Written past topology, which refuses it: a node's address, and a gateway."""
    assert [await one(pair.stub, name) for name in "ab"] == ["10.0.0.0", "10.0.0.1"]
    await seed(pair.client, pair.keys, None, [node("h9", address="10.0.0.0")])
    made = usual_layout()
    other = replace(made.networks[0], gateway=ip_address("10.0.0.1"))
    await seed(pair.client, pair.keys, replace(made, networks=(other, *made.networks[1:])))
    try:

        async def found() -> bool:
            return await findings(getattr(pair, by)) == ["ADDRESS_TWICE"] * 2

        await poll(found, 20.0)
    finally:
        await drop_nodes(pair.client, pair.keys, ["h9"])
        await seed(pair.client, pair.keys, made)


@BOTH
async def test_what_is_set_aside_and_stays_in_use_is_a_warning(pair: Pair, by: str) -> None:
    assert await one(pair.stub, "a") == "10.0.0.0"
    wanted = Reservation(name="r", network="net", ranges=["10.0.0.0/30"])
    request = pb.CreateReservationRequest(reservation=wanted, allow_in_use=True)
    await pair.stub.CreateReservation(request)

    async def found() -> bool:
        severities = [
            (item.reason, item.severity)
            async for progress in getattr(pair, by).CheckConsistency(pb.CheckConsistencyRequest())
            for item in progress.findings
        ]
        return severities == [("RESERVED_IN_USE", pb.SEVERITY_WARNING)]

    await poll(found, 20.0)


async def test_a_block_that_memory_does_not_know(pair: Pair) -> None:
    key = await plant(pair, 0x0A0000C0, BlockPage(29, "h1", "t", born=99))
    try:
        assert await findings(pair.stub) == ["MEMORY_DIFFERS"]
    finally:
        await _remove(pair, key)


async def test_a_change_that_memory_does_not_know(pair: Pair) -> None:
    await one(pair.stub, "a")
    key = pair.keys.block(NetworkName("net"), 0x0A000000, 0, 32)
    before = await pair.client.get(key)
    assert before is not None
    await plant(pair, 0x0A000000, before.value.replace(b'"a"', b'"b"'))
    try:
        assert await findings(pair.stub) == ["MEMORY_DIFFERS"]
    finally:
        await pair.client.put(key, before.value)


async def test_a_block_that_is_in_memory_only(pair: Pair) -> None:
    await one(pair.stub, "a")
    key = pair.keys.block(NetworkName("net"), 0x0A000000, 0, 32)
    before = await pair.client.get(key)
    assert before is not None
    await _remove(pair, key)
    try:
        assert await findings(pair.stub) == ["NOT_IN_STORE"]
    finally:
        await pair.client.put(key, before.value)


async def _remove(pair: Pair, key: str) -> None:
    from services.common.etcd.types import Delete

    await pair.client.transact((), (Delete(key),))
