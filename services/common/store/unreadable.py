"""Records that cannot be read: what each reader of the store counts, and names in its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from services.common.etcd.types import Revision

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Unreadable:
    kind: str
    """Such as `node`: of a closed set."""
    why: str
    revision: Revision
    """At which it was written."""


class UnreadableRecords(Mapping[str, Unreadable]):
    """Those that one reader knows of, by key."""

    def __init__(self) -> None:
        self._records: dict[str, Unreadable] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __getitem__(self, key: str) -> Unreadable:
        return self._records[key]

    def add(self, key: str, record: Unreadable) -> None:
        """Notes a record, and logs it once for each time that it was written."""
        if self._records.get(key) != record:
            self._records[key] = record
            log.error("record_unreadable", key=key, kind=record.kind, why=record.why)

    def discard(self, key: str) -> None:
        """It can be read now, or is gone."""
        if self._records.pop(key, None) is not None:
            log.info("record_no_longer_unreadable", key=key)


STATUS_MOST: Final = 100
"""Keys that a status names."""


def named(records: Mapping[str, Unreadable]) -> list[str]:
    """Their keys, as a status names them."""
    return sorted(records)[:STATUS_MOST]


def counts(records: Mapping[str, Unreadable]) -> Mapping[str, int]:
    return Counter(record.kind for record in records.values())
