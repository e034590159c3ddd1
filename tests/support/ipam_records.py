"""What ipam would have written: for tests of those who follow it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from romana.policy.v1.endpoint_pb2 import PolicyEndpoint

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.types import Delete, Operation, Put
from services.common.model.names import NetworkName
from services.common.records.blocks import BlockPage, PageUse, encode

NETWORKS = {4: NetworkName("net"), 6: NetworkName("six")}


def allocation(
    keys: Keys, address: str, name: str, node: str, tenant: str = "t", segment: str = ""
) -> Operation:
    """One address in use, in a block of its own."""
    page = BlockPage(
        length=ip_address(address).max_prefixlen,
        node=node,
        tenant=tenant,
        segment=segment,
        born=1,
        used=(PageUse(0, name, 0),),
    )
    return Put(key_of(keys, address), encode(page))


def release(keys: Keys, address: str) -> Operation:
    """It is not in use any more."""
    return Delete(key_of(keys, address))


def key_of(keys: Keys, address: str) -> str:
    """Of the block that has nothing but this address."""
    parsed = ip_address(address)
    return keys.block(NETWORKS[parsed.version], int(parsed), 0, parsed.max_prefixlen)


async def written(client: EtcdClient, keys: Keys, operations: Iterable[Operation]) -> None:
    """Writes as ipam does."""
    rest = list(operations)
    while rest:
        part, rest = rest[:100], rest[100:]
        await client.transact((), [Put(keys.commit, uuid.uuid4().hex.encode()), *part])


def allocations(keys: Keys, node: str, endpoints: Iterable[PolicyEndpoint]) -> Iterator[Operation]:
    """All addresses of a node's endpoints."""
    for one in endpoints:
        for address in one.addresses:
            yield allocation(keys, address, one.name, node, one.tenant, one.segment)
