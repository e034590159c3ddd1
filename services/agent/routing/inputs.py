"""What is asked of this node's routes, and what of the kernel may not be as it was. Pure.

Whatever comes is noted at once; `task` makes of it what a round starts from, and begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.agent.kernel import endpoint_names
from services.agent.kernel.heard import ALL, Heard
from services.agent.kernel.state import Kind, Look
from services.agent.model import DeviceWay, LocalEndpoint, Myself, Remote
from services.agent.routing.prefixes import Changed
from services.common.model.names import EndpointName
from services.common.model.node import Attachment

QUICK: Final = ALL - {Kind.ROUTE, Kind.RULE}
"""What is cheap to read; of rules that somebody changes the kernel tells."""
HEARD_SECONDS: Final = 0.05
"""From a notification of the kernel to the round for it: one link that is made or deleted makes a
dozen. What is asked for does not wait."""
ENDPOINT_SECONDS: Final = 0.5
"""The same for endpoints' links, which come and go all the time, mostly by our own threads' doing:
what is asked for with them has its round already."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What a round is told to look at."""

    changed: Changed
    dirty: frozenset[Kind]
    down: frozenset[int]
    look: Look | None


class RouteInputs:
    """All that others say."""

    def __init__(self, myself: Myself, *, attachments_known: bool) -> None:
        """Nothing is known of the kernel, and nothing is asked for."""
        self.myself = myself
        self.attachments_known = attachments_known
        self.remote: Remote | None = None
        self.endpoints: dict[EndpointName, LocalEndpoint] = {}
        self.devices: tuple[DeviceWay, ...] = ()
        self._changed: Changed = None
        self._dirty = ALL
        self._down: frozenset[int] = frozenset()
        self._look: frozenset[str] | None = None
        self._links_due = self._endpoints_due = math.inf

    def set_remote(self, remote: Remote, changed: Changed) -> None:
        """Takes over what ipam says; `changed` as of the remote before."""
        if changed is None or self._changed is None:
            self._changed = None
        else:
            self._changed = {*self._changed, *changed}
        self.remote = remote

    def put_endpoint(self, endpoint: LocalEndpoint) -> None:
        """Adds or changes one."""
        self._look_at(endpoint)
        before = self.endpoints.get(endpoint.name)
        if before is not None:
            self._look_at(before)
        self.endpoints[endpoint.name] = endpoint

    def remove_endpoint(self, name: EndpointName) -> bool:
        """Forgets one; says whether there was one."""
        before = self.endpoints.pop(name, None)
        if before is not None:
            self._look_at(before)
        return before is not None

    def set_attachments(self, attachments: Sequence[Attachment]) -> bool:
        """Replaces this node's; says whether they are others."""
        if tuple(attachments) == self.myself.attachments and self.attachments_known:
            return False
        self.attachments_known = True
        self._look = None
        self.myself = replace(self.myself, attachments=tuple(attachments))
        return True

    def set_devices(self, devices: Sequence[DeviceWay]) -> bool:
        """Replaces the legs of devices; says whether they are others."""
        if self.devices == tuple(devices):
            return False
        self.devices = tuple(devices)
        return True

    def read(self, kinds: frozenset[Kind]) -> None:
        """Has these read in the next round."""
        self._dirty |= kinds

    def forget_kernel(self) -> None:
        """Nothing that is believed of the kernel holds."""
        self._dirty, self._changed, self._look = ALL, None, None

    def hear(self, heard: Heard, now: float) -> None:
        """Notes what the kernel tells; `due` says when to look."""
        self._dirty |= heard.kinds
        self._down |= heard.down
        if heard.endpoints:
            self._endpoints_due = min(self._endpoints_due, now + ENDPOINT_SECONDS)
        if heard.kinds:
            self._links_due = min(self._links_due, now + HEARD_SECONDS)
        elif heard.down:
            self._links_due = min(self._links_due, now + ENDPOINT_SECONDS)

    @property
    def due(self) -> float:
        """When to look at what was heard; infinite: nothing was."""
        return min(self._links_due, self._endpoints_due)

    def noted(self, now: float) -> Noted:
        """What the round that begins now has to look at; from here on it counts as seen."""
        if now >= self._endpoints_due:
            self._look = None
        look = self._what_to_look_at()
        if look is None:
            self._endpoints_due = math.inf
        made = Noted(self._changed, self._dirty, self._down, look)
        self._changed, self._dirty, self._down = (), frozenset(), frozenset()
        self._look, self._links_due = frozenset(), math.inf
        return made

    def _look_at(self, endpoint: LocalEndpoint) -> None:
        """Has the next round look at an endpoint's interface, if it looks at no more than some.

        That of a VM is made by others, with whatever they want: then it looks at all.
        """
        if self._look is not None:
            if endpoint_names.is_host_interface(endpoint.host_interface):
                self._look |= {endpoint.host_interface}
            else:
                self._look = None

    def _what_to_look_at(self) -> Look | None:
        if self._look is None or self._dirty:
            return None
        needed = {endpoint.host_interface for endpoint in self.endpoints.values()}
        return Look(self._look & needed, self._look - needed)
