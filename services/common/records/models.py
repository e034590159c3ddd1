"""Models as values of JSON, and back, by their descriptions.

What equals its default is left out, so that an operator can read a record with etcdctl. Fields that
are not known are ignored, and new ones must have defaults, so that replicas of neighbouring
versions can run together. Addresses are text in `ipaddress`'s spelling, since Romana wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, is_dataclass
from enum import Enum
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Final, TypeAlias, TypeVar, cast

from services.common.model.description import FieldType, Shape, describe

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain]"
_Reader: TypeAlias = Callable[[object], object]

_T = TypeVar("_T")


def to_plain(
    model: object,
    *,
    seconds: Callable[[float], Plain] = float,
    without: Collection[str] = (),
) -> dict[str, Plain]:
    """What JSON can say of a model. A part that is its default is there, and empty.

    Args:
        model: A dataclass.
        seconds: How durations are written.
        without: Fields that are left out.
    """

    def plain(value: object) -> Plain:
        match value:
            case Enum():
                return cast("str", value.value)
            case bool() | int():
                return value
            case float():
                return seconds(value)
            case tuple():
                return [plain(item) for item in value]
            case Mapping():
                return {str(key): plain(item) for key, item in value.items()}
            case _ if is_dataclass(value):
                return to_plain(value, seconds=seconds)
            case _:
                return str(value)

    found: dict[str, Plain] = {}
    for field in describe(type(model)):
        value = getattr(model, field.name)
        is_shown = value != field.default or is_dataclass(value)
        if is_shown and not field.derived and field.name not in without:
            found[field.name] = plain(value)
    return found


def from_plain(kind: type[_T], plain: object, **given: object) -> _T:
    """The model that `to_plain` was made of; raises ValueError.

    `given` are values of fields that somebody else has read, or that follow from others.
    """
    if not isinstance(plain, dict):
        raise ValueError(f"{kind.__name__}: is not an object")  # noqa: TRY004 - a record's error
    values = dict(given)
    for name, read, default in _readers(kind):
        if name in values:
            continue
        if name in plain:
            try:
                values[name] = read(plain[name])
            except ValueError as error:
                raise ValueError(f"{kind.__name__}.{name}: {error}") from error
        elif default is MISSING:
            raise ValueError(f"{kind.__name__}.{name}: is missing")
    return kind(**values)


def _readers(kind: type) -> tuple[tuple[str, _Reader, object], ...]:
    return _made_readers(kind)


@cache
def _made_readers(kind: type) -> tuple[tuple[str, _Reader, object], ...]:
    return tuple((field.name, _reader(field.type), field.default) for field in describe(kind))


def _reader(kind: FieldType) -> _Reader:
    match kind.shape:
        case Shape.CHOICE:
            return kind.kind
        case Shape.ADDRESS:
            return lambda plain: ip_address(text) if (text := _text(plain)) else None
        case Shape.PREFIX:
            return lambda plain: ip_network(_text(plain))
        case Shape.PART:
            return lambda plain: from_plain(kind.kind, plain)
        case Shape.LIST:
            item = _reader(cast("FieldType", kind.items))
            return lambda plain: tuple(item(each) for each in _of(list, plain))
        case Shape.MAPPING:
            value = _reader(cast("FieldType", kind.items))
            return lambda plain: {key: value(each) for key, each in _of(dict, plain).items()}
        case _:
            return _SCALARS[kind.shape]


def _of(kind: type[_T], plain: object) -> _T:
    if type(plain) is not kind:
        raise ValueError(f"{plain!r:.80} is not a {kind.__name__}")
    return plain


def _text(plain: object) -> str:
    return _of(str, plain)


def _seconds(plain: object) -> float:
    return float(plain) if isinstance(plain, int) else _of(float, plain)


_SCALARS: Final[Mapping[Shape, _Reader]] = {
    Shape.TEXT: _text,
    Shape.NUMBER: lambda plain: _of(int, plain),
    Shape.SECONDS: _seconds,
    Shape.FLAG: lambda plain: _of(bool, plain),
}
