"""Routes to prefixes, remembered from one plan to the next.

There may be 100,000 of them, and usually one or none has changed. The result follows from the
arguments alone; what is remembered only saves work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

from services.agent.kernel import route_bytes
from services.agent.kernel.layered import Layered
from services.agent.model import Remote
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Prefix

Changed: TypeAlias = Collection[tuple[NetworkName, Prefix]] | None
"""Keys of `Remote.routes`; None: not known, any of them."""
Ways: TypeAlias = Mapping[tuple[NetworkName, NodeName], bytes]
"""Which way leads to a node on a network; absent: by the network's gateway, like anything else."""


class PrefixRoutes:
    """The routes of the last plan."""

    def __init__(self) -> None:
        self._tables: Mapping[NetworkName, int] = {}
        self._ways: Ways = {}
        self._routes: Layered[bytes, bytes] | None = None

    def routes(
        self, remote: Remote, tables: Mapping[NetworkName, int], ways: Ways, changed: Changed
    ) -> tuple[Layered[bytes, bytes], frozenset[bytes] | None]:
        """The routes, and which of them may not be as before; None: any.

        What was returned before does not change.
        """
        if self._routes is None or changed is None or (tables, ways) != (self._tables, self._ways):
            self._routes = Layered(_all(remote, tables, ways))
            self._tables, self._ways = tables, ways
            return self._routes, None
        if changed:
            self._routes = _changed(self._routes, remote, tables, ways, changed)
        keys = [
            route_bytes.route_key(tables[name], prefix)
            for name, prefix in changed
            if name in tables
        ]
        return self._routes, frozenset(keys)


def _all(remote: Remote, tables: Mapping[NetworkName, int], ways: Ways) -> dict[bytes, bytes]:
    routes: dict[bytes, bytes] = {}
    for (name, prefix), node in remote.routes.items():
        way = ways.get((name, node))
        if way is not None:
            routes[route_bytes.route_key(tables[name], prefix)] = way
    return routes


def _changed(
    before: Layered[bytes, bytes],
    remote: Remote,
    tables: Mapping[NetworkName, int],
    ways: Ways,
    changed: Collection[tuple[NetworkName, Prefix]],
) -> Layered[bytes, bytes]:
    puts: dict[bytes, bytes] = {}
    removals: list[bytes] = []
    for name, prefix in changed:
        table = tables.get(name)
        if table is None:
            continue
        key = route_bytes.route_key(table, prefix)
        node = remote.routes.get((name, prefix))
        way = None if node is None else ways.get((name, node))
        if way is None:
            removals.append(key)
        else:
            puts[key] = way
    return before.changed(puts, removals)
