"""Proves that what a change sets aside is in use by nobody.

It is looked up in what ipam has in use, and the transaction demands that nothing was taken since:
see `services.common.etcd.keys`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.etcd.types import Compare, Operation, Put
from services.common.model.layout import Layout
from services.common.model.node import Node
from services.common.sizes import TRANSACTION_OPERATIONS
from services.topology.layout import own_addresses
from services.topology.layout.own_addresses import OwnAddress
from services.topology.store import claims
from services.topology.store.store import TopologyStore, record_unreadable

COMPARES_MOST: Final = 120
"""Of the 128 that etcd takes in a transaction."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """What a transaction needs for setting addresses aside."""

    demands: Sequence[Compare] = ()
    writes: Sequence[Operation] = ()
    nodes: int = 0
    """How many of the nodes it can be for, the first of them."""


def of_nodes(store: TopologyStore, nodes: Sequence[Node], *, beside: int = 0) -> SetAside:
    """What nodes have from now on, as many as a transaction may take; `beside` demands are made
    for other reasons.

    Raises AddressInUse, and WrongState where nobody can know.
    """
    layout, known = store.cache.layout, store.cache.nodes
    pages: dict[str, Compare] = {}
    room = COMPARES_MOST - beside
    first = nodes[:TRANSACTION_OPERATIONS]
    for number, node in enumerate(first):
        items = list(own_addresses.of_nodes(known, (node,)))
        own_addresses.refuse_in_use(items, store.usage)
        new = _pages(store, items, layout)
        if len(pages.keys() | new.keys()) > room:
            if number:
                return SetAside(list(pages.values()), _writes(store, pages), number)
            return SetAside(_whole(store, items, layout, room), _writes(store, new), 1)
        pages |= new
    return SetAside(list(pages.values()), _writes(store, pages), len(first))


def of_layout(store: TopologyStore, layout: Layout, *, beside: int = 0) -> SetAside:
    """What networks of another layout set aside from then on.

    Raises as `of_nodes`.
    """
    before = store.cache.layout
    wanted = list(own_addresses.of_networks(before, layout))
    own_addresses.refuse_in_use(wanted, store.usage)
    pages = _pages(store, wanted, before)
    room = (COMPARES_MOST - beside) // 2  # the other half is for nodes
    demands = list(pages.values())
    if len(demands) > room:
        demands = _whole(store, wanted, before, room)
    return SetAside(demands, _writes(store, pages))


def _pages(
    store: TopologyStore, wanted: Iterable[OwnAddress], layout: Layout
) -> Mapping[str, Compare]:
    addresses = [item.address for item in wanted]
    found = claims.of_addresses(addresses, layout, store.keys, _seen(store))
    for key in found:
        if key in store.unreadable:
            raise record_unreadable(key)
    return found


def _whole(
    store: TopologyStore, wanted: Sequence[OwnAddress], layout: Layout, room: int
) -> list[Compare]:
    """Demands less exactly, with fewer compares."""
    networks = {
        network.name
        for network in layout.networks
        if any(item.address in network.cidr for item in wanted)
    }
    return claims.of_whole_networks(networks, store.keys, _seen(store), room)


def _writes(store: TopologyStore, pages: Mapping[str, Compare]) -> Sequence[Operation]:
    return (Put(store.keys.aside, b"1"),) if pages else ()


def _seen(store: TopologyStore) -> int:
    return store.usage_revision
