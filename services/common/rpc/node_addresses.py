"""A node's own addresses, as its message says them."""

from __future__ import annotations

from romana.topology.v1 import node_pb2


def main_addresses(node: node_pb2.Node) -> list[str]:
    """One of each family at most."""
    return [address for address in (node.address, node.other_address) if address]


def all_addresses(node: node_pb2.Node) -> list[str]:
    """The main ones, and those on its networks."""
    declared = (attachment.address for attachment in node.attachments)
    return [*main_addresses(node), *filter(None, declared)]
