"""Translation, paging, guarding and reassembly without a server."""

from __future__ import annotations

import pytest
from google.protobuf.internal import api_implementation

from services.common.etcd import messages
from services.common.etcd.definitions import rpc_pb2
from services.common.etcd.guard import Guard
from services.common.etcd.paging import FIRST, MOST, PAGE, next_limit
from services.common.etcd.types import Changes, Delete, Get, Put
from services.common.etcd.watch import Reassembly


def header(revision: int, cluster: int = 1) -> rpc_pb2.ResponseHeader:
    message = rpc_pb2.ResponseHeader()
    message.revision, message.cluster_id = revision, cluster
    return message


def response(*revisions: int, fragment: bool = False, at: int = 99) -> rpc_pb2.WatchResponse:
    message = rpc_pb2.WatchResponse.FromString(b"")
    message.header.revision = at
    message.fragment = fragment
    for revision in revisions:
        event = rpc_pb2.WatchResponse.FromString(b"\x5a\x00").events[0]
        event.kv.key = b"/a"
        event.kv.mod_revision = revision
        message.MergeFromString(b"\x5a" + bytes([event.ByteSize()]) + event.SerializeToString())
    return message


def test_the_definitions_use_the_fast_implementation() -> None:
    assert api_implementation.Type() == "upb"


@pytest.mark.parametrize(
    ("prefix", "start", "end"),
    [
        ("/a/", b"/a/", b"/a0"),
        ("a\x7f", b"a\x7f", b"a\x80"),
        ("é", b"\xc3\xa9", b"\xc3\xaa"),
        ("", b"\0", b"\0"),
    ],
)
def test_prefix_ranges(prefix: str, start: bytes, end: bytes) -> None:
    assert messages.prefix_range(prefix) == (start, end)


def test_the_key_after_a_key_leaves_no_gap() -> None:
    assert b"a" < messages.after(b"a") <= b"a\0"


def test_reading_is_not_writing() -> None:
    assert not messages.writes([Get("a"), Get("b", prefix=True)])
    assert messages.writes([Get("a"), Put("b", b"")])
    assert messages.writes([Delete("a")])


def test_pages_grow_to_a_size_in_bytes() -> None:
    assert next_limit(0, 0) == FIRST
    assert next_limit(1000, 100_000) == PAGE // 100
    assert next_limit(1000, 1000) == MOST
    assert next_limit(1000, 1000 << 20) == PAGE >> 20
    assert next_limit(1, PAGE * 2) == 1


def test_fragments_become_one_batch() -> None:
    reassembly = Reassembly()
    assert reassembly.add(response(5, 6, fragment=True)) is None
    assert reassembly.add(response(6, fragment=True)) is None
    whole = reassembly.add(response(6))
    assert whole is not None
    assert [event.revision for event in whole.events] == [5, 6, 6, 6]
    assert whole.revision == 6


def test_the_header_of_a_batch_with_events_is_not_its_revision() -> None:
    batch = Reassembly().add(response(5, at=1000))
    assert batch is not None
    assert batch.revision == 5


def test_an_empty_response_moves_the_revision() -> None:
    assert Reassembly().add(response(at=7)) == Changes([], 7)


def test_answers_may_overtake_each_other() -> None:
    guard = Guard()
    assert not guard.objection(header(10), 0)
    floor = guard.revision
    assert not guard.objection(header(12), floor)
    assert not guard.objection(header(11), floor)
    assert guard.revision == 12


def test_an_answer_from_the_past_is_objected_to() -> None:
    guard = Guard()
    assert not guard.objection(header(10), 0)
    assert "went back from 10 to 9" in guard.objection(header(9), guard.revision)
    assert not guard.objection(header(9), guard.revision, linearizable=False)
    assert guard.revision == 10


def test_an_answer_of_another_cluster_is_objected_to() -> None:
    guard = Guard()
    assert not guard.objection(header(10), 0)
    assert "belongs to cluster 2" in guard.objection(header(11, cluster=2), guard.revision)
    assert guard.revision == 10
