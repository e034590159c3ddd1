"""What orchestrators want attached on this node, as it comes by the stream of rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from services.agent.model import WantedEndpoint
from services.common.model.names import EndpointName

PREFIX = "wanted/"
"""Of their resources' ids."""


class WantedEndpoints:
    """All of them, and who waits for one."""

    def __init__(self) -> None:
        self._known: dict[EndpointName, WantedEndpoint] = {}
        self._awaited: dict[asyncio.Event, EndpointName] = {}
        """By who waits: one may give up before another who waits for the same."""
        self._gone: set[EndpointName] = set()
        self._some_gone = asyncio.Event()

    def update(self, updated: Mapping[str, WantedEndpoint], removed: Iterable[str]) -> None:
        """Takes in what is new, and the ids of what is gone, ours or not."""
        for identity in removed:
            if identity.startswith(PREFIX):
                self._known.pop(EndpointName(identity.removeprefix(PREFIX)), None)
        for one in updated.values():
            self._known[one.name] = one
            if one.is_gone:
                self._gone.add(one.name)
                self._some_gone.set()
        for event, name in self._awaited.items():
            if name in self._known:
                event.set()

    def replace(self, wanted: Mapping[str, WantedEndpoint]) -> None:
        """Takes in all that there are."""
        here = {one.name for one in wanted.values()}
        self.update(wanted, [f"{PREFIX}{name}" for name in self._known if name not in here])

    def get(self, name: EndpointName) -> WantedEndpoint | None:
        """One of them; None: nobody wants it here, as far as is known."""
        return self._known.get(name)

    def keeps(self, name: EndpointName) -> bool:
        """Whether it will want its addresses after it was detached."""
        wanted = self._known.get(name)
        return wanted is not None and not (wanted.is_ending or wanted.is_gone)

    async def gone(self) -> set[EndpointName]:
        """Those that are no more, as soon as there are some that were not asked for before."""
        await self._some_gone.wait()
        self._some_gone.clear()
        found, self._gone = self._gone, set()
        return found

    async def wait(self, name: EndpointName, seconds: float) -> WantedEndpoint | None:
        """One of them, as soon as it is known; None: not within that time."""
        if name not in self._known:
            event = asyncio.Event()
            self._awaited[event] = name
            try:
                async with asyncio.timeout(seconds):
                    await event.wait()
            except TimeoutError:
                pass
            finally:
                del self._awaited[event]
        return self._known.get(name)
