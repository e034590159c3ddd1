"""Where ipam has room for what a pod wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.common.model.names import GroupPath, NetworkName, NodeName


class Lack(StrEnum):
    """Why a network has nothing for a node, as its end of a sentence."""

    OTHER_TENANTS = "is for other tenants"
    OTHER_FAMILY = "is of another family"
    NOT_ATTACHED = "the node is not on it"
    NO_GROUP = "the node's labels fit no group of it"
    ADDRESS_OUTSIDE = "the address is of another group"
    OTHER_NETWORK = "the address is not of it"
    FULL = "no address is left"
    RESERVED = "no address is left but reserved ones"
    RESTING = "no address is left but some that were released a short while ago"
    ADDRESS_IN_USE = "the address is in use"
    ADDRESS_HELD = "the address is of a block that another node or owner has"
    STRANDED = "the address is of a block outside of its node's group"
    NODE_CORDONED = "the node is cordoned"

    @property
    def is_for_good(self) -> bool:
        """Whatever pods go: there will be nothing for that node."""
        return self in _FOR_GOOD

    @property
    def is_of_the_address(self) -> bool:
        """It is the address that the pod asks for which does not do."""
        return self in _OF_THE_ADDRESS


_FOR_GOOD = frozenset(
    {
        Lack.OTHER_TENANTS,
        Lack.OTHER_FAMILY,
        Lack.NOT_ATTACHED,
        Lack.NO_GROUP,
        Lack.ADDRESS_OUTSIDE,
        Lack.OTHER_NETWORK,
        Lack.NODE_CORDONED,
    }
)
_OF_THE_ADDRESS = frozenset(
    {
        Lack.ADDRESS_OUTSIDE,
        Lack.OTHER_NETWORK,
        Lack.ADDRESS_IN_USE,
        Lack.ADDRESS_HELD,
        Lack.STRANDED,
    }
)


@dataclass(frozen=True, slots=True)
class Rooms:
    """For one address that is wanted."""

    networks: tuple[NetworkName, ...]
    """That come into question, in the order in which they are tried."""
    free: Mapping[tuple[NetworkName, GroupPath], int]
    """For any node of a group; 0: see `lacks`."""
    lacks: Mapping[tuple[NetworkName, GroupPath], Lack] = field(default_factory=dict)
    held: Mapping[NetworkName, Mapping[NodeName, int]] = field(default_factory=dict)
    """For a node besides: in blocks that the pod's owner has there. It may be kept up to date."""
    excluded: Mapping[NetworkName, Lack] = field(default_factory=dict)
    """Networks that are out of the question for every node."""
