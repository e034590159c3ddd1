"""Values of options and arguments, made of what was typed.

typer has pydantic do this, which takes a third of a short command's time. Most values are text, are
absent, or are one of a few words; only the others are left to typer. It has no setting for this, so
that the function by which it chooses is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

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
        if info.parser is None:
            if kind == list[str] and _are_text(value):
                return list(value)
            if isinstance(kind, type):
                if type(value) is kind:
                    return value
                if issubclass(kind, Enum):
                    return _member(kind, value, param, ctx)
                if kind in {int, float} and _is_number(kind, value, info.min, info.max):
                    return kind(value)
        others = build_runtime_param(self.descriptor)
        return others.coerce(value, param=param, ctx=ctx)


def _made_here(descriptor: TypeDescriptor) -> RuntimeParam:
    return Value(descriptor.parameter_info, descriptor.annotation, descriptor)


def _are_text(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(type(value) is str for value in values)


def _member(kind: type[Enum], value: Any, param: core._TyperParameter, ctx: Context) -> Enum:
    try:
        return kind(value)
    except ValueError:
        values = ", ".join(str(member.value) for member in kind)
        raise BadParameter(f"{value!r} is not one of {values}", ctx, param) from None


def _is_number(
    kind: type[int] | type[float], value: Any, least: float | None, most: float | None
) -> bool:
    try:
        number = kind(value)
    except ValueError:
        return False
    return (least is None or number >= least) and (most is None or number <= most)
