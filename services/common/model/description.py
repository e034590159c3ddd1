"""What the fields of a model are: the one place that looks at the types of its dataclass.

Documents, stored records and messages are made of models, and models of them, by this description
(`document.models`, `records.models`, `rpc.models`). So a field that a model gets is read, stored,
sent and exported without another line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import NoneType, UnionType
from typing import Final, Union, get_args, get_origin, get_type_hints

OUTPUT_ONLY: Final = {"role": "output only"}
"""Metadata of a field that Romana says, and nobody asks for."""
DERIVED: Final = {"role": "derived"}
"""Metadata of a field that follows from others: it is neither asked for, stored, nor sent."""


class Shape(Enum):
    """How a value is written."""

    TEXT = "text"
    NUMBER = "number"
    SECONDS = "seconds"
    FLAG = "flag"
    CHOICE = "choice"
    ADDRESS = "address"
    PREFIX = "prefix"
    PART = "part"
    """Another model."""
    LIST = "list"
    MAPPING = "mapping"
    """Of texts to values."""
    ONE_OF = "one of"
    """One of several models: whoever knows which reads it."""


@dataclass(frozen=True, slots=True)
class FieldType:
    shape: Shape
    kind: type = object
    """Of a choice its enum, of a part its dataclass."""
    items: FieldType | None = None
    """Of a list its items, of a mapping its values."""


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: FieldType
    default: object
    """`MISSING`: there is none."""
    output_only: bool
    derived: bool


_SHAPES: Final[Mapping[object, Shape]] = {
    str: Shape.TEXT,
    int: Shape.NUMBER,
    float: Shape.SECONDS,
    bool: Shape.FLAG,
    frozenset({IPv4Address, IPv6Address}): Shape.ADDRESS,
    frozenset({IPv4Network, IPv6Network}): Shape.PREFIX,
}


def describe(model: type) -> tuple[Field, ...]:
    """The fields of a model, in their order."""
    return _described(model)


def word(member: Enum) -> str:
    """By which a choice is written."""
    return member.value if isinstance(member.value, str) else member.name.lower()


def output_only(model: type) -> frozenset[str]:
    return frozenset(field.name for field in describe(model) if field.output_only)


@cache
def _described(model: type) -> tuple[Field, ...]:
    hints = get_type_hints(model)
    return tuple(
        Field(
            field.name,
            _type(hints[field.name]),
            field.default if field.default_factory is MISSING else field.default_factory(),
            field.metadata.get("role") == OUTPUT_ONLY["role"],
            field.metadata.get("role") == DERIVED["role"],
        )
        for field in fields(model)
    )


def _type(hint: object) -> FieldType:
    hint = getattr(hint, "__supertype__", hint)  # of a NewType
    arguments = get_args(hint)
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        alternatives = frozenset(arguments) - {NoneType}
        if alternatives in _SHAPES:
            return FieldType(_SHAPES[alternatives])
        if len(alternatives) > 1:
            return FieldType(Shape.ONE_OF)
        (hint,) = alternatives
        return _type(hint)
    if origin is tuple:
        return FieldType(Shape.LIST, items=_type(arguments[0]))
    if origin is Mapping:
        return FieldType(Shape.MAPPING, items=_type(arguments[1]))
    if hint in _SHAPES:
        return FieldType(_SHAPES[hint])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return FieldType(Shape.CHOICE, hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return FieldType(Shape.PART, hint)
    raise TypeError(f"no document, record or message can say {hint!r}")
