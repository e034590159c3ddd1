"""Which of several replicas is called: of `a:9620,b:9620` the first that takes a connection."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from services.common.errors import InvalidInput
from services.common.socket_address import TcpAddress, parse_address
from services.ctl.calls.service_addresses import ServiceAddresses

PATIENCE: Final = 1.0
"""Seconds that a replica may take to accept a connection, if there are others."""


def each(addresses: str) -> list[str]:
    """The addresses of a list; raises InvalidInput for one that is none."""
    found = [one.strip() for one in addresses.split(",") if one.strip()]
    if not found:
        raise InvalidInput.at("", f"{addresses!r}: addresses are written host:port,host:port")
    for one in found:
        parse_address(one)
    return found


async def choose(addresses: ServiceAddresses) -> ServiceAddresses:
    """With one address for each service."""
    topology, ipam, policy = await asyncio.gather(
        _first(addresses.topology), _first(addresses.ipam), _first(addresses.policy)
    )
    return replace(addresses, topology=topology, ipam=ipam, policy=policy)


async def _first(addresses: str) -> str:
    """The first that is there; if none is, the first: its error is told."""
    if "," not in addresses:
        return addresses
    found = each(addresses)
    for one in found:
        if len(found) == 1 or await accepts(one):
            return one
    return found[0]


async def accepts(address: str) -> bool:
    """Whether somebody takes a connection there."""
    parsed = parse_address(address)
    try:
        async with asyncio.timeout(PATIENCE):
            if isinstance(parsed, TcpAddress):
                _, writer = await asyncio.open_connection(parsed.host, parsed.port)
            else:
                _, writer = await asyncio.open_unix_connection(parsed.path)
    except OSError:  # TimeoutError, too
        return False
    writer.close()
    return True
