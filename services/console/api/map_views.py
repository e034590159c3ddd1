"""The map: a part of a network, and where something is."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from romana.ipam.v1 import allocation_pb2
from starlette.requests import Request

from services.common.errors import InvalidInput, NotFound
from services.common.model.addresses import looks_like_address
from services.common.rpc.node_addresses import all_addresses
from services.console.api.caller import Looking
from services.console.calls.questions import Questions
from services.console.follow.world import World
from services.console.picture.ranges import range_of
from services.console.picture.zoom import BLOCKS_MOST, Area, Taken, is_small, view

FOUND_MOST: Final = 20


class MapViews:
    """`/api/map/NETWORK` and `/api/search`."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def map(self, request: Request, looking: Looking) -> dict[str, Any]:
        """A prefix of a network; all of it by default."""
        name = request.path_params["network"]
        network = self._world.topology.network(name)
        if network is None:
            raise NotFound(f"there is no network {name!r}", "NETWORK_NOT_FOUND")
        prefix = request.query_params.get("prefix") or network.cidr
        blocks = self._world.blocks.of(name)
        try:
            taken: dict[int, Taken] = {}
            if is_small(prefix):
                inside = blocks.within(range_of(prefix))[:BLOCKS_MOST]
                questions = Questions(self._world.remote, looking.metadata)
                taken = _taken(
                    await questions.addresses_in(name, [block.prefix for block in inside])
                )
            groups = self._world.topology.groups(name)
            drawn = view(name, network.cidr, prefix, blocks, groups, taken)
        except ValueError as error:
            raise InvalidInput.at("prefix", str(error)) from error
        made = asdict(drawn)
        made["usage"]["free"] = drawn.usage.free
        made["areas"] = [self._area(name, area) for area in drawn.areas]
        made["cidr"] = network.cidr
        made["cells"] = [
            [
                cell.prefix,
                cell.usage.size,
                cell.usage.used,
                cell.usage.resting,
                cell.usage.reserved,
                cell.usage.held,
                cell.usage.stranded,
            ]
            for cell in drawn.cells
        ]
        made["gateway"] = network.gateway
        made["node_addresses"] = self._node_addresses(prefix)
        for block in made["blocks"]:
            del block["where"]
        return made

    async def search(self, request: Request, looking: Looking) -> dict[str, Any]:
        """By address, prefix, name of an allocation, node or tenant."""
        text = request.query_params.get("q", "").strip()
        if not text:
            raise InvalidInput.at("q", "say what to look for")
        questions = Questions(self._world.remote, looking.metadata)
        found = [
            {
                "kind": "address",
                "title": each.address,
                "detail": f"{each.name}, on {each.node}, {_owner(each)}",
                "network": each.network,
                "prefix": _around(each.address),
            }
            for each in await questions.find(text)
        ]
        if not found and (looks_like_address(text) or "/" in text):
            found += self._by_prefix(text)
        lower = text.lower()
        nodes = (name for name in self._world.topology.nodes if lower in name.lower())
        found += [
            {"kind": "node", "title": name, "detail": "node", "node": name}
            for name in _first(nodes)
        ]
        found += self._by_group(lower)
        found += self._by_tenant(lower)
        return {"found": found[: FOUND_MOST * 3]}

    def _area(self, network: str, area: Area) -> dict[str, Any]:
        made = asdict(area)
        made["usage"]["free"] = area.usage.free
        forecast = self._world.usage.forecast(network, area.path, area.usage.free)
        made["forecast"] = None if forecast is None or not area.prefix else asdict(forecast)
        return made

    def _node_addresses(self, prefix: str) -> dict[str, str]:
        """Nodes' own addresses in a small part of the map."""
        if not is_small(prefix):
            return {}
        where = ipaddress.ip_network(prefix)
        return {
            address: node.name
            for node in self._world.topology.nodes.values()
            for address in all_addresses(node)
            if ipaddress.ip_address(address) in where
        }

    def _by_prefix(self, text: str) -> list[dict[str, str]]:
        try:
            where = range_of(text)
        except ValueError:
            return []
        return [
            {
                "kind": "address",
                "title": text,
                "detail": f"in network {network.name}, not allocated",
                "network": network.name,
                "prefix": text if "/" in text else _around(text),
            }
            for network in self._world.topology.spec.networks
            if (":" in network.cidr) is (":" in text) and range_of(network.cidr).contains(where)
        ]

    def _by_group(self, lower: str) -> list[dict[str, str]]:
        groups = (
            {
                "kind": "group",
                "title": group.path,
                "detail": f"{group.prefix} of {network.name}",
                "network": network.name,
                "prefix": group.prefix,
            }
            for network in self._world.topology.spec.networks
            for group in self._world.topology.groups(network.name)
            if lower in group.path.lower()
        )
        return list(_first(groups))

    def _by_tenant(self, lower: str) -> list[dict[str, str]]:
        found: dict[tuple[str, str], int] = {}
        where: dict[tuple[str, str], str] = {}
        for network, blocks in self._world.blocks.networks.items():
            for block in blocks.all():
                if lower in block.tenant.lower():
                    key = (network, block.tenant)
                    found[key] = found.get(key, 0) + block.used
                    where.setdefault(key, block.prefix)
        return [
            {
                "kind": "tenant",
                "title": tenant,
                "detail": f"{used} addresses in use on {network}",
                "network": network,
                "prefix": where[network, tenant],
                "tenant": tenant,
            }
            for (network, tenant), used in sorted(found.items())[:FOUND_MOST]
        ]


def _taken(allocations: Iterable[allocation_pb2.Allocation]) -> dict[int, Taken]:
    return {
        int(ipaddress.ip_address(each.address)): Taken(
            each.name,
            each.node,
            each.tenant,
            each.segment,
            each.allocate_time.ToJsonString() if each.HasField("allocate_time") else "",
        )
        for each in allocations
    }


def _owner(each: allocation_pb2.Allocation) -> str:
    return f"{each.tenant}/{each.segment}" if each.segment else each.tenant


def _around(address: str) -> str:
    """The part of the map in which single addresses are shown."""
    bits = 120 if ":" in address else 24
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))


def _first(items: Iterable[Any]) -> Iterable[Any]:
    for _, item in zip(range(FOUND_MOST), items, strict=False):
        yield item
