"""Keeps attached endpoints as they shall be: their links as they are made, their addresses in ipam.

Links are known by what they are, not by name: every few seconds all are listed, and one that is not
as it was seen last is looked at closely, as are all in turn within half a minute. What somebody has
changed is put right; one that is gone is made anew when its namespace or a VM's interface is back.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from services.agent.endpoints.addressing import Addressing
from services.agent.endpoints.lifecycle import Endpoints
from services.agent.endpoints.ownership import Ownership
from services.agent.endpoints.records import Records
from services.agent.endpoints.spec import Record, Stage, wiring
from services.agent.endpoints.standing import Concern, Standing
from services.agent.kernel.rtnetlink import Link
from services.agent.kernel.veth import EndpointLinks
from services.agent.model import LocalEndpoint
from services.common.errors import NotFound, RomanaError, WrongState
from services.common.model.names import EndpointName

log = structlog.get_logger(__name__)

TURNS: Final = 6
"""In how many looks each endpoint is looked at closely."""
EACH_SECONDS: Final = 5.0
"""For one endpoint; what takes longer goes on and is seen at the next look."""


class Upkeep:
    """Of the endpoints of one node."""

    def __init__(
        self,
        endpoints: Endpoints,
        records: Records,
        links: EndpointLinks,
        addressing: Addressing,
        standing: Standing,
        ownership: Ownership,
    ) -> None:
        self._endpoints = endpoints
        self._addressing = addressing
        self._records = records
        self._links = links
        self._standing = standing
        self._ownership = ownership
        self._seen: dict[EndpointName, Link | None] = {}
        self._turn = 0

    async def look(self) -> None:
        """Compares, and puts right."""
        await self._records.probe()
        await self._look_at_links()
        await self._look_at_addresses()

    async def _look_at_links(self) -> None:
        there = await self._links.all()
        self._turn = (self._turn + 1) % TURNS
        seen, self._seen = self._seen, {}
        doubtful = self._endpoints.doubtful()
        for number, (name, endpoint) in enumerate(list(self._standing.endpoints.items())):
            link = self._seen[name] = there.get(endpoint.host_interface)
            if (
                link is None
                or link != seen.get(name)
                or number % TURNS == self._turn
                or name in doubtful
                or self._standing.has(name, Concern.LINK)
                or self._standing.has(name, Concern.CONDITION)
            ):
                await self._mend_exclusively(name)

    async def _look_at_addresses(self) -> None:
        for name, differs in (await self._ownership.compare()).items():
            endpoint = self._standing.endpoints.get(name)
            if endpoint is None or self._standing.has(name, Concern.LINK):
                continue  # what has no link needs no address: it is claimed when it has one
            if differs:
                log.warning("addresses_not_in_ipam", endpoint=name)
                await self._endpoints.exclusively(name, lambda name=name: self._claim(name))  # type: ignore[misc]
            else:
                await self._ownership.agreed(endpoint)

    async def _claim(self, name: EndpointName) -> None:
        endpoint = self._attached(name)
        if endpoint is not None:
            await self._ownership.claim(endpoint)

    def _attached(self, name: EndpointName) -> LocalEndpoint | None:
        """The endpoint, unless something is being done with it; one without a record, too."""
        record = self._records.all.get(name)
        if record is not None and record.stage is not Stage.ATTACHED:
            return None
        return self._standing.endpoints.get(name)

    async def _mend_exclusively(self, name: EndpointName) -> None:
        try:
            async with asyncio.timeout(EACH_SECONDS):
                await self._endpoints.exclusively(name, lambda: self._mend(name))
        except (RomanaError, TimeoutError) as error:
            log.debug("endpoint_not_mended", endpoint=name, message=str(error))

    async def _mend(self, name: EndpointName) -> None:
        endpoint = self._attached(name)
        if endpoint is None:
            return
        found = await self._links.differences(wiring(endpoint))
        if any(each.gone for each in found):
            if not self._standing.has(name, Concern.LINK):
                text = f"{endpoint.host_interface} is gone"
                self._standing.note(name, Concern.LINK, text, withdraw=True)
            self._standing.clear(name, Concern.CONDITION)
        if self._standing.has(name, Concern.LINK):
            await self._make_anew(endpoint)
            return
        if found:
            before = found
            try:
                await self._links.mend(wiring(endpoint))
            except RomanaError as error:
                log.debug("link_not_mended", endpoint=name, message=error.message)
            found = await self._links.differences(wiring(endpoint))
            mended = [each.text for each in before if each not in found]
            if mended:
                log.warning("link_mended", endpoint=name, mended=mended)
        if found:
            text = "; ".join(each.text for each in found)
            self._standing.note(name, Concern.CONDITION, text, withdraw=False)
        else:
            self._standing.clear(name, Concern.CONDITION)

    async def _make_anew(self, endpoint: LocalEndpoint) -> None:
        name = endpoint.name
        if endpoint.namespace.startswith("/proc/"):
            return  # the process id may be another process' by now
        try:
            made = await self._endpoints.link(endpoint)
        except NotFound as error:  # as after a restart of the machine: only a detach ends that
            text = f"{endpoint.host_interface} is gone, and {error.message}"
            self._standing.note(name, Concern.LINK, text, withdraw=True)
            return
        await self._ownership.claim(made)
        record = self._records.all.get(name)
        if record is not None and made != endpoint:
            try:
                await self._records.write(Record(record.spec, Stage.ATTACHED, made))
            except WrongState as error:
                log.warning("endpoint_not_noted", endpoint=name, message=error.message)
        self._standing.put(made)
        if self._standing.clear(name, Concern.LINK):
            await self._addressing.announce(made.addresses)
