"""Whose the addresses of attached endpoints are: what this node uses, and what ipam has given it.

Ipam may have forgotten an address that is in use here: a node was removed by force, an address
released by hand, a store restored from a backup. What it has for nobody is claimed again, under the
same name. What it has for somebody else is theirs: nothing leads to our endpoint any more, which is
degraded until its address is free again or it is detached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import structlog

from services.agent.endpoints.addressing import Addressing
from services.agent.endpoints.ipam_client import Allocated
from services.agent.endpoints.spec import EndpointSpec
from services.agent.endpoints.standing import Concern, Standing
from services.agent.model import AddressWant, EndpointAddress, LocalEndpoint, Remote
from services.agent.routing.whereabouts import endpoints_here
from services.common.errors import AlreadyExists, Exhausted, RomanaError, Unavailable
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.model.network import Prefix

log = structlog.get_logger(__name__)

Prefixes: TypeAlias = Mapping[NetworkName, Sequence[Prefix]]

ASK_SECONDS: Final = 3.0
HEARING_SECONDS: Final = (0.0, 0.2, 0.8)
"""Before each question."""
COMPARE_SECONDS: Final = 60.0
"""Between comparisons without a reason: a block that goes from the node is a reason, and ipam tells
of it at once."""


class Ownership:
    """Compares, claims, and says what is not ours."""

    def __init__(
        self,
        node: NodeName,
        addressing: Addressing,
        standing: Standing,
        remote: Callable[[], Remote],
    ) -> None:
        self._node = node
        self._addressing = addressing
        self._standing = standing
        self._remote = remote
        self._due = 0.0
        self._owned: tuple[Remote, Prefixes] | None = None

    async def compare(self) -> Mapping[EndpointName, bool]:
        """Whether ipam says something else than is used here, by endpoint, if it is time to ask.

        Of those only that were attached before it was asked; of none while ipam is away.
        """
        now = asyncio.get_running_loop().time()
        remote = self._remote()
        attached = endpoints_here(self._standing.endpoints, remote, self._node)
        if not attached or (now < self._due and not self._is_doubtful(attached.values())):
            return {}
        try:
            known = await self._addressing.ipam.on_node(now + ASK_SECONDS)
        except Unavailable:
            return {}
        self._due = now + COMPARE_SECONDS
        return {
            name: differs(endpoint, known.get(endpoint.allocation_name))
            for name, endpoint in attached.items()
        }

    async def agreed(self, endpoint: LocalEndpoint) -> None:
        """Ipam has the addresses of an endpoint for it."""
        if self._standing.clear(endpoint.name, Concern.OWNERSHIP):
            await self._addressing.announce(endpoint.addresses)

    async def claim(self, endpoint: LocalEndpoint) -> None:
        """Has ipam have the addresses of an endpoint for it, as far as it will."""
        name = endpoint.name
        deadline = asyncio.get_running_loop().time() + ASK_SECONDS
        try:
            given = await self._addressing.ipam.allocate(_claim(endpoint), deadline)
        except Unavailable:
            return
        except (AlreadyExists, Exhausted) as error:
            self._standing.note(name, Concern.OWNERSHIP, error.message, withdraw=True)
        except RomanaError as error:  # such as: the node is not registered yet
            self._standing.note(name, Concern.OWNERSHIP, error.message, withdraw=False)
        else:
            log.info("addresses_claimed", endpoint=name, addresses=_text(endpoint.addresses))
            if not given.arriving:
                await self.agreed(endpoint)

    async def problem(self, endpoint: LocalEndpoint) -> str:
        """What ipam says of an endpoint's addresses now; empty: the same, or it is away.

        A replica that is not active may not have heard of it yet: it is asked again.
        """
        loop = asyncio.get_running_loop()
        known: Allocated | None = None
        for pause in HEARING_SECONDS:
            await asyncio.sleep(pause)
            try:
                known = await self._addressing.ipam.find(
                    endpoint.allocation_name, loop.time() + ASK_SECONDS
                )
            except Unavailable:
                return ""
            if not differs(endpoint, known):
                return ""
        has = _text(known.addresses) if known is not None else "nothing"
        return f"ipam has {has} for it on this node, not {_text(endpoint.addresses)}"

    def _is_doubtful(self, endpoints: Iterable[LocalEndpoint]) -> bool:
        """Whether one is in trouble already, or outside of what this node owns."""
        remote = self._remote()
        if self._owned is None or self._owned[0] is not remote:  # it may have 100,000 routes
            self._owned = remote, owned(remote, self._node)
        return any(
            self._standing.has(endpoint.name, Concern.OWNERSHIP)
            or not is_covered(endpoint, self._owned[1])
            for endpoint in endpoints
        )


def differs(endpoint: LocalEndpoint, known: Allocated | None) -> bool:
    """Whether ipam has other addresses, or another owner, for an endpoint than it uses."""
    return (
        known is None
        or set(known.addresses) != set(endpoint.addresses)
        or (known.tenant, known.segment) != (endpoint.tenant, endpoint.segment)
    )


def owned(remote: Remote, node: NodeName) -> Prefixes:
    """A node's own prefixes, by network."""
    own: dict[NetworkName, list[Prefix]] = {}
    for (network, prefix), owner in remote.routes.items():
        if owner == node:
            own.setdefault(network, []).append(prefix)
    return own


def is_covered(endpoint: LocalEndpoint, own: Prefixes) -> bool:
    """Whether all addresses of an endpoint are in prefixes of its node."""
    return all(
        any(item.address in prefix for prefix in own.get(item.network, ()))
        for item in endpoint.addresses
    )


def _claim(endpoint: LocalEndpoint) -> EndpointSpec:
    return EndpointSpec(
        endpoint.name,
        endpoint.tenant,
        endpoint.segment,
        endpoint.interface,
        addresses=tuple(
            AddressWant(item.network, address=str(item.address)) for item in endpoint.addresses
        ),
        allocation=endpoint.allocation,
    )


def _text(addresses: Iterable[EndpointAddress]) -> str:
    return ", ".join(str(item.address) for item in addresses)
