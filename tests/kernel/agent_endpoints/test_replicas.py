"""An agent's calls to several replicas of ipam, of which some are away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.agent.endpoints.ipam_client import IpamClient
from services.agent.endpoints.spec import EndpointSpec
from services.agent.model import AddressWant
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.rpc.channel import open_channel
from tests.support.agent_node import NODE
from tests.support.ipam_process import IpamProcess

SECONDS = 20.0


@pytest.fixture
async def client(ipam: IpamProcess, folder: Path) -> AsyncIterator[IpamClient]:
    """Its first replica is gone, its second takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{folder}/silent.sock")
        silent.listen()
        paths = (f"unix:{folder}/gone.sock", f"unix:{folder}/silent.sock", ipam.address)
        channels = [open_channel(path) for path in paths]
        yield IpamClient(channels, NodeName(NODE))
        for channel in channels:
            await channel.close()


def spec(name: str) -> EndpointSpec:
    return EndpointSpec(
        name=EndpointName(name),
        tenant=Tenant("t"),
        segment=Segment(""),
        interface="eth0",
        namespace="/run/netns/none",
        addresses=(AddressWant(network=NetworkName("net")),),
    )


async def test_calls_at_once_all_come_to_the_replica_that_answers(client: IpamClient) -> None:
    deadline = asyncio.get_running_loop().time() + SECONDS
    names = [f"e{number}" for number in range(8)]
    given = await asyncio.gather(*(client.allocate(spec(name), deadline) for name in names))
    assert len({item.address for one in given for item in one.addresses}) == len(names)
    released = await asyncio.gather(*(client.release(spec(name), deadline) for name in names))
    assert [len(addresses) for addresses in released] == [1] * len(names)


async def test_a_short_call_passes_by_a_replica_that_says_nothing(client: IpamClient) -> None:
    """Such as the release after a failed attach, which waits 3 s at most."""
    deadline = asyncio.get_running_loop().time() + 3.0
    assert await client.find(EndpointName("nobody"), deadline) is None
