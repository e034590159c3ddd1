"""How attached endpoints stand: what is wrong with each, and whether routes lead to it.

One endpoint's trouble is its own: it is shown there, and keeps neither another one nor the node
from working. Troubles come from those who compare two sides (link and journal, ipam and journal)
and go when the sides agree again. While one *withdraws* it, nothing leads to the endpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

import structlog

from services.agent.model import EndpointAddress, LocalEndpoint
from services.common.model.names import EndpointName
from services.common.model.network import Address

log = structlog.get_logger(__name__)


class Concern(StrEnum):
    """Who says that something is wrong."""

    LINK = "link"
    """It is gone."""
    OWNERSHIP = "ownership"
    """Ipam does not have the addresses for it."""
    REMOVAL = "removal"
    """Somebody has removed this node."""
    CONDITION = "condition"
    """The link is not as it shall be."""
    GUEST = "guest"
    """Its guest is not told who it is."""


class EndpointRoutes(Protocol):
    """Makes routes to endpoints: the reconciler."""

    @property
    def failures(self) -> Mapping[str, str]:
        """What the kernel does not hold: messages by resource id, such as `endpoint/NAME`."""

    def put_endpoint(self, endpoint: LocalEndpoint, /) -> None:
        """Has routes lead to it."""

    def remove_endpoint(self, name: EndpointName, /) -> None:
        """Has none lead to it."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    text: str
    withdraws: bool


class Standing:
    """Of the endpoints of one node. Everything returns at once."""

    def __init__(self, kernel: EndpointRoutes) -> None:
        self._kernel = kernel
        self._endpoints: dict[EndpointName, LocalEndpoint] = {}
        self._holders: dict[Address, EndpointName] = {}
        """Of the addresses that routes lead to."""
        self._troubles: dict[EndpointName, dict[Concern, _Trouble]] = {}

    @property
    def endpoints(self) -> Mapping[EndpointName, LocalEndpoint]:
        """Those that are attached, withdrawn ones too."""
        return MappingProxyType(self._endpoints)

    def put(self, endpoint: LocalEndpoint) -> None:
        """It is attached: routes shall lead to it, unless it is withdrawn."""
        self._let_go(endpoint.name)
        self._endpoints[endpoint.name] = endpoint
        if not self.is_withdrawn(endpoint.name):
            self._lead_to(endpoint)

    def drop(self, name: EndpointName) -> None:
        """It is not attached any more."""
        self._let_go(name)
        self._endpoints.pop(name, None)
        self._troubles.pop(name, None)
        self._kernel.remove_endpoint(name)

    def note(self, name: EndpointName, concern: Concern, text: str, *, withdraw: bool) -> None:
        """Something is wrong with an attached endpoint."""
        troubles = self._troubles.setdefault(name, {})
        trouble = _Trouble(text, withdraw)
        if troubles.get(concern) == trouble:
            return
        log.warning("endpoint_degraded", endpoint=name, concern=concern.value, problem=text)
        troubles[concern] = trouble
        if withdraw:
            self._let_go(name)
            self._kernel.remove_endpoint(name)

    def clear(self, name: EndpointName, concern: Concern) -> bool:
        """It is not wrong, or no more; says whether routes lead to it again that did not."""
        troubles = self._troubles.get(name, {})
        if concern not in troubles:
            return False
        was_withdrawn = self.is_withdrawn(name)
        del troubles[concern]
        if not troubles:
            del self._troubles[name]
        log.info("endpoint_recovered", endpoint=name, concern=concern.value)
        endpoint = self._endpoints.get(name)
        if endpoint is None or not was_withdrawn or self.is_withdrawn(name):
            return False
        self._lead_to(endpoint)
        return True

    @property
    def disowned(self) -> Mapping[EndpointName, str]:
        """Attached endpoints whose addresses ipam has not for them, and why, for people."""
        return {
            name: troubles[Concern.OWNERSHIP].text
            for name, troubles in self._troubles.items()
            if Concern.OWNERSHIP in troubles
        }

    def has(self, name: EndpointName, concern: Concern) -> bool:
        """Whether that is wrong."""
        return concern in self._troubles.get(name, {})

    def is_withdrawn(self, name: EndpointName) -> bool:
        """Whether nothing is to lead there."""
        return any(trouble.withdraws for trouble in self._troubles.get(name, {}).values())

    def problem(self, name: EndpointName) -> str:
        """All that is wrong with it, for people; empty: nothing."""
        found = [trouble.text for trouble in self._troubles.get(name, {}).values()]
        failure = self._kernel.failures.get(f"endpoint/{name}")
        return "; ".join([*found, failure] if failure else found)

    def holders(
        self, addresses: Collection[EndpointAddress], name: EndpointName
    ) -> list[LocalEndpoint]:
        """Other endpoints on this node that have one of the addresses in use."""
        names = dict.fromkeys(
            self._holders[item.address] for item in addresses if item.address in self._holders
        )
        return [self._endpoints[holder] for holder in names if holder != name]

    def _lead_to(self, endpoint: LocalEndpoint) -> None:
        self._holders.update((item.address, endpoint.name) for item in endpoint.addresses)
        self._kernel.put_endpoint(endpoint)

    def _let_go(self, name: EndpointName) -> None:
        endpoint = self._endpoints.get(name)
        for item in () if endpoint is None else endpoint.addresses:
            if self._holders.get(item.address) == name:
                del self._holders[item.address]
