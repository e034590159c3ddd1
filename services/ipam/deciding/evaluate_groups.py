"""Where there is room for an owner, by groups: for schedulers that know where their nodes are.

It costs as much as there are groups, not as there are nodes: a scheduler of thousands of nodes asks
for every pod. What nodes have besides, in blocks that the owner holds, is in `held_rooms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.errors import NotFound
from services.common.model.names import GroupPath, NetworkName, NodeName, Segment, Tenant
from services.ipam.deciding.explain import refuse
from services.ipam.ledger.areas import Area
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import AddressSpec, Owner, Refused, Why


@dataclass(frozen=True, slots=True)
class GroupRoom:
    """What any node of a group can get there."""

    network: NetworkName
    group: GroupPath
    free: int = 0
    """Addresses that nobody holds."""
    refused: Refused | None = None
    """Why it is none."""


@dataclass(frozen=True, slots=True)
class HolderRoom:
    """What a node can get besides, of blocks that the owner holds there."""

    network: NetworkName
    node: NodeName
    free: int


@dataclass(slots=True)
class Rooms:
    """Where an owner can get an address, and on which networks nowhere."""

    groups: list[GroupRoom] = field(default_factory=list)
    """In the order in which networks are tried."""
    holders: list[HolderRoom] = field(default_factory=list)
    """If one address is asked for: who holds its block."""
    refused: list[Refused] = field(default_factory=list)
    """Networks that are out of the question for every node."""


class GroupEvaluating:
    """Evaluates all groups for an owner, one after the other; the answer is in `rooms`."""

    def __init__(self, tenant: Tenant, segment: Segment, spec: AddressSpec) -> None:
        self._owner = Owner(NodeName(""), tenant, segment)
        self._spec = spec
        self.rooms = Rooms()

    @property
    def networks(self) -> Sequence[NetworkName]:
        """Those that have groups, in the order in which they are tried."""
        return list(dict.fromkeys(room.network for room in self.rooms.groups))

    def begin(self, ledger: Ledger) -> Sequence[tuple[NetworkName, GroupPath]]:
        """The groups to look at; raises NotFound for an unknown network."""
        spec, tenant = self._spec, self._owner.tenant
        if spec.network is not None and spec.network not in ledger.networks:
            raise NotFound(
                f"there is no network {spec.network!r}",
                reason="NETWORK_NOT_FOUND",
                metadata={"field": "network", "network": spec.network},
            )
        places = []
        for name in _in_order(ledger, tenant):
            net = ledger.networks[name]
            if spec.network not in {None, name}:
                continue
            if not net.network.allows(tenant):
                self.rooms.refused.append(Refused(name, Why.NOT_THIS_TENANT))
            elif spec.bits not in {0, net.bits}:
                self.rooms.refused.append(Refused(name, Why.OTHER_FAMILY))
            elif spec.address is not None and not net.base <= spec.address < net.stop:
                self.rooms.refused.append(Refused(name, Why.ADDRESS_OUTSIDE))
            else:
                places += [(name, path) for path in net.areas]
        return places

    def look(self, ledger: Ledger, place: tuple[NetworkName, GroupPath], now: int) -> None:
        """Evaluates a group, if it is still there; `now` is the time by which addresses rest, in
        milliseconds."""
        net = ledger.networks.get(place[0])
        area = None if net is None else net.areas.get(place[1])
        if area is None:
            return
        if self._spec.address is None:
            _any(self.rooms, area, self._owner, now)
        else:
            _exactly(self.rooms, ledger, area, self._owner, self._spec.address)


def _in_order(ledger: Ledger, tenant: Tenant) -> Sequence[NetworkName]:
    """Those that name the tenant first."""
    networks = ledger.layout.networks
    named = [network.name for network in networks if tenant in network.tenants]
    return [*named, *(network.name for network in networks if tenant not in network.tenants)]


def _any(rooms: Rooms, area: Area, owner: Owner, now: int) -> None:
    name = area.network.name
    free = area.free()
    refused = None if free else refuse(area, owner, now)
    rooms.groups.append(GroupRoom(name, area.path, free, refused))


def _exactly(rooms: Rooms, ledger: Ledger, area: Area, owner: Owner, address: int) -> None:
    """One address: nobody's, or of a block that one node holds."""
    name = area.network.name
    why: Why | None = None
    if not area.base <= address < area.stop:
        why = Why.ADDRESS_OUTSIDE
    else:
        slot = area.slot(address)
        offset = address - area.slot_base(slot)
        block = ledger.index.blocks.get((name, area.slot_base(slot)))
        if block is None:
            if not area.pool.is_free(slot) or area.partial.get(slot, 0) >> offset & 1:
                why = Why.ADDRESS_RESERVED
        elif block.area is not area:
            why = Why.STRANDED
        elif block.reserved >> offset & 1:
            why = Why.ADDRESS_RESERVED
        elif block.names[offset] is not None:
            why = Why.ADDRESS_IN_USE
        else:
            why = Why.BLOCK_HELD_BY_OTHER
            if block.owner[1:] == owner[1:]:
                rooms.holders.append(HolderRoom(name, block.node, 1))
    refused = None if why is None else Refused(name, why, area.path)
    rooms.groups.append(GroupRoom(name, area.path, 0 if refused else 1, refused))
