"""Values of options and arguments, made of what was typed.

typer has pydantic do this, which takes a third of a short command's time. Most values are text, are
absent, or are one of a few words; only the others are left to typer. It has no setting for this, so
that the function by which it chooses is replaced.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from typer import BadParameter, core
from typer._click import Context
from typer._coercion import RuntimeParam, TypeDescriptor, build_runtime_param


def make_here() -> None:
    """From now on values are made as this module says."""
    core.build_runtime_param = _made_here  # type: ignore[attr-defined]  # typer has no setting


@dataclass(frozen=True)
class Value(RuntimeParam):
    """How the value of one option or argument is made."""

    descriptor: TypeDescriptor

    def _coerce_value(self, value: Any, param: core._TyperParameter, ctx: Context) -> Any:
        kind, info = self.annotation, self.parameter_info
        if kind is not Path and Path not in get_args(kind):  # a file may have any name
            _check_text(value, param, ctx)
        if info.parser is None:
            if kind == list[str] and _are_text(value):
                return list(value)
            item = _item(kind)
            if item is not None and value:
                return [_member(item, each, param, ctx) for each in value]
            if isinstance(kind, type):
                if type(value) is kind:
                    return value
                if issubclass(kind, Enum):
                    return _member(kind, value, param, ctx)
                if kind in {int, float} and isinstance(value, str | int | float):
                    return _number(kind, value, param, ctx, (info.min, info.max))
        others = build_runtime_param(self.descriptor)
        return others.coerce(value, param=param, ctx=ctx)


def _made_here(descriptor: TypeDescriptor) -> RuntimeParam:
    return Value(descriptor.parameter_info, descriptor.annotation, descriptor)


def _item(kind: object) -> type[Enum] | None:
    """The kind of words that a list is of."""
    origin: object = get_origin(kind)
    return item if origin is list and issubclass(item := get_args(kind)[0], Enum) else None


def _check_text(value: Any, param: core._TyperParameter, ctx: Context) -> None:
    """What Python could not decode of an argument cannot be sent either."""
    for text in (value,) if isinstance(value, str) else value if _are_text(value) else ():
        try:
            text.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(text).decode(errors="replace")
            raise BadParameter(f"{shown!r} is not UTF-8 text", ctx, param) from None


def _are_text(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(type(value) is str for value in values)


def _member(kind: type[Enum], value: Any, param: core._TyperParameter, ctx: Context) -> Enum:
    try:
        return kind(value)
    except ValueError:
        values = ", ".join(str(member.value) for member in kind)
        raise BadParameter(f"{value!r} is not one of {values}", ctx, param) from None


def _number(
    kind: type[int] | type[float],
    text: str | float,
    param: core._TyperParameter,
    ctx: Context,
    bounds: tuple[float | None, float | None],
) -> int | float:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        what = "a whole number" if kind is int else "a number"
        raise BadParameter(f"{text!r} is not {what}", ctx, param)
    least, most = bounds
    if least is not None and number < least:
        raise BadParameter(f"{text} is less than {least:g}", ctx, param)
    if most is not None and number > most:
        raise BadParameter(f"{text} is more than {most:g}", ctx, param)
    return number
