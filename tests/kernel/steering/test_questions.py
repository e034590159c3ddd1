"""What a node asks a device, of each kind and in both families, over loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import os

import pytest

from services.agent.kernel.neighbour_asker import NeighbourAsker
from services.agent.steering.questions import ask
from services.common.model.devices import Probe, ProbeKind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ADDRESSES = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
SECONDS = 20.0


@pytest.mark.parametrize("address", ADDRESSES, ids=["v4", "v6"])
async def test_an_echo_is_answered(address: ipaddress.IPv4Address) -> None:
    assert await ask(Probe(ProbeKind.ICMP), address, "lo", SECONDS) == ""


@pytest.mark.parametrize("address", ADDRESSES, ids=["v4", "v6"])
@pytest.mark.parametrize(
    ("kind", "says", "problem"),
    [
        (ProbeKind.TCP, b"", ""),
        (ProbeKind.HTTP, b"HTTP/1.0 204 No Content\r\n\r\n", ""),
        (ProbeKind.HTTP, b"HTTP/1.0 503 Busy\r\n\r\n", "http: status 503"),
        (ProbeKind.HTTP, b"SSH-2.0\r\n", "http: no answer of HTTP"),
    ],
)
async def test_who_listens_is_there_and_says_what_it_has_to(
    address: ipaddress.IPv4Address, kind: ProbeKind, says: bytes, problem: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        writer.close()

    async with await asyncio.start_server(answer, str(address), 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await ask(Probe(kind, port=port, path="/"), address, "lo", SECONDS) == problem


async def test_nobody_who_listens_is_a_problem() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    assert await ask(Probe(ProbeKind.TCP, port=port), ADDRESSES[0], "lo", SECONDS) != ""


@pytest.mark.parametrize("text", ["192.0.2.9", "2001:db8::9"])
async def test_each_who_asks_for_an_address_of_nobody_is_told_so(text: str) -> None:
    """As of a device that is the same on two networks which share a link."""
    address, asker = ipaddress.ip_address(text), NeighbourAsker("lo")
    own = ADDRESSES[0] if address.version == 4 else ADDRESSES[1]
    try:
        asked = [asker.ask(address, own, seconds) for seconds in (0.05, 0.1)]
        assert await asyncio.gather(*asked, return_exceptions=True) == [None, None]
    finally:
        asker.close()
