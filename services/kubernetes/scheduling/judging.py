"""Which nodes a pod may go to, why not to the others, and which are the best. Pure.

A node fits if it has room for each address that the pod wants. What it lacks for good (it is not on
the network, the network is not this tenant's) is told from what may come (an address is freed):
kube-scheduler looks for pods to evict only for the latter. Nodes that lack the same are told in the
same words, so that they are counted together in the pod's event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from services.common.model.names import NetworkName, NodeName
from services.kubernetes.objects.metadata import annotation_path
from services.kubernetes.scheduling.places import Place, Places
from services.kubernetes.scheduling.rooms import Lack, Rooms

BEST = 10
"""What kube-scheduler's extenders give at most."""
UNKNOWN = "Romana does not know the node"
ADDRESSES_FIELD = annotation_path("addresses")
CORDONED = "the node is cordoned: it gets no new addresses"


@dataclass(slots=True)
class Judged:
    """The nodes that were asked about."""

    fit: list[NodeName] = field(default_factory=list)
    failed: dict[NodeName, str] = field(default_factory=dict)
    """May fit once addresses are freed."""
    unresolvable: dict[NodeName, str] = field(default_factory=dict)
    """Will not fit whatever pods go."""


def judge(rooms: Sequence[Rooms], places: Places, nodes: Iterable[NodeName]) -> Judged:
    """Judges nodes by the rooms for each address that is wanted."""
    judged = Judged()
    fit, where = judged.fit, places.nodes.get
    kinds: dict[int, list[_Unheld] | None] = {}
    for name in nodes:
        place = where(name)
        if place is None:
            judged.unresolvable[name] = UNKNOWN
            continue
        kind = id(place)
        if kind not in kinds:
            kinds[kind] = _unheld(rooms, place)
        unheld = kinds[kind]
        if unheld is None:
            judged.unresolvable[name] = CORDONED
            continue
        for one in unheld:
            if not any(name in held for held in one.held):
                (judged.unresolvable if one.is_for_good else judged.failed)[name] = one.why
                break
        else:
            fit.append(name)
    return judged


@dataclass(frozen=True, slots=True)
class _Unheld:
    """An address for which the nodes of a kind have room only in blocks that are held there."""

    held: Sequence[Mapping[NodeName, int]]
    why: str
    is_for_good: bool


def _unheld(rooms: Sequence[Rooms], place: Place) -> list[_Unheld] | None:
    """Of all that is wanted; None: the nodes are cordoned."""
    if place.cordoned:
        return None
    found = []
    for one in rooms:
        on = [(each, group) for each in one.networks if (group := place.groups.get(each))]
        if not any(one.free.get(key) for key in on):
            held = [one.held[network] for network, _ in on if network in one.held]
            found.append(_Unheld(held, *_lacks(one, place)))
    return found


@dataclass(frozen=True, slots=True)
class Home:
    """Where the addresses are that stay with a pod's name."""

    node: NodeName
    networks: frozenset[NetworkName]


def keep_at(home: Home, places: Places, nodes: Iterable[NodeName]) -> dict[NodeName, int]:
    """Marks of the nodes at which a pod may have the addresses of its name: where they are, and in
    the same groups."""
    place = places.nodes.get(home.node)
    if place is None:
        return {}
    found = {name: places.nodes.get(name) for name in nodes}
    return {
        name: BEST if name == home.node else BEST - 1
        for name, one in found.items()
        if one is not None
        and not (one.cordoned and name != home.node)
        and all(one.groups.get(each) == place.groups.get(each) for each in home.networks)
    }


def score(rooms: Sequence[Rooms], places: Places, nodes: Sequence[NodeName]) -> list[int]:
    """0 to 10 for each node.

    The most for one that has room in blocks that it holds, so that these are filled; then by what
    is free.
    """
    kinds: dict[int, list[_Tried]] = {}
    found: list[tuple[int, bool]] = []
    for name in nodes:
        place = places.nodes.get(name)
        if place is None:
            found.append((0, False))
            continue
        kind = id(place)
        tried = kinds.get(kind)
        if tried is None:
            tried = kinds[kind] = [_tried(one, place) for one in rooms]
        found.append(_least(tried, name))
    most = max((free for free, _ in found), default=0)
    return [BEST if held else 1 + (BEST - 2) * free // most if free else 0 for free, held in found]


_Tried: TypeAlias = Sequence[tuple[int, Mapping[NodeName, int]]]
"""For an address, of each network up to the first that has room for every node of a kind: how much,
and what nodes have besides."""


def _tried(rooms: Rooms, place: Place) -> _Tried:
    found = []
    for network in rooms.networks:
        group = place.groups.get(network)
        if group is not None:
            free = rooms.free.get((network, group), 0)
            found.append((free, rooms.held.get(network, {})))
            if free:
                break
    return found


def _least(wanted: Sequence[_Tried], node: NodeName) -> tuple[int, bool]:
    """What is free for the address for which least is, and whether each is in a block that the
    owner has there."""
    least, all_held = -1, True
    for tried in wanted:
        free = in_blocks = 0
        for unheld, held in tried:
            in_blocks = held.get(node, 0)
            free = unheld + in_blocks
            if free:
                break
        all_held = all_held and in_blocks > 0
        if least < 0 or free < least:
            least = free
    return max(least, 0), all_held and least > 0


def _lacks(rooms: Rooms, place: Place) -> tuple[str, bool]:
    """What to say of a node that has no room, and whether that is for good."""
    temporary: list[str] = []
    lasting: list[str] = []
    for network in rooms.networks:
        group = place.groups.get(network)
        if group is None:
            lack = Lack.NO_GROUP if network in place.unplaced else Lack.NOT_ATTACHED
            lasting.append(f"{network}: {lack}")
            continue
        lack = rooms.lacks.get((network, group), Lack.FULL)
        (lasting if lack.is_for_good else temporary).append(f"{_said(network, lack)} in {group}")
    if temporary:
        return "; ".join(temporary), False
    lasting += [_said(network, lack) for network, lack in rooms.excluded.items()]
    return "; ".join(lasting) or "there is no network", True


def _said(network: NetworkName, lack: Lack) -> str:
    where = f"{ADDRESSES_FIELD}: " if lack.is_of_the_address else ""
    return f"{where}{network}: {lack}"
