"""Translation between the words of the store and etcd's messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from services.common.etcd.definitions import kv_pb2, rpc_pb2
from services.common.etcd.types import (
    Compare,
    Delete,
    Event,
    Field,
    Get,
    KeyValue,
    Operation,
    Outcome,
    Put,
    Relation,
)

_RELATIONS = {
    Relation.EQUAL: rpc_pb2.Compare.EQUAL,
    Relation.LESS: rpc_pb2.Compare.LESS,
    Relation.GREATER: rpc_pb2.Compare.GREATER,
}


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """First key and end (exclusive) of the keys that start with `prefix`."""
    start = prefix.encode()
    if not start:
        return b"\0", b"\0"  # etcd's spelling of all keys
    # UTF-8 never ends in 0xff, so the last byte can always be incremented
    return start, start[:-1] + bytes([start[-1] + 1])


def after(key: bytes) -> bytes:
    """The smallest key greater than `key`."""
    return key + b"\0"


def key_value(item: kv_pb2.KeyValue) -> KeyValue:
    return KeyValue(
        item.key.decode(),
        item.value,
        item.create_revision,
        item.mod_revision,
        item.version,
        item.lease,
    )


class StoredItems(Sequence[KeyValue]):
    """The keys of a range, made when they are looked at.

    Python's allocator gives memory back by the megabyte, and only if nothing in it is in use. So
    what is made of a large range would cost, once it is gone, as much again as the range did, since
    what is derived from it lies in between. etcd's messages have memory of their own.
    """

    def __init__(self, parts: Sequence[rpc_pb2.RangeResponse]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(len(part.kvs) for part in self._parts)

    def __iter__(self) -> Iterator[KeyValue]:
        for part in self._parts:
            yield from map(key_value, part.kvs)

    @overload
    def __getitem__(self, index: int) -> KeyValue: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[KeyValue]: ...

    def __getitem__(self, index: int | slice) -> KeyValue | Sequence[KeyValue]:
        """Makes all of them: for ranges of a few keys."""
        return list(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none


def event(message: kv_pb2.Event) -> Event:
    item = message.kv
    if message.type == kv_pb2.Event.DELETE:
        return Event(item.key.decode(), None, item.mod_revision)
    return Event(item.key.decode(), key_value(item), item.mod_revision)


def compare(condition: Compare) -> rpc_pb2.Compare:
    operand = condition.operand
    start, end = _bounds(condition.key, prefix=condition.prefix)
    result = _RELATIONS[condition.relation]
    match condition.field:
        case Field.CREATE:
            target = rpc_pb2.Compare.CREATE
            return rpc_pb2.Compare(
                result=result, target=target, key=start, range_end=end, create_revision=operand
            )
        case Field.MOD:
            target = rpc_pb2.Compare.MOD
            return rpc_pb2.Compare(
                result=result, target=target, key=start, range_end=end, mod_revision=operand
            )
        case Field.VERSION:
            target = rpc_pb2.Compare.VERSION
            return rpc_pb2.Compare(
                result=result, target=target, key=start, range_end=end, version=operand
            )


def operation(action: Operation) -> rpc_pb2.RequestOp:
    match action:
        case Put():
            put = rpc_pb2.PutRequest(
                key=action.key.encode(), value=action.value, lease=action.lease
            )
            return rpc_pb2.RequestOp(request_put=put)
        case Delete():
            start, end = _bounds(action.key, prefix=action.prefix)
            delete = rpc_pb2.DeleteRangeRequest(key=start, range_end=end)
            return rpc_pb2.RequestOp(request_delete_range=delete)
        case Get():
            start, end = _bounds(action.key, prefix=action.prefix)
            return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=start, range_end=end))


def transaction(
    compares: Iterable[Compare],
    operations: Iterable[Operation],
    otherwise: Iterable[Operation],
) -> rpc_pb2.TxnRequest:
    """Carries out `operations` if all of `compares` hold, else `otherwise`."""
    return rpc_pb2.TxnRequest(
        compare=[compare(condition) for condition in compares],
        success=[operation(action) for action in operations],
        failure=[operation(action) for action in otherwise],
    )


def outcome(response: rpc_pb2.TxnResponse) -> Outcome:
    return Outcome(
        succeeded=response.succeeded,
        revision=response.header.revision,
        reads=[
            [key_value(item) for item in part.response_range.kvs]
            for part in response.responses
            if part.WhichOneof("response") == "response_range"
        ],
    )


def writes(operations: Sequence[Operation]) -> bool:
    return any(not isinstance(action, Get) for action in operations)


def _bounds(key: str, *, prefix: bool) -> tuple[bytes, bytes]:
    return prefix_range(key) if prefix else (key.encode(), b"")
