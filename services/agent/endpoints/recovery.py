"""What goes on without a caller: the start after a crash, releases that waited for ipam, links that
somebody took away.

After a start: an attached endpoint is put back as it is, without touching its link, so that no
packet is lost; one that was only begun is undone, since its caller got no answer and will ask
again; one that was being detached is finished. A pair of ours that no record knows (the journal was
lost) keeps its routes if ipam knows its name, which is in the alias, and is deleted if not.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from services.agent.endpoints.attach import Endpoints, State, View
from services.agent.endpoints.ipam_client import IpamClient
from services.agent.endpoints.spec import Record, Step
from services.agent.kernel import endpoint_names
from services.agent.kernel.rtnetlink import Link
from services.agent.kernel.veth import Links
from services.agent.model import LocalEndpoint
from services.agent.routing.reconcile import Reconciler
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import NotFound, RomanaError, Unavailable
from services.common.model.names import EndpointName

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 5.0
"""How often links are compared with the journal."""
ASK_SECONDS: Final = 2.0
"""For ipam to say what a link without a record is; later it is asked again."""


class Recovery:
    """Makes unfinished endpoints finished."""

    def __init__(
        self, endpoints: Endpoints, links: Links, ipam: IpamClient, reconciler: Reconciler
    ) -> None:
        self._endpoints = endpoints
        self._links = links
        self._ipam = ipam
        self._reconciler = reconciler
        self._strays: dict[str, Link] = {}

    async def restore(self) -> None:
        """To be done before the reconciler writes and before the API is served."""
        endpoints = self._endpoints
        endpoints.load()
        links = {link.name: link for link in await self._links.ours()}
        for name, record in list(endpoints.records.items()):
            endpoint = record.endpoint
            if record.step is not Step.ATTACHED:
                await self._withdraw(record)
                continue
            assert endpoint is not None
            known = links.pop(endpoint.host_interface, None)
            if known is None and not endpoint.namespace:
                known = await self._links.find(endpoint.host_interface)
            if known is None:
                endpoints.degrade(name, f"{endpoint.host_interface} is gone")
            else:
                self._reconciler.put_endpoint(endpoint)
        self._strays = links
        await self._adopt(ASK_SECONDS)
        log.info("endpoints_restored", endpoints=len(endpoints.records), strays=len(self._strays))

    async def run(self) -> None:
        """Looks after what is unfinished, for ever."""
        backoff = Backoff(BackoffPolicy(initial=0.5, maximum=LOOK_SECONDS), random.random)
        while True:
            unfinished = await self._finish()
            await self._adopt(ASK_SECONDS)
            await self._look()
            pause = backoff.failed() if unfinished else LOOK_SECONDS
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

    async def _withdraw(self, record: Record) -> None:
        """Takes the link away at once; addresses follow when ipam is there."""
        if record.spec.namespace:
            await self._links.delete(endpoint_names.host_interface(record.spec.name))
        if record.step is Step.BEGUN:
            await self._endpoints.write(Record(record.spec, Step.DETACHING))
        self._endpoints.unfinished.set()

    async def _finish(self) -> bool:
        """Whether something is still unfinished."""
        pending = [
            name
            for name, record in self._endpoints.records.items()
            if record.step is Step.DETACHING
        ]
        for name in pending:
            try:
                await self._endpoints.retry(name)
            except RomanaError as error:
                log.warning("detach_unfinished", endpoint=name, message=error.message)
            if name in self._endpoints.records:
                return True  # ipam is still away: the others would wait for it as long
        return False

    async def _look(self) -> None:
        """Compares links with the journal."""
        there = {link.name for link in await self._links.ours()}
        for name, record in list(self._endpoints.records.items()):
            endpoint = record.endpoint
            if record.step is not Step.ATTACHED or endpoint is None:
                continue
            interface = endpoint.host_interface
            if endpoint.namespace and interface in there:
                continue
            gone = bool(endpoint.namespace) or await self._links.find(interface) is None
            if gone and self._endpoints.view(name) == View(record, State.ATTACHED):
                self._endpoints.degrade(name, f"{interface} is gone")
            if not endpoint.namespace.startswith("/proc/"):
                # a process id may be another process' by now
                await self._repair(name, interface)

    async def _repair(self, name: EndpointName, interface: str) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._endpoints.repair(name)
        except NotFound as error:  # as after a restart of the machine: only a detach ends that
            self._endpoints.degrade(name, f"{interface} is gone, and {error.message}")
        except (RomanaError, TimeoutError) as error:
            log.debug("endpoint_not_repaired", endpoint=name, message=str(error))

    async def _adopt(self, seconds: float) -> None:
        """Keeps the routes of pairs without a record, or deletes pairs that nobody knows."""
        for interface, link in list(self._strays.items()):
            name = EndpointName(link.alias.removeprefix(endpoint_names.ALIAS))
            if endpoint_names.host_interface(name) != interface:
                log.warning("stray_link", interface=interface, alias=link.alias)
                await self._links.delete(interface)  # died between its making and its alias
                del self._strays[interface]
                continue
            if name in self._endpoints.records:
                del self._strays[interface]
                continue
            try:
                known = await self._ipam.find(name, asyncio.get_running_loop().time() + seconds)
            except Unavailable:
                return
            if known is None:
                log.warning("stray_link", interface=interface, alias=link.alias)
                await self._links.delete(interface)
            else:
                self._reconciler.put_endpoint(
                    LocalEndpoint(
                        name=name,
                        tenant=known.tenant,
                        segment=known.segment,
                        host_interface=interface,
                        addresses=known.addresses,
                    )
                )
                log.warning("endpoint_without_record", endpoint=name, interface=interface)
            del self._strays[interface]
