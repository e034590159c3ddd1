"""Every writing method, on the active replica and by way of the other one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import grpc
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1 import utilization_pb2
from romana.ipam.v1.allocation_pb2 import FAMILY_IPV4, FAMILY_IPV6, AddressSpec, AllocationSpec
from romana.ipam.v1.block_pb2 import Reservation

from tests.contract.ipam.asking import (
    Said,
    addresses_of,
    allocate,
    findings,
    one,
    refused,
    release,
    spec,
)
from tests.contract.ipam.conftest import Pair

BOTH = pytest.mark.parametrize("by", ["stub", "other"])


@BOTH
async def test_an_allocation_says_all_about_itself(pair: Pair, by: str) -> None:
    before = int(time.time())
    given = await allocate(getattr(pair, by), "a", "h2", "t", "s")
    assert len(given) == 1
    item = given[0]
    assert (item.name, item.node, item.tenant, item.segment) == ("a", "h2", "t", "s")
    assert (item.network, item.address, item.block) == ("net", "10.0.0.0", "10.0.0.0/29")
    assert before <= item.allocate_time.seconds <= time.time()


@BOTH
async def test_the_same_request_again(pair: Pair, by: str) -> None:
    stub = getattr(pair, by)
    first = await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec("a")))
    again = await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec("a")))
    assert (first.existed, again.existed) == (False, True)
    assert list(again.allocations) == list(first.allocations)


@BOTH
async def test_a_different_request_for_a_taken_name(pair: Pair, by: str) -> None:
    await one(pair.stub, "a")
    before = await pair.dump()
    with refused() as said:
        await one(getattr(pair, by), "a", "h2")
    assert (said.code, said.reasons) == (grpc.StatusCode.ALREADY_EXISTS, ["NAME_TAKEN"])
    assert said.metadata["node"] == "h1"
    assert await pair.dump() == before


@BOTH
async def test_dual_stack(pair: Pair, by: str) -> None:
    wanted = [AddressSpec(family=FAMILY_IPV6), AddressSpec(family=FAMILY_IPV4)]
    given = await allocate(getattr(pair, by), "a", addresses=wanted)
    assert [item.address for item in given] == ["2001:db8::", "10.0.0.0"]
    assert await addresses_of(pair.stub, "a") == ["2001:db8::", "10.0.0.0"]


@BOTH
async def test_exhaustion_is_explained(pair: Pair, by: str) -> None:
    wanted = [AddressSpec(family=FAMILY_IPV6), AddressSpec(network="slow")]
    before = await pair.dump()
    with refused() as said:
        await allocate(getattr(pair, by), "a", "h3", "slow", "", wanted)
    assert (said.code, said.reasons) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        ["ADDRESSES_EXHAUSTED"],
    )
    assert said.exhaustion is not None
    assert said.exhaustion.address_index == 0
    found = {item.network: item.refusal for item in said.exhaustion.networks}
    assert found["six"] == utilization_pb2.REFUSAL_NODE_NOT_ATTACHED
    assert found["net"] == utilization_pb2.REFUSAL_OTHER_FAMILY
    assert await pair.dump() == before


async def test_resting_addresses_say_for_how_long(pair: Pair) -> None:
    wanted = [AddressSpec(network="slow")]
    for name in "ab":
        await allocate(pair.stub, name, "h1", "slow", "", wanted)
    await release(pair.stub, "a")
    with refused() as said:
        await allocate(pair.stub, "c", "h1", "slow", "", wanted)
    assert said.exhaustion is not None
    item = said.exhaustion.networks[0]
    assert (item.network, item.group, item.resting) == ("slow", "dc/all", 1)
    assert item.refusal == utilization_pb2.REFUSAL_RESTING
    assert 3590 <= item.retry_after_seconds <= 3600


@BOTH
@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (AllocationSpec(), ["spec.name", "spec.node", "spec.tenant"]),
        (spec("x" * 254), ["spec.name"]),
        (spec("a\nb"), ["spec.name"]),
        (spec("a", "no/node"), ["spec.node"]),
        (spec("a", tenant="-"), ["spec.tenant"]),
        (spec("a", segment="ü"), ["spec.segment"]),
        (spec("a", addresses=[AddressSpec()] * 17), ["spec.addresses"]),
        (
            spec("a", addresses=[AddressSpec(), AddressSpec(address="10.0.0.256")]),
            ["spec.addresses[1].address"],
        ),
        (spec("a", addresses=[AddressSpec(network="n n")]), ["spec.addresses[0].network"]),
        (
            spec("a", addresses=[AddressSpec(family=7)]),  # type: ignore[arg-type]
            ["spec.addresses[0].family"],
        ),
        (
            spec("a", addresses=[AddressSpec(address="::1", family=FAMILY_IPV4)]),
            ["spec.addresses[0].address"],
        ),
    ],
)
async def test_bad_input_names_the_fields_and_changes_nothing(
    pair: Pair, by: str, asked: AllocationSpec, fields: list[str]
) -> None:
    before = await pair.dump()
    with refused() as said:
        await getattr(pair, by).AllocateAddress(pb.AllocateAddressRequest(spec=asked))
    assert (said.code, said.reasons) == (grpc.StatusCode.INVALID_ARGUMENT, ["INVALID_INPUT"])
    assert said.fields == fields
    assert await pair.dump() == before


@BOTH
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (spec("a", "nowhere"), "NODE_NOT_FOUND"),
        (spec("a", addresses=[AddressSpec(network="nowhere")]), "NETWORK_NOT_FOUND"),
    ],
)
async def test_what_is_not_there(pair: Pair, by: str, asked: AllocationSpec, reason: str) -> None:
    with refused() as said:
        await getattr(pair, by).AllocateAddress(pb.AllocateAddressRequest(spec=asked))
    assert (said.code, said.reasons) == (grpc.StatusCode.NOT_FOUND, [reason])


@BOTH
async def test_each_request_of_a_batch_is_answered_for_itself_and_in_order(
    pair: Pair, by: str
) -> None:
    asked = [
        spec("a"),
        spec("", "h1"),
        spec("b", "nowhere"),
        spec("a", "h2"),
        spec("c", tenant="own"),
        spec("a"),
    ]
    answer = await getattr(pair, by).AllocateAddresses(pb.AllocateAddressesRequest(specs=asked))
    said = [Said().read(item.status) for item in answer.results]
    assert [item.code for item in said] == [
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.OK,
        grpc.StatusCode.OK,
    ]
    assert said[1].fields == ["specs[1].name"]
    assert all(len(item.reasons) == 1 for item in said[1:4])
    assert [result.existed for result in answer.results] == [False] * 5 + [True]
    assert [item.address for item in answer.results[0].allocations] == ["10.0.0.0"]
    assert [item.address for item in answer.results[4].allocations] == ["10.0.1.0"]
    assert [item.address for item in answer.results[5].allocations] == ["10.0.0.0"]


@BOTH
async def test_a_batch_that_is_too_large(pair: Pair, by: str) -> None:
    with refused() as said:
        await getattr(pair, by).AllocateAddresses(
            pb.AllocateAddressesRequest(specs=[AllocationSpec()] * 10_001)
        )
    assert said.fields == ["specs"]


@BOTH
async def test_a_stream_answers_each_message_in_order(pair: Pair, by: str) -> None:
    async def messages() -> AsyncIterator[pb.AllocateStreamRequest]:
        for number in range(1, 21):
            yield pb.AllocateStreamRequest(
                sequence=number * 7, specs=[spec(f"n{number}-{item}") for item in range(5)]
            )

    seen, addresses = [], set()
    async for answer in getattr(pair, by).AllocateStream(messages(), timeout=30):
        seen.append(answer.sequence)
        addresses |= {item.address for result in answer.results for item in result.allocations}
    assert seen == [number * 7 for number in range(1, 21)]
    assert len(addresses) == 100


@BOTH
async def test_a_stream_goes_on_after_a_request_that_fails(pair: Pair, by: str) -> None:
    async def messages() -> AsyncIterator[pb.AllocateStreamRequest]:
        yield pb.AllocateStreamRequest(sequence=1, specs=[spec("a", "nowhere")])
        yield pb.AllocateStreamRequest(sequence=2, specs=[spec("b")])

    answers = [answer async for answer in getattr(pair, by).AllocateStream(messages(), timeout=30)]
    assert Said().read(answers[0].results[0].status).reasons == ["NODE_NOT_FOUND"]
    assert answers[1].results[0].allocations[0].address == "10.0.0.0"


@BOTH
async def test_a_stream_ends_at_a_message_that_is_too_large_after_answering_those_before(
    pair: Pair, by: str
) -> None:
    async def messages() -> AsyncIterator[pb.AllocateStreamRequest]:
        yield pb.AllocateStreamRequest(sequence=1, specs=[spec("a")])
        yield pb.AllocateStreamRequest(sequence=2, specs=[AllocationSpec()] * 10_001)

    seen = []
    with refused() as said:
        async for answer in getattr(pair, by).AllocateStream(messages(), timeout=30):
            seen.append(answer.sequence)  # noqa: PERF401 - the call fails in between
    assert (said.code, said.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["specs"])
    assert seen == [1]


@BOTH
async def test_a_stream_ends_at_a_message_that_cannot_be_decoded_after_answering_those_before(
    pair: Pair, by: str
) -> None:
    replica = pair.active if by == "stub" else pair.standby
    sound = pb.AllocateStreamRequest(sequence=1, specs=[spec("a")]).SerializeToString()
    seen = []
    async with replica.channel() as channel:
        stream = channel.stream_stream(
            "/romana.ipam.v1.IpamService/AllocateStream",
            response_deserializer=pb.AllocateStreamResponse.FromString,
        )
        with refused() as said:
            async for answer in stream(iter([sound, b"\xff\xff"]), timeout=30):
                seen.append(answer.sequence)  # noqa: PERF401 - the call fails in between
    assert said.code is grpc.StatusCode.INVALID_ARGUMENT
    assert seen == [1]
    assert (await pair.active.status()) is not None


@BOTH
async def test_release(pair: Pair, by: str) -> None:
    stub = getattr(pair, by)
    await one(pair.stub, "a")
    assert await release(stub, "a") == ["10.0.0.0"]
    assert await release(stub, "a") == []
    assert await addresses_of(pair.stub, "a") == []


@BOTH
async def test_release_on_behalf_of_another(pair: Pair, by: str) -> None:
    await one(pair.stub, "a")
    before = await pair.dump()
    with refused() as said:
        await release(getattr(pair, by), "a", tenant="u")
    assert (said.code, said.reasons) == (grpc.StatusCode.FAILED_PRECONDITION, ["OTHER_OWNER"])
    with refused() as said:
        await release(getattr(pair, by), "a", node="h2")
    assert (said.code, said.reasons) == (grpc.StatusCode.FAILED_PRECONDITION, ["OTHER_NODE"])
    assert await pair.dump() == before


@BOTH
async def test_release_of_a_segment_without_its_tenant(pair: Pair, by: str) -> None:
    with refused() as said:
        await release(getattr(pair, by), "a", segment="s")
    assert said.fields == ["spec.segment"]


@BOTH
async def test_release_of_many(pair: Pair, by: str) -> None:
    for name in "ab":
        await one(pair.stub, name)
    specs = [
        pb.ReleaseSpec(name="a"),
        pb.ReleaseSpec(name="b", tenant="u"),
        pb.ReleaseSpec(),
        pb.ReleaseSpec(name="nobody"),
    ]
    answer = await getattr(pair, by).ReleaseAddresses(pb.ReleaseAddressesRequest(specs=specs))
    said = [Said().read(item.status) for item in answer.results]
    assert [item.code for item in said] == [
        grpc.StatusCode.OK,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OK,
    ]
    assert said[2].fields == ["specs[2].name"]
    assert list(answer.results[0].addresses) == ["10.0.0.0"]
    assert list(answer.results[3].addresses) == []


@BOTH
async def test_a_reservation_from_making_to_ending(pair: Pair, by: str) -> None:
    stub = getattr(pair, by)
    await one(pair.stub, "a")
    wanted = Reservation(
        name="r", network="net", ranges=["10.0.0.0/29", "10.0.0.9"], description="printers"
    )
    request = pb.CreateReservationRequest(reservation=wanted, allow_in_use=True)
    made = await stub.CreateReservation(request)
    assert made.reservation.size == 9
    again = await stub.CreateReservation(pb.CreateReservationRequest(reservation=wanted))
    assert list(again.reservation.ranges) == list(wanted.ranges)
    found = await pair.stub.ListReservations(pb.ListReservationsRequest(network="net"))
    assert [(item.name, item.size, item.in_use) for item in found.reservations] == [("r", 9, 1)]
    reached = await pair.stub.GetNodeRoutes(pb.GetNodeRoutesRequest(node="h1"))
    assert [item.prefix for item in reached.own if item.network == "net"] == ["10.0.0.0/32"]
    assert await one(pair.stub, "b") not in {f"10.0.0.{number}" for number in (*range(8), 9)}
    for _ in range(2):
        await stub.DeleteReservation(pb.DeleteReservationRequest(name="r"))
    assert await one(pair.stub, "c") == "10.0.0.1"
    assert await findings(pair.stub) == []


@BOTH
async def test_reservations_that_cannot_be_made(pair: Pair, by: str) -> None:
    stub = getattr(pair, by)
    made = Reservation(name="r", network="net", ranges=["10.0.0.9"])
    await stub.CreateReservation(pb.CreateReservationRequest(reservation=made))
    before = await pair.dump()

    async def attempt(name: str, network: str, *ranges: str) -> Said:
        wanted = Reservation(name=name, network=network, ranges=ranges)
        with refused() as said:
            await stub.CreateReservation(pb.CreateReservationRequest(reservation=wanted))
        return said

    assert (await attempt("r", "net", "10.0.0.10")).reasons == ["RESERVATION_EXISTS"]
    assert (await attempt("x", "nowhere", "10.0.0.10")).reasons == ["NETWORK_NOT_FOUND"]
    given = await one(pair.stub, "a")
    before = await pair.dump()
    said = await attempt("x", "net", "10.0.0.10", given)
    assert (said.code, said.reasons) == (grpc.StatusCode.ALREADY_EXISTS, ["ADDRESS_IN_USE"])
    assert (said.metadata["name"], said.metadata["field"]) == ("a", "reservation.ranges[1]")
    said = await attempt("x", "net", "10.0.0.10", "10.0.1.0", "10.0.0.1/24")
    assert said.fields == ["reservation.ranges[2]"]
    said = await attempt("x", "net", "10.0.0.10", "10.0.1.0")
    assert said.fields == ["reservation.ranges[1]"]
    said = await attempt("X/", "")
    assert said.fields == ["reservation.name", "reservation.network", "reservation.ranges"]
    assert await pair.dump() == before


async def test_reservations_are_listed_in_pages(pair: Pair) -> None:
    for number in range(5):
        made = Reservation(name=f"r{number}", network="net", ranges=[f"10.0.0.{number}"])
        await pair.stub.CreateReservation(pb.CreateReservationRequest(reservation=made))
    token, names = "", []
    while True:
        page = await pair.stub.ListReservations(
            pb.ListReservationsRequest(page_size=2, page_token=token)
        )
        names += [item.name for item in page.reservations]
        token = page.next_page_token
        if not token:
            break
    assert names == ["r0", "r1", "r2", "r3", "r4"]


@BOTH
async def test_addresses_go_along_to_another_node(pair: Pair, by: str) -> None:
    stub = getattr(pair, by)
    address = await one(stub, "a", "h1")
    request = pb.MoveAddressRequest(name="a", node="h2")
    moved = await stub.MoveAddress(request)
    assert (moved.from_node, [item.address for item in moved.allocations]) == ("h1", [address])
    assert (await stub.MoveAddress(request)).from_node == "h2"
    again = await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec("a", "h2")))
    assert (again.existed, again.allocations[0].address) == (True, address)
    await one(stub, "b", "h2")
    with refused() as said:
        await stub.MoveAddress(pb.MoveAddressRequest(name="a", node="h1"))
    assert said.reasons == ["NOT_MOVABLE"]
    assert await findings(stub) == []
