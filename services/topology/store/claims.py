"""What a transaction demands of ipam's claims, so that nothing comes into use behind its back.

See `services.common.etcd.keys`. A claim that is not younger than the revision at which the usage
was looked at is for something that was seen then.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.common.etcd.keys import Keys
from services.common.etcd.types import Compare, Field, Relation, Revision
from services.common.model.layout import Layout
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address, Network
from services.common.records.blocks import PAGE_BITS
from services.common.sizes import TRANSACTION_OPERATIONS
from services.topology.layout.diff import Kind, NetworkChange
from services.topology.layout.plan import Plan

MAX_COMPARES = TRANSACTION_OPERATIONS - 8
"""The rest of a transaction compares a few things, too."""
_CARVING = {"cidr", "block_length", "topology"}
"""The fields of a network that decide where its blocks may be."""


def networks_losing(plan: Plan) -> set[NetworkName]:
    """The networks of which the plan takes prefixes away, be it to give them to another group."""
    networks = {change.network for change in plan.networks if _takes_away(change)}
    return networks | {change.network for change in plan.groups if change.kind is not Kind.ADDED}


def of_plan(
    plan: Plan, before: Layout, moved: Iterable[NodeName], keys: Keys, seen: Revision
) -> list[Compare]:
    """Demands that none of what the plan takes away has come into use after `seen`."""
    networks = {change.network for change in plan.networks if _takes_away(change)}
    leaves = {leaf.path for topology in before.topologies for leaf in topology.leaves()}
    groups = [
        change
        for change in plan.groups
        if change.before is not None
        and change.network not in networks
        and change.group in leaves
        and change.kind is not Kind.ADDED
    ]
    nodes = sorted(set(moved))
    if len(nodes) > MAX_COMPARES // 2:
        node_compares = [_older(keys.node_claim(NodeName("")), seen, prefix=True)]
    else:
        node_compares = [of_node(node, keys, seen) for node in nodes]
    room = MAX_COMPARES - len(node_compares) - len(networks)
    if len(groups) > room:
        networks |= {change.network for change in groups}
        groups = []
    prefixes = [_older(keys.network_claims(name), seen, prefix=True) for name in sorted(networks)]
    if len(prefixes) + len(node_compares) > MAX_COMPARES:
        prefixes = [_older(_all_groups(keys), seen, prefix=True)]
    return [
        *node_compares,
        *prefixes,
        *(_older(keys.group_claim(change.network, change.group), seen) for change in groups),
    ]


def of_addresses(
    addresses: Iterable[Address], layout: Layout, keys: Keys, seen: Revision
) -> dict[str, Compare]:
    """Demands that no endpoint got one of the addresses after `seen`, by the key of the page that
    it would be in; `layout` is the one by which ipam decides."""
    pages = {
        _page_of(address, network, keys)
        for address in addresses
        for network in layout.networks
        if address in network.cidr
    }
    return {key: _older(key, seen) for key in sorted(pages)}


def of_whole_networks(
    networks: Iterable[NetworkName], keys: Keys, seen: Revision, room: int
) -> list[Compare]:
    """The same of all addresses of networks: nothing was allocated or released there."""
    names = sorted(set(networks))
    if len(names) > room:
        return [_older(keys.blocks, seen, prefix=True)]
    return [_older(keys.network_blocks(name), seen, prefix=True) for name in names]


def of_node(node: NodeName, keys: Keys, seen: Revision) -> Compare:
    """Demands that no block of the node has come into use after `seen`."""
    return _older(keys.node_claim(node), seen)


def _page_of(address: Address, network: Network, keys: Keys) -> str:
    bits = network.cidr.max_prefixlen
    offset = int(address) & ((1 << bits - network.block_length) - 1)
    return keys.block(network.name, int(address) - offset, offset >> PAGE_BITS, bits)


def _takes_away(change: NetworkChange) -> bool:
    return change.kind is Kind.REMOVED or not _CARVING.isdisjoint(change.fields)


def _older(key: str, seen: Revision, *, prefix: bool = False) -> Compare:
    return Compare(key, Field.MOD, Relation.LESS, seen + 1, prefix=prefix)


def _all_groups(keys: Keys) -> str:
    return keys.network_claims(NetworkName("")).removesuffix("/")
