"""Reads models from the tables of a tree, by their descriptions.

What is wrong with the shape of a value is among the findings, and its default is taken instead, so
that everything wrong with a document can be said at once. What values mean is for others to check.

Names are those of the models, and those of proto3's JSON form: `block_length` or `blockLength`,
`onlink` or `ATTACHMENT_MODE_ONLINK`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from enum import Enum
from functools import cache
from typing import Final, TypeVar, cast

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Scalar
from services.common.model.addresses import read_address, read_prefix
from services.common.model.description import Field, FieldType, Shape, describe, word

_DURATION: Final = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h|)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_NOTHING: Final[Mapping[Shape, object]] = {Shape.TEXT: "", Shape.NUMBER: 0, Shape.LIST: ()}
"""What stands for a value that is missing and has no default; where nothing does, that is wrong."""
_READERS: Final[Mapping[Shape, Callable[[str], object]]] = {
    Shape.TEXT: str,
    Shape.ADDRESS: read_address,
    Shape.PREFIX: read_prefix,
}
_NOT_SAID: Final = "_UNSPECIFIED"

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)
_D = TypeVar("_D")


def ignore_output(fields: Fields, *names: str) -> None:
    """Lets fields be there that Romana says and nobody asks for, as in an answer of the API."""
    fields.ignore(*names, *map(camel, names))


def read(
    kind: type[_T],
    fields: Fields,
    *,
    spelled: Mapping[str, str] | None = None,
    instead: Mapping[str, object] | None = None,
    **given: object,
) -> _T:
    """Reads a model, and refuses fields that it does not have.

    Args:
        kind: The dataclass.
        fields: Where it is.
        spelled: Other names of fields.
        instead: Values for what is missing, or wrong, and has no default. Where there is none for
            an address or prefix, that is a finding, and the model must not be used.
        given: Values of fields that somebody else has read, or that follow from others.
    """
    values = dict(given)
    for field in describe(kind):
        if field.name in given:
            continue
        if field.output_only:
            ignore_output(fields, field.name)
        if field.output_only or field.derived:
            continue
        default = (instead or {}).get(field.name, field.default)
        is_needed = default is MISSING and field.type.shape not in _NOTHING
        if default is MISSING:
            default = _NOTHING.get(field.type.shape)
        name = fields.spelled(field.name, camel(field.name), (spelled or {}).get(field.name, ""))
        if is_needed and fields.is_empty(name):
            fields.wrong(name, "is missing")
        values[field.name] = _value(fields, name, field, default) if fields.has(name) else default
    fields.end()
    return kind(**values)


def given(kind: type, fields: Fields) -> frozenset[str]:
    """The fields of a model that somebody asks for, whatever their values."""
    return frozenset(
        field.name
        for field in describe(kind)
        if not (field.output_only or field.derived)
        and (fields.has(field.name) or fields.has(camel(field.name)))
    )


def choice(fields: Fields, name: str, kind: type[_E], default: _D) -> _E | _D:
    """One of a few words, in whatever case, or in proto3's JSON form."""
    text = fields.text(name)
    return chosen(text, fields.path(name), kind, default, fields.findings)


def chosen(text: str, at: str, kind: type[_E], default: _D, findings: Findings) -> _E | _D:
    """One of a few words; nothing, and the API's UNSPECIFIED, are the default."""
    upper = text.upper()
    for member in kind:
        known = word(member).upper()
        head = upper.removesuffix(f"_{known}")
        if text and known and (upper == known or (head != upper and _name(kind) in head)):
            return member
    if text and not f"_{upper}".endswith(_NOT_SAID):
        words = ", ".join(word(member) for member in kind if word(member))
        findings.wrong(at, f"{text[:80]!r} is not one of {words}")
    return default


def _value(fields: Fields, name: str, field: Field, default: object) -> object:
    kind = field.type
    match kind.shape:
        case Shape.TEXT:
            return fields.text(name)
        case Shape.NUMBER:
            number = fields.number(name)
            return default if number is None else number
        case Shape.SECONDS:
            return seconds(fields, name, default)
        case Shape.FLAG:
            return fields.truth(name)
        case Shape.CHOICE:
            return choice(fields, name, kind.kind, default)
        case Shape.ADDRESS | Shape.PREFIX:
            text = fields.text(name)
            return _parsed(kind, text, fields.path(name), fields, default) if text else default
        case Shape.PART:
            return read(kind.kind, fields.part(name))
        case Shape.LIST | Shape.ONE_OF:
            return _list(fields, name, cast("FieldType", kind.items))
        case Shape.MAPPING:
            return _mapping(fields, name, cast("FieldType", kind.items))


def seconds(fields: Fields, name: str, default: _T) -> float | _T:
    """From text such as 30s, 500ms, 2m or a bare number of seconds."""
    text = fields.text(name)
    match = _DURATION.fullmatch(text)
    if match:
        return float(match[1]) * _UNITS[match[2]]
    if text:
        fields.wrong(name, f"{text[:80]!r} is not a duration such as '30s', '500ms' or '2m'")
    return default


def _list(fields: Fields, name: str, kind: FieldType) -> tuple[object, ...]:
    if kind.shape is Shape.PART:
        return tuple(read(kind.kind, part) for part in fields.parts(name))
    found = []
    for item, at in fields.each(name):
        if not isinstance(item, Scalar) or item.is_null:
            fields.findings.wrong(at, "must be a text")
        elif (value := _parsed(kind, item.text, at, fields, None)) is not None:
            found.append(value)
    return tuple(found)


def _mapping(fields: Fields, name: str, kind: FieldType) -> dict[str, object]:
    values = {
        key: _parsed(kind, text, fields.key_path(name, key), fields, None)
        for key, text in fields.mapping(name).items()
    }
    return {key: value for key, value in values.items() if value is not None}


def _parsed(kind: FieldType, text: str, at: str, fields: Fields, default: object) -> object:
    try:
        return _READERS[kind.shape](text)
    except ValueError as error:
        fields.findings.wrong(at, str(error))
        return default


@cache
def _name(kind: type[Enum]) -> str:
    """Which the API's words of an enum have in front: `ACTION` in `RULE_ACTION_ALLOW`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper()


@cache
def camel(name: str) -> str:
    """Proto3's JSON name of a field."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
