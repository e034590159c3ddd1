"""What ipam said of where there is room, kept up to date by what it says has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1 import utilization_pb2

from services.common.model.names import GroupPath, NetworkName, NodeName
from services.kubernetes.scheduling.rooms import Lack, Rooms

_LACKS: Final[Mapping[int, Lack]] = MappingProxyType(
    {
        utilization_pb2.REFUSAL_NOT_THIS_TENANT: Lack.OTHER_TENANTS,
        utilization_pb2.REFUSAL_OTHER_FAMILY: Lack.OTHER_FAMILY,
        utilization_pb2.REFUSAL_NODE_NOT_ATTACHED: Lack.NOT_ATTACHED,
        utilization_pb2.REFUSAL_NO_GROUP: Lack.NO_GROUP,
        utilization_pb2.REFUSAL_GROUP_FULL: Lack.FULL,
        utilization_pb2.REFUSAL_RESERVED: Lack.RESERVED,
        utilization_pb2.REFUSAL_RESTING: Lack.RESTING,
        utilization_pb2.REFUSAL_ADDRESS_IN_USE: Lack.ADDRESS_IN_USE,
        utilization_pb2.REFUSAL_BLOCK_HELD_BY_OTHER: Lack.ADDRESS_HELD,
        utilization_pb2.REFUSAL_ADDRESS_OUTSIDE: Lack.ADDRESS_OUTSIDE,
        utilization_pb2.REFUSAL_STRANDED: Lack.STRANDED,
        utilization_pb2.REFUSAL_NODE_CORDONED: Lack.NODE_CORDONED,
    }
)


class KnownRooms:
    """The answer to one question."""

    def __init__(self) -> None:
        self.one = asyncio.Lock()
        """Whoever asks has it until `take`: answers count in the order of their questions."""
        self.state = ""
        """What ipam calls it."""
        self._held: dict[NetworkName, dict[NodeName, int]] = {}

    def take(self, answer: pb.EvaluateGroupsResponse) -> Rooms:
        """Takes an answer to `state`; what it returns changes with the next."""
        if not answer.is_partial:
            self._held = {}
        self.state = answer.state
        for one in answer.holders:
            of_network = self._held.setdefault(NetworkName(one.network), {})
            if one.free_addresses:
                of_network[NodeName(one.node)] = one.free_addresses
            else:
                of_network.pop(NodeName(one.node), None)
        free: dict[tuple[NetworkName, GroupPath], int] = {}
        lacks: dict[tuple[NetworkName, GroupPath], Lack] = {}
        networks: dict[NetworkName, None] = {}
        for group in answer.groups:
            key = (NetworkName(group.network), GroupPath(group.group))
            networks[key[0]] = None
            free[key] = group.free_addresses
            if group.HasField("refusal"):
                lacks[key] = _lack(group.refusal)
        excluded = {NetworkName(one.network): _of_all(_lack(one)) for one in answer.refusals}
        return Rooms(tuple(networks), free, lacks, self._held, excluded)


def _lack(refusal: utilization_pb2.NetworkRefusal) -> Lack:
    return _LACKS.get(refusal.refusal, Lack.FULL)


def _of_all(lack: Lack) -> Lack:
    """What it means of a whole network."""
    return Lack.OTHER_NETWORK if lack is Lack.ADDRESS_OUTSIDE else lack
