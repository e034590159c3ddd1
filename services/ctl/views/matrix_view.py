"""Who reaches whom, drawn as a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from romana.policy.v1 import policy_pb2
from romana.policy.v1 import policy_service_pb2 as api

MARKS: Final = {policy_pb2.RULE_ACTION_ALLOW: "+", policy_pb2.RULE_ACTION_DENY: "-"}
NOTHING: Final = "?"
"""They have no addresses of one family."""
SAME: Final = "."
STEERED: Final = "v"
"""Allowed, through devices."""


def lines(answer: api.GetMatrixResponse) -> list[str]:
    """A row per source, a column per destination; columns are numbered, and so are their names."""
    columns = list(answer.destinations)
    same = columns == [row.source for row in answer.rows]
    digits = len(str(len(columns)))
    names = [row.source for row in answer.rows]
    titles = (
        [f"{number:>{digits}} {name}" for number, name in enumerate(names, 1)] if same else names
    )
    width = max(map(len, titles))
    made = [
        " " * width + "  " + " ".join(f"{number:>{digits}}"[place] for number in _numbers(columns))
        for place in range(digits)
    ]
    for title, row in zip(titles, answer.rows, strict=True):
        marks = " ".join(_marks(row, columns))
        made.append(f"{title:<{width}}  {marks}")
    if not same:
        made.append("")
        made += [f"{number:>{digits}} {name}" for number, name in enumerate(columns, 1)]
    return made


def summary(answer: api.GetMatrixResponse) -> str:
    actions = [
        action
        for row in answer.rows
        for name, action in zip(answer.destinations, row.actions, strict=True)
        if name != row.source
    ]
    allowed = actions.count(policy_pb2.RULE_ACTION_ALLOW)
    denied = actions.count(policy_pb2.RULE_ACTION_DENY)
    text = f"Rows reach columns: + allowed ({allowed}), - denied ({denied})"
    rest = len(actions) - allowed - denied
    steered = sum(sum(row.steered) for row in answer.rows)
    if steered:
        text += f", of the former {STEERED} through devices ({steered})"
    return text + (f", {NOTHING} no addresses of one family ({rest})" if rest else "")


def _numbers(columns: Sequence[str]) -> range:
    return range(1, len(columns) + 1)


def _marks(row: api.MatrixRow, columns: Sequence[str]) -> list[str]:
    return [
        SAME if name == row.source else STEERED if led else MARKS.get(action, NOTHING)
        for name, action, led in zip(
            columns, row.actions, row.steered or [False] * len(columns), strict=True
        )
    ]
