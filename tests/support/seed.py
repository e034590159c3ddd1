"""A topology in the store, without a topology service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.types import Operation, Put
from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName, NodeName, TopologyName
from services.common.model.network import Network
from services.common.model.node import Node
from services.common.records.layout import encode_layout, encode_node

NETWORK = NetworkName("net")
TOPOLOGY = TopologyName("dc")
_PUTS = 100


@dataclass(frozen=True, slots=True)
class Site:
    """One network, racks of equal size, nodes spread over them."""

    cidr: str = "10.0.0.0/8"
    block_length: int = 29
    racks: int = 4
    """A power of two."""
    nodes: int = 8
    reuse_delay: float = 0.0

    @property
    def names(self) -> Sequence[NodeName]:
        return [NodeName(f"node-{number:04}") for number in range(self.nodes)]

    def layout(self) -> Layout:
        cidr = ip_network(self.cidr)
        network = Network(NETWORK, cidr, self.block_length, reuse_delay=self.reuse_delay)
        parts = cidr.subnets(self.racks.bit_length() - 1)
        groups = tuple(
            Group(
                _path(rack),
                f"rack-{rack}",
                {"rack": str(rack)},
                slot=rack,
                prefixes={NETWORK: part},
            )
            for rack, part in enumerate(parts)
        )
        return Layout((network,), (Topology(TOPOLOGY, (NETWORK,), groups, self.racks),))

    def node_list(self) -> Sequence[Node]:
        first = IPv4Address("192.168.0.1")
        return [
            Node(
                name,
                first + number,
                {"rack": str(number % self.racks)},
                placements={TOPOLOGY: _path(number % self.racks)},
            )
            for number, name in enumerate(self.names)
        ]

    async def write(self, client: EtcdClient, keys: Keys) -> None:
        """Puts it into the store."""
        puts: list[Operation] = [Put(keys.layout, encode_layout(self.layout()))]
        puts += [Put(keys.node(node.name), encode_node(node)) for node in self.node_list()]
        for start in range(0, len(puts), _PUTS):
            mark = Put(keys.generation, str(start).encode())
            await client.transact((), [mark, *puts[start : start + _PUTS]])


def _path(rack: int) -> GroupPath:
    return GroupPath(f"{TOPOLOGY}/rack-{rack}")
