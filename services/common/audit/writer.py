"""Makes the record of a change, to be written in the transaction of the change itself."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from services.common.audit.record import (
    KEPT_MOST,
    NAMED_MOST,
    AuditRecord,
    Before,
    Changed,
    Named,
    ObjectKind,
    Who,
    encode,
    pack,
)
from services.common.etcd.keys import Keys
from services.common.etcd.types import Operation, Put, Revision

Texts: TypeAlias = Mapping[ObjectKind, Callable[[Any], str]]
"""How models of a kind are written, as JSON."""


class AuditWriter:
    """The records of one replica of a service."""

    def __init__(
        self,
        keys: Keys,
        service: str,
        texts: Texts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.service = service
        self.replica = uuid.uuid4().hex[:12]
        self._keys = keys
        self._texts = texts
        self._clock = clock

    def operations(self, changed: Sequence[Changed], who: Who, after: Revision) -> list[Operation]:
        """What a transaction writes besides what it changes; nothing for no change.

        Args:
            changed: the objects.
            who: asked for it.
            after: the revision of the change before, which the transaction compares: so no two
                records have one key, and keys sort by age.
        """
        if not changed:
            return []
        is_kept = len(changed) <= KEPT_MOST
        record = AuditRecord(
            at=int(self._clock() * 1000),
            replica=self.replica,
            who=who,
            objects=tuple(Named(one.kind, one.name, one.action) for one in changed[:NAMED_MOST]),
            count=len(changed),
            packed=pack([self._documents(one) for one in changed]) if is_kept else b"",
        )
        key = self._keys.audit_change(self.service, after)
        return [Put(key, encode(record))]

    def _documents(self, changed: Changed) -> Before:
        write = self._texts.get(changed.kind, str)

        def text(model: object | None) -> str:
            if model is None or isinstance(model, str):
                return model or ""
            return write(model)

        return Before(text(changed.before), text(changed.after))
