"""Models as messages by their fields' names, and messages as trees, of which models are read.

A choice's word is the end of its name in the message's enum: `Mode.ONLINK` is
ATTACHMENT_MODE_ONLINK. A float is a Duration, a whole number may be a Timestamp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.document.tree import Items, Scalar, Table, Tree
from services.common.model.description import word

_Setter: TypeAlias = Callable[[Message, Any], None]
_M = TypeVar("_M", bound=Message)

_UNSPECIFIED: Final = "UNSPECIFIED"


def to_message(kind: type[_M], model: object, /, **instead: object) -> _M:
    """The message of a model: what both have by the same name.

    `instead` are values that count instead of the model's; None leaves a field out.
    """
    message = kind()
    setters = _setters(kind.DESCRIPTOR)
    for field in fields(model):  # type: ignore[arg-type] # of a dataclass
        name = field.name
        if name in setters and name not in instead:
            value = getattr(model, name)
            if value is not None:
                setters[name](message, value)
    for name, value in instead.items():
        if value is not None:
            setters[name](message, value)
    return message


def to_tree(message: Message) -> Table:
    """What a message says, as a document would; unset fields are not there."""
    return Table({field.name: _tree(field, value) for field, value in message.ListFields()})


@cache
def _setters(kind: Descriptor) -> Mapping[str, _Setter]:
    return {field.name: _setter(field) for field in kind.fields}


def _setter(field: FieldDescriptor) -> _Setter:
    name, of = field.name, field.message_type
    if of is not None and of.full_name == Duration.DESCRIPTOR.full_name:
        return lambda message, value: getattr(message, name).FromNanoseconds(round(value * 1e9))
    if of is not None and of.full_name == Timestamp.DESCRIPTOR.full_name:
        return lambda message, value: value and getattr(message, name).FromSeconds(value)
    if of is not None and of.GetOptions().map_entry:
        return lambda message, value: getattr(message, name).update(
            {str(key): _scalar(item) for key, item in value.items()}
        )
    if of is not None:
        part = message_factory.GetMessageClass(of)
        if field.is_repeated:
            return lambda message, value: getattr(message, name).extend(_messages(part, value))
        return lambda message, value: _set_part(message, name, _message(part, value))
    if field.enum_type is not None:
        numbers = field.enum_type
        if field.is_repeated:
            return lambda message, value: getattr(message, name).extend(
                _number(numbers, item) for item in value
            )
        return lambda message, value: setattr(message, name, _number(numbers, value))
    if field.is_repeated:
        return lambda message, value: getattr(message, name).extend(map(_scalar, value))
    return lambda message, value: setattr(message, name, _scalar(value))


def _set_part(message: Message, name: str, part: Message) -> None:
    if part.ByteSize():
        getattr(message, name).CopyFrom(part)


def _messages(kind: type[Message], values: Iterable[object]) -> Iterable[Message]:
    return (_message(kind, value) for value in values)


def _message(kind: type[Message], value: object) -> Message:
    return to_message(kind, value) if is_dataclass(value) else _of(value)


def _of(value: object) -> Message:
    if not isinstance(value, Message):
        raise TypeError(f"{value!r} is no message, nor of a model")
    return value


def _scalar(value: object) -> object:
    return value if isinstance(value, str | int | bytes) else str(value)


def _number(kind: EnumDescriptor, value: object) -> object:
    if not isinstance(value, Enum):
        return value
    prefix = kind.values_by_number[0].name.removesuffix(_UNSPECIFIED)
    return kind.values_by_name[prefix + (word(value).upper() or _UNSPECIFIED)].number


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
