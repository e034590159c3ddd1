"""Changes for people: who, when, what, and what is different."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from romana.audit.v1 import audit_service_pb2 as api

from services.common.terminal.plural import count
from services.common.terminal.table import Column
from services.ctl.views import enum_text

KINDS: Final = {
    name.removeprefix("OBJECT_KIND_").lower(): number
    for name, number in api.ObjectKind.items()
    if number
}
"""By the word that people write."""
NOUNS: Final = {number: word.replace("_", " ") for word, number in KINDS.items()}
TEXT_MOST: Final = 200
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field with another value than before; empty: it had, or has none."""

    field: str
    before: str
    after: str


def who(item: api.Change) -> str:
    """The identity, and the program if it said its name."""
    return f"{item.identity}, {item.client}" if item.client else item.identity


def noun(item: api.ObjectChange) -> str:
    """Such as "node n1"."""
    return f"{NOUNS.get(item.kind, 'object')} {item.name}".rstrip()


def action(item: api.ObjectChange) -> str:
    """Such as "updated"."""
    return api.ObjectAction.Name(item.action).removeprefix("OBJECT_ACTION_").lower()


def what(item: api.Change) -> str:
    """The first object, and how many more there are."""
    if not item.objects:
        return ""
    first = item.objects[0]
    more = item.object_count - 1
    return f"{noun(first)} {action(first)}" + (f", and {more} more" if more else "")


def in_force(item: api.Change) -> str:
    """After how long all nodes had it; empty: they have not, as far as is known."""
    if not item.HasField("in_force_time"):
        return ""
    took = item.in_force_time.ToMilliseconds() - item.create_time.ToMilliseconds()
    return f"{max(took, 0) / 1000:.1f} s, {count(item.in_force_nodes, 'node')}"


COLUMNS: tuple[Column[api.Change], ...] = (
    Column("REVISION", lambda item: str(item.revision), right=True),
    Column("TIME", lambda item: enum_text.moment(item.create_time), solid=True),
    Column("CHANGE", what),
    Column("WHO", who),
    Column("IN FORCE AFTER", in_force),
    Column("REQUEST", lambda item: item.request_id, wide=True),
    Column("SERVICE", lambda item: item.service, wide=True),
)
DIFFERENCES: tuple[Column[Difference], ...] = (
    Column("FIELD", lambda item: item.field),
    Column("BEFORE", lambda item: item.before),
    Column("AFTER", lambda item: item.after),
)


def differences(before: str, after: str) -> list[Difference]:
    """The fields in which two documents differ; lists of the same named things one by one."""
    return list(_differences("", _read(before), _read(after)))


def _read(document: str) -> Any:
    return json.loads(document) if document else {}


def _differences(at: str, before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    old, new = _members(before), _members(after)
    if old is None or new is None:
        yield Difference(at or "all", _text(before), _text(after))
        return
    for name in dict.fromkeys([*old, *new]):
        yield from _differences(f"{at}.{name}" if at else name, old.get(name), new.get(name))


def _members(value: Any) -> dict[str, Any] | None:
    """What a value consists of, by name; None: it is one thing."""
    if value is None or value == []:
        return {}
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        for key in ("name", "network"):
            named = {str(one[key]): one for one in value if key in one}
            if len(named) == len(value):
                return named
    return None


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= TEXT_MOST else text[: TEXT_MOST - 3] + "..."
