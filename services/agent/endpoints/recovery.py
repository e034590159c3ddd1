"""What goes on without a caller: the start after a crash, releases that waited for ipam, links that
somebody took away.

After a start: an attached endpoint is put back as it is, without touching its link, so that no
packet is lost; one that was only begun is undone, since its caller got no answer and will ask
again; one that was being detached is finished. A pair of ours that no record knows (the journal was
lost) keeps its routes if ipam knows its name, which is in the alias, and is deleted if not.

Who wakes whom: a detach that could not be finished, and one that leaves doubts about others in its
namespace, set `Parts.unfinished`, which wakes this task before its next look is due.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from services.agent.endpoints.ipam_client import IpamClient
from services.agent.endpoints.lifecycle import Endpoints
from services.agent.endpoints.records import Records
from services.agent.endpoints.spec import Record, Stage
from services.agent.endpoints.standing import Concern, Standing
from services.agent.endpoints.upkeep import Upkeep
from services.agent.kernel import endpoint_names
from services.agent.kernel.rtnetlink import Link
from services.agent.kernel.veth import EndpointLinks
from services.agent.model import LocalEndpoint
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import RomanaError, Unavailable, WrongState
from services.common.model.names import EndpointName

log = structlog.get_logger(__name__)

ASK_SECONDS: Final = 2.0
"""For ipam to say what a link without a record is; later it is asked again."""


class Recovery:
    """Makes unfinished endpoints finished."""

    def __init__(
        self,
        endpoints: Endpoints,
        records: Records,
        links: EndpointLinks,
        ipam: IpamClient,
        standing: Standing,
        upkeep: Upkeep,
        look: float,
    ) -> None:
        """`look`: seconds between looks without a reason."""
        self._pause = look
        self._endpoints = endpoints
        self._records = records
        self._links = links
        self._ipam = ipam
        self._standing = standing
        self._upkeep = upkeep
        self._strays: dict[str, Link] = {}

    async def restore(self) -> None:
        """To be done before the reconciler writes and before the API is served."""
        self._records.load()
        links = {link.name: link for link in await self._links.ours()}
        for name, record in list(self._records.all.items()):
            endpoint = record.endpoint
            if record.stage is not Stage.ATTACHED:
                await self._withdraw(record)
                continue
            assert endpoint is not None
            known = links.pop(endpoint.host_interface, None)
            if known is None and not endpoint.namespace:
                known = await self._links.find(endpoint.host_interface)
            if known is None:
                gone = f"{endpoint.host_interface} is gone"
                self._standing.note(name, Concern.LINK, gone, withdraw=True)
            self._standing.put(endpoint)
        self._strays = links
        await self._adopt(ASK_SECONDS)
        log.info("endpoints_restored", endpoints=len(self._records), strays=len(self._strays))

    async def run(self) -> None:
        """Looks after what is unfinished, for ever."""
        backoff = Backoff(BackoffPolicy(initial=0.5, maximum=self._pause), random.random)
        while True:
            unfinished = await self._look()
            pause = backoff.failed() if unfinished else self._pause
            if not unfinished:
                backoff.succeeded()
            try:
                async with asyncio.timeout(max(pause, 0.1)):
                    await self._endpoints.unfinished.wait()
            except TimeoutError:
                pass
            else:
                self._endpoints.unfinished.clear()
                await asyncio.sleep(max(pause, 0.1) if unfinished else 0.1)

    async def _look(self) -> bool:
        """Whether something is still unfinished."""
        try:
            unfinished = await self._finish()
            await self._adopt(ASK_SECONDS)
            await self._upkeep.look()
        except RomanaError as error:  # the kernel or ipam does not answer: it will
            log.warning("endpoints_not_looked_at", message=error.message)
            return True
        return unfinished

    async def _withdraw(self, record: Record) -> None:
        """Takes the link away at once; addresses follow when ipam is there."""
        if record.spec.namespace:
            await self._links.delete(endpoint_names.host_interface(record.spec.name))
        if record.stage is Stage.BEGUN:
            withdrawn = Record(record.spec, Stage.DETACHING)
            try:
                await self._records.write(withdrawn)
            except WrongState as error:  # the file says that it was begun: the same comes of that
                log.warning("detach_not_noted", endpoint=record.spec.name, message=error.message)
                self._records.adopt(withdrawn)
        self._endpoints.unfinished.set()

    async def _finish(self) -> bool:
        """Whether something is still unfinished."""
        pending = [
            name for name, record in self._records.all.items() if record.stage is Stage.DETACHING
        ]
        for name in pending:
            try:
                await self._endpoints.retry(name)
            except RomanaError as error:
                log.warning("detach_unfinished", endpoint=name, message=error.message)
            if name in self._records.all:
                return True  # ipam is still away: the others would wait for it as long
        return False

    async def _adopt(self, seconds: float) -> None:
        """Keeps the routes of pairs without a record, or deletes pairs that nobody knows.

        Whose a pair is follows from its name and what ipam has for this node: a link's alias has no
        room for the longest names.
        """
        if not self._strays:
            return
        try:
            known = await self._ipam.on_node(asyncio.get_running_loop().time() + seconds)
        except Unavailable:
            return
        # one that was attached anew meanwhile has a record by now, and nobody's word from before
        every = map(EndpointName, (*known, *self._records.all))
        names = {endpoint_names.host_interface(name): name for name in every}
        for interface, link in list(self._strays.items()):
            name = names.get(interface)
            if name is None:
                log.warning("stray_link", interface=interface, alias=link.alias)
                await self._links.delete(interface)
            elif name not in self._records.all:
                allocated = known[name]
                self._standing.put(
                    LocalEndpoint(
                        name=name,
                        tenant=allocated.tenant,
                        segment=allocated.segment,
                        host_interface=interface,
                        addresses=allocated.addresses,
                    )
                )
                log.warning("endpoint_without_record", endpoint=name, interface=interface)
            del self._strays[interface]
