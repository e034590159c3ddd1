"""Messages as trees, of which the readers of documents read models: proto3's JSON form, in memory.

So what a document may say and what a request may say have one reader, and one word for what is
wrong with it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from services.common.document.tree import Items, Scalar, Table, Tree


def to_tree(message: Message) -> Table:
    """What a message says, as a document would; unset fields are not there."""
    return Table({field.name: _tree(field, value) for field, value in message.ListFields()})


def _tree(field: FieldDescriptor, value: Any) -> Tree:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        items = field.message_type.fields_by_name["value"]
        return Table({str(key): _item(items, value[key]) for key in value})
    if field.is_repeated:
        return Items([_item(field, item) for item in value])
    return _item(field, value)


def _item(field: FieldDescriptor, value: Any) -> Tree:
    if isinstance(value, Duration):
        return Scalar(f"{value.ToNanoseconds() / 1e9:.9f}s")
    if isinstance(value, Message):
        return to_tree(value)
    if isinstance(value, bool):
        return Scalar(str(value).lower())
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return Scalar(named.name if named is not None else str(value))
    return Scalar(str(value), is_quoted=isinstance(value, str))
