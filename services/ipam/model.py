"""What ipam is about: owners, addresses that are asked for or in use, and why there is none.

Addresses are plain ints with the family's number of bits, and what is made for every allocation is
a frozen struct of msgspec: a frozen dataclass takes ten times as long to make (440 ns against 40),
an object of `ipaddress` longer than the allocation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import Final, NamedTuple

from msgspec import Struct

from services.common.errors import Exhausted
from services.common.model.addresses import read_address
from services.common.model.names import (
    EndpointName,
    GroupPath,
    NetworkName,
    NodeName,
    Segment,
    Tenant,
)

IPV4_BITS: Final = 32
IPV6_BITS: Final = 128
ADDRESSES_MOST: Final = 16
"""Addresses that one command may ask for: with their claims they fit into one transaction."""


class Owner(NamedTuple):
    """Who holds a block, or shall get an address."""

    node: NodeName
    tenant: Tenant
    segment: Segment


class AddressSpec(NamedTuple):
    network: NetworkName | None = None
    """None: the tenant's networks in the order they are tried."""
    bits: int = 0
    """Family as address length; 0: either."""
    address: int | None = None
    """Exactly this one; `bits` says its family."""


ANY: Final = (AddressSpec(),)


class AllocatedAddress(Struct, frozen=True, gc=False):
    address: int
    bits: int
    network: NetworkName
    block_base: int
    block_length: int
    time: int
    """When it was allocated, Unix time in seconds."""

    @property
    def text(self) -> str:
        return address_text(self.address, self.bits)


class Visit(NamedTuple):
    """Where the endpoint of an address is that is not on its block's node, or is about to move."""

    node: NodeName
    """Where it is."""
    to: NodeName | None = None
    """Where it is moving to."""
    ready: bool = False
    """That node is prepared to take it over."""
    known: bool = False
    """The node that it is on knows of the move."""


class Allocation(Struct, frozen=True, gc=False):
    """One address in use, with its name and owner."""

    name: EndpointName
    owner: Owner
    address: AllocatedAddress


class Why(Enum):
    """Why a network can give no address."""

    NOT_THIS_TENANT = "the network is for other tenants"
    OTHER_FAMILY = "the network has another address family"
    NODE_NOT_ATTACHED = "the node is not attached to the network"
    NO_GROUP = "the node's labels fit no prefix group of the network"
    GROUP_FULL = "every block of the group is held, and this owner's on this node are full"
    RESERVED = "all that is left in the group is reserved"
    ADDRESS_RESERVED = "the address is reserved"
    RESTING = "all that is left was released a short while ago and rests"
    ADDRESS_IN_USE = "the address is in use"
    BLOCK_HELD_BY_OTHER = "the address lies in a block of another node or owner"
    ADDRESS_OUTSIDE = "the address is outside the node's prefix group"
    STRANDED = "the address lies in a block that a forced change left outside of its group"
    NODE_CORDONED = "the node is cordoned: it gets no new addresses"


@dataclass(frozen=True, slots=True)
class Refused:
    network: NetworkName
    why: Why
    group: GroupPath | None = None
    resting: int = 0
    retry_after: int = 0
    """Seconds until an address has rested; 0 unless `why` is RESTING."""

    def __str__(self) -> str:
        place = f" (group {self.group})" if self.group else ""
        wait = f", the next for {self.retry_after} s" if self.retry_after else ""
        return f"{self.network}{place}: {self.why.value}{wait}"


@dataclass(eq=False)
class NoAddress(Exhausted):
    """No network could give the address; says which were tried."""

    reason: str = "ADDRESSES_EXHAUSTED"
    ordinal: int = 0
    """Which of the addresses that were asked for there is none for."""
    refusals: Sequence[Refused] = ()


def address_text(address: int, bits: int) -> str:
    """The usual notation; the C library writes it ten times faster than `ipaddress`."""
    if bits == IPV4_BITS:
        return inet_ntoa(address.to_bytes(4, "big"))
    return inet_ntop(AF_INET6, address.to_bytes(16, "big"))


def parse_address(text: str) -> tuple[int, int]:
    """Address and bits of a text; raises ValueError."""
    address = read_address(text)
    return int(address), address.max_prefixlen


@lru_cache(maxsize=65_536)
def prefix_text(base: int, length: int, bits: int) -> str:
    return f"{address_text(base, bits)}/{length}"
