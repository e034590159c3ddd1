"""The records of all endpoints: in memory, and as the journal has them on disk."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import structlog

from services.agent.endpoints.journal import Journal
from services.agent.endpoints.spec import Record, Stage
from services.agent.model import LocalEndpoint
from services.common.errors import WrongState
from services.common.model.names import EndpointName

log = structlog.get_logger(__name__)


class Records:
    """What was begun with each endpoint, and not ended."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._records: dict[EndpointName, Record] = {}
        self.unwritable = ""
        """Why nothing new can be written, as far as is known; empty: it can."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def all(self) -> Mapping[EndpointName, Record]:
        return MappingProxyType(self._records)

    def attached(self, name: EndpointName) -> LocalEndpoint | None:
        record = self._records.get(name)
        return record.endpoint if record is not None and record.stage is Stage.ATTACHED else None

    def load(self) -> None:
        self._records = {record.spec.name: record for record in self._journal.read()}

    def adopt(self, record: Record) -> None:
        """Takes over a record that is written, or never will be."""
        self._records[record.spec.name] = record

    async def keep(self, record: Record) -> None:
        """Writes a record that is taken over later; raises as `write` does."""
        try:
            await self._journal.write(record)
        except WrongState as error:
            self.unwritable = error.message
            raise

    async def write(self, record: Record, *, durable: bool = True) -> None:
        """Takes over a record, when it is written; WrongState if it cannot be."""
        try:
            await self._journal.write(record, durable=durable)
        except WrongState as error:
            self.unwritable = error.message
            raise
        self.adopt(record)

    async def sync(self, name: EndpointName) -> None:
        """Makes the last record of a name durable."""
        await self._journal.sync(name)

    async def forget(self, name: EndpointName) -> None:
        if self._records.pop(name, None) is not None:
            await self._journal.drop(name)

    async def probe(self) -> None:
        """Finds out whether records can be written."""
        try:
            await self._journal.probe()
        except WrongState as error:
            if not self.unwritable:
                log.error("journal_unwritable", message=error.message)  # noqa: TRY400
            self.unwritable = error.message
        else:
            self.unwritable = ""
