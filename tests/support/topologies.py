"""Layouts and nodes in a line: what topology would have carved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName, NodeName, Tenant, TopologyName
from services.common.model.network import Network, default_block_length
from services.common.model.node import Attachment, Node

TOPOLOGY = TopologyName("dc")


def network(
    name: str, cidr: str, block_length: int = 0, *, tenants: Sequence[str] = (), **rest: Any
) -> Network:
    """A network, without reuse delay unless told otherwise; block length 0: the default one."""
    prefix = ip_network(cidr)
    gateway = rest.pop("gateway", None)
    return Network(
        name=NetworkName(name),
        cidr=prefix,
        block_length=block_length or default_block_length(prefix),
        tenants=tuple(Tenant(tenant) for tenant in tenants),
        gateway=ip_address(gateway) if gateway else None,
        **{"reuse_delay": 0.0, **rest},
    )


def layout(
    networks: Sequence[Network],
    groups: Mapping[str, Mapping[str, str]] | None = None,
    *,
    topology: str = TOPOLOGY,
) -> Layout:
    """One topology of leaf groups with their prefixes per network; None: one group `all`."""
    if groups is None:
        groups = {"all": {item.name: str(item.cidr) for item in networks}}
    return Layout(tuple(networks), (topology_of(topology, networks, groups),))


def topology_of(
    name: str, networks: Sequence[Network], groups: Mapping[str, Mapping[str, str]]
) -> Topology:
    """A topology of leaf groups with their prefixes per network."""
    leaves = tuple(
        Group(
            path=GroupPath(f"{name}/{group}"),
            name=group,
            prefixes={NetworkName(key): ip_network(text) for key, text in prefixes.items()},
        )
        for group, prefixes in groups.items()
    )
    return Topology(TopologyName(name), tuple(item.name for item in networks), leaves)


def node(
    name: str,
    group: str | None = "all",
    *,
    address: str | None = None,
    other_address: str | None = None,
    on: Mapping[str, str] | Sequence[str] = (),
    topology: str = TOPOLOGY,
) -> Node:
    """A node in a leaf group (None: in none); `on` names its networks, with addresses or not."""
    declared = on if isinstance(on, Mapping) else dict.fromkeys(on, "")
    return Node(
        name=NodeName(name),
        address=ip_address(address) if address else None,
        other_address=ip_address(other_address) if other_address else None,
        attachments=tuple(
            Attachment(NetworkName(key), address=ip_address(text) if text else None)
            for key, text in declared.items()
        )
        or None,
        placements={TopologyName(topology): GroupPath(f"{topology}/{group}")} if group else {},
    )
