"""What is set in the environment for the world changes nothing between the parts."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.common.etcd.client import EtcdClient
from services.common.rpc.channel import open_channel
from tests.conftest import Store
from tests.contract.rpc.probe import ProbeStub, start_probe


@pytest.fixture(params=["http_proxy", "https_proxy", "grpc_proxy"])
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(request.param, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)


@pytest.mark.usefixtures("proxy")
async def test_etcd_is_reached_without_the_proxy(store: Store) -> None:
    async with EtcdClient([store.endpoint]) as client:
        await client.put(f"{store.keys.root}/a", b"1")


@pytest.mark.usefixtures("proxy")
async def test_a_service_is_reached_without_the_proxy() -> None:
    running = await start_probe()
    try:
        async with open_channel(str(running.server.addresses[0])) as channel:
            assert await ProbeStub(channel).unary(StringValue(value="hi"))
    finally:
        await running.close()
