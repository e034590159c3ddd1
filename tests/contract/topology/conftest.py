"""Two replicas on one store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.common.etcd.client import EtcdClient
from tests.conftest import Store
from tests.contract.topology.replicas import Replica, replica_of


@pytest.fixture
async def replica(store: Store) -> AsyncIterator[Replica]:
    async with replica_of(store.client, store.keys) as made:
        yield made


@pytest.fixture
async def other(store: Store) -> AsyncIterator[Replica]:
    async with EtcdClient([store.endpoint]) as client, replica_of(client, store.keys) as made:
        yield made


@pytest.fixture
def dump(store: Store) -> Callable[[], Awaitable[list[tuple[str, bytes, int]]]]:
    """Everything below the test's root, with revisions."""

    async def read() -> list[tuple[str, bytes, int]]:
        found = await store.client.range(store.keys.root)
        return [(item.key, item.value, item.mod_revision) for item in found.items]

    return read
