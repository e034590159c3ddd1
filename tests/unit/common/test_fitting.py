"""Answers are cut to what a message may have."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from romana.topology.v1 import topology_pb2

from services.common.errors import Exhausted, InvalidInput, RomanaError, Violation
from services.common.rpc.fitting import chunks, cut, statuses_that_fit
from services.common.rpc.status import StatusEncoder, code_of, fit
from services.common.sizes import ANSWER_BYTES, BATCH_ITEMS, STATUS_BYTES

ENCODER = StatusEncoder()
LONG = InvalidInput.of([Violation(f"specs[{n}].name", "\N{SNOWMAN}" * 80) for n in range(50)])
MANY = Exhausted(
    "\N{SNOWMAN}" * 4000, "ADDRESSES_EXHAUSTED", {"node": "n" * 253, "tenant": "t" * 253}
)


def reason(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


@pytest.mark.parametrize("error", [LONG, MANY], ids=["violations", "metadata"])
def test_a_batch_of_errors_fits_and_each_keeps_its_reason(error: RomanaError) -> None:
    status_of = statuses_that_fit(BATCH_ITEMS, 0, ENCODER.status_of)
    status = status_of(error)
    assert (status.ByteSize() + 16) * BATCH_ITEMS <= ANSWER_BYTES
    assert code_of(status) is code_of(ENCODER.status_of(error))
    assert reason(status) == error.reason
    assert status.message.startswith(error.message[:20])


@pytest.mark.parametrize("error", [LONG, MANY], ids=["violations", "metadata"])
def test_the_least_that_an_error_has_is_kept(error: RomanaError) -> None:
    full = ANSWER_BYTES
    status = statuses_that_fit(1, full, ENCODER.status_of)(error)
    assert status.ByteSize() <= STATUS_BYTES
    assert reason(status) == error.reason


def test_few_errors_are_told_whole() -> None:
    status = statuses_that_fit(3, 1000, ENCODER.status_of)(LONG)
    assert status == ENCODER.status_of(LONG)


def test_a_status_without_details_is_cut_to_its_message() -> None:
    status = fit(status_pb2.Status(code=5, message="x" * 2000), 300)
    assert status.ByteSize() <= 300
    assert not status.details


def test_a_message_is_not_cut_within_a_character() -> None:
    info = error_details_pb2.ErrorInfo(reason="A", domain="romana")
    status = status_pb2.Status(code=5, message="\N{SNOWMAN}" * 2000)
    status.details.add().Pack(info)
    for most in range(300, 320):
        assert set(fit(status, most).message.removesuffix("...")) == {"\N{SNOWMAN}"}


def test_lists_are_cut_in_order() -> None:
    plan = topology_pb2.TopologyPlan(stranded_addresses=7)
    plan.stranded.extend(
        topology_pb2.StrandedBlock(node="n" * 200, block=str(n)) for n in range(100_000)
    )
    plan.nodes.add(node="kept")
    cut(plan, "stranded", "nodes")
    assert plan.ByteSize() <= ANSWER_BYTES
    assert plan.stranded[0].block == "0"
    assert len(plan.nodes) == 1
    assert plan.stranded_addresses == 7


def test_chunks_are_bounded_by_number_and_by_bytes() -> None:
    small = [StringValue(value="x") for _ in range(7)]
    assert [len(part) for part in chunks(small, 3, 1000)] == [3, 3, 1]
    large = [StringValue(value="x" * 400) for _ in range(5)]
    assert [len(part) for part in chunks(large, 9, 1000)] == [2, 2, 1]
    assert [len(part) for part in chunks(large, 9, 10)] == [1] * 5
    assert list(chunks([], 3)) == []
