"""What etcd says at its limits, and what it has done then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc.aio
import pytest

from services.common.errors import Unavailable
from services.common.etcd import definitions
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import (
    STORE_FULL,
    STORE_UNAVAILABLE,
    OutcomeUnknown,
    RequestRefused,
    RequestTooLarge,
    StoreFull,
)
from services.common.etcd.process import EtcdOptions, LocalEtcd
from services.common.etcd.types import Delete, Put
from services.common.sizes import TRANSACTION_BYTES, TRANSACTION_OPERATIONS
from tests.conftest import Store

QUOTA = 4 << 20


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[EtcdClient]:
    """An etcd with little room."""
    server = LocalEtcd(tmp_path, EtcdOptions(extra=("--quota-backend-bytes", str(QUOTA))))
    await server.start()
    try:
        async with EtcdClient([server.endpoint], timeout=20) as client:
            yield client
    finally:
        server.stop()


async def test_what_a_full_store_did_is_not_known(small: EtcdClient) -> None:
    """Several writes at once, of which some may be carried out and yet answered with an error."""
    refused: dict[str, StoreFull] = {}
    answered: set[str] = set()

    async def put(key: str) -> None:
        try:
            await small.put(key, b"x" * 3000)
        except StoreFull as error:
            refused[key] = error
        else:
            answered.add(key)

    for burst in range(QUOTA // 3000):
        await asyncio.gather(*(put(f"/k/{burst}/{number}") for number in range(50)))
        if refused:
            break
    assert {error.reason for error in refused.values()} == {STORE_FULL}
    stored = {item.key for item in (await small.range("/k/")).items}
    assert answered <= stored <= answered | refused.keys()
    # reading and making room go on
    await small.transact((), (Delete("/k/", prefix=True),))
    assert not (await small.range("/k/")).items


async def test_a_user_that_is_missing_is_no_malformed_request(etcd_server: LocalEtcd) -> None:
    async with (
        EtcdClient([etcd_server.endpoint]) as client,
        grpc.aio.insecure_channel(etcd_server.endpoint) as channel,
    ):
        rpc_pb2: Any = definitions.rpc_pb2
        auth = cast("Any", definitions.rpc_pb2_grpc).AuthStub(channel)
        await auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="root", password="x"))
        await auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name="root"))
        await auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
        await auth.AuthEnable(rpc_pb2.AuthEnableRequest())
        for call in (client.put("/a", b"1"), client.get("/a"), client.range("/a")):
            with pytest.raises(Unavailable, match="user name is empty") as caught:
                await call
            assert caught.value.reason == STORE_UNAVAILABLE
            assert not isinstance(caught.value, OutcomeUnknown)


async def test_a_transaction_above_the_limit_of_messages_is_too_large(store: Store) -> None:
    """gRPC refuses it before etcd sees it."""
    puts = [Put(f"{store.keys.root}/{number}", b"x" * 20_000) for number in range(120)]
    with pytest.raises(RequestTooLarge, match="larger than max"):
        await store.client.transact((), puts)
    assert not (await store.client.range(store.keys.root)).items


async def test_what_is_too_large_is_told_from_what_is_malformed(store: Store) -> None:
    key = f"{store.keys.root}/a"
    many = [Put(f"{key}{number}", b"") for number in range(TRANSACTION_OPERATIONS + 1)]
    with pytest.raises(RequestTooLarge):
        await store.client.transact((), many)
    with pytest.raises(RequestTooLarge):
        await store.client.put(key, b"x" * (3 << 19))
    with pytest.raises(RequestRefused) as caught:
        await store.client.transact((), (Put(key, b""), Put(key, b"")))
    assert not isinstance(caught.value, RequestTooLarge)


async def test_what_we_call_the_limits_fits(store: Store) -> None:
    puts = [Put(f"{store.keys.root}/{number}", b"") for number in range(TRANSACTION_OPERATIONS)]
    assert (await store.client.transact((), puts)).succeeded
    key = f"{store.keys.root}/a"
    assert await store.client.put(key, b"x" * (TRANSACTION_BYTES - len(key) - 100))
