"""What topology says: networks, groups and nodes, and what of them changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from google.protobuf.json_format import MessageToDict
from romana.topology.v1 import network_pb2, node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.terminal.plural import count
from services.console.follow.live import Live
from services.console.picture.changes import ChangeLog
from services.console.picture.ranges import range_of
from services.console.picture.zoom import Group


class KnownTopology:
    """Kept up to date by WatchTopology."""

    def __init__(self, changes: ChangeLog, live: Live, clock: Callable[[], float]) -> None:
        self._changes = changes
        self._live = live
        self._clock = clock
        self.spec = topology_pb2.TopologySpec()
        self.nodes: dict[str, node_pb2.Node] = {}
        self.revision = 0
        self.known = False
        """Everything has been read once."""
        self._heard: set[str] | None = None
        self._groups: dict[str, Sequence[Group]] = {}

    def network(self, name: str) -> network_pb2.Network | None:
        """One of them."""
        return next((each for each in self.spec.networks if each.name == name), None)

    def groups(self, network: str) -> Sequence[Group]:
        """The groups of a network, parents before children."""
        made = self._groups.get(network)
        if made is None:
            topologies = (one for one in self.spec.topologies if network in one.networks)
            made = self._groups[network] = [
                group
                for topology in topologies
                for top in topology.groups
                for group in _walk(top, network, 0)
            ]
        return made

    def begin(self) -> None:
        """A stream begins."""
        self._heard = set()

    def take(self, message: api.WatchTopologyResponse) -> None:
        """Takes what the watch says."""
        news = _News()
        if message.HasField("spec"):
            if self.known:
                news.spec(self.spec, message.spec)
            self.spec = message.spec
            self._groups.clear()
            self._live.tell("topology")
            self._live.tell("map")
        for node in message.updated_nodes:
            news.node(self.nodes.get(node.name), node)
            self.nodes[node.name] = node
            if self._heard is not None:
                self._heard.add(node.name)
        news.gone(name for name in message.removed_nodes if self.nodes.pop(name, None))
        if self._heard is not None and message.in_sync:
            news.gone(self.nodes.keys() - self._heard)
            self.nodes = {name: self.nodes[name] for name in self.nodes if name in self._heard}
            self._heard = None
        before = self.revision
        self.revision = max(self.revision, message.revision)
        if self.known:
            self._note(news, before)
        if message.in_sync:
            self.known = True
        if message.updated_nodes or message.removed_nodes or message.in_sync:
            self._live.tell("nodes")

    def _note(self, news: _News, after: int) -> None:
        now = self._clock()
        if news.topology:
            what = news.topology[0]
            if len(news.topology) > 1:
                what = f"{count(len(news.topology), 'change')} of networks and groups"
            details = news.topology if len(news.topology) > 1 else ()
            self._changes.add("topology", what, self.revision, now, details, after=after)
        if news.nodes:
            what = news.nodes[0]
            if len(news.nodes) > 1:
                what = f"{count(len(news.nodes), 'node')} changed"
            details = news.nodes if len(news.nodes) > 1 else ()
            self._changes.add("node", what, self.revision, now, details, after=after)
        if news.topology or news.nodes:
            self._live.tell("changes")


class _News:
    """What is different, in lines for people."""

    def __init__(self) -> None:
        self.topology: list[str] = []
        self.nodes: list[str] = []

    def spec(self, before: topology_pb2.TopologySpec, after: topology_pb2.TopologySpec) -> None:
        known = {each.name: each for each in before.networks}
        for network in after.networks:
            old = known.pop(network.name, None)
            if old is None:
                self.topology.append(f"network {network.name} ({network.cidr}) added")
            elif fields := _different(old, network):
                self.topology.append(f"network {network.name}: {', '.join(fields)} changed")
        self.topology += [f"network {name} removed" for name in known]
        paths, now = _prefixes(before), _prefixes(after)
        self.topology += [f"group {path} added" for path in now.keys() - paths.keys()]
        self.topology += [f"group {path} removed" for path in paths.keys() - now.keys()]
        self.topology += [
            f"group {path} moved" for path in now.keys() & paths.keys() if now[path] != paths[path]
        ]

    def node(self, before: node_pb2.Node | None, after: node_pb2.Node) -> None:
        if before is None:
            self.nodes.append(f"node {after.name} registered")
            return
        fields = [name for name in _different(before, after) if name != "etag"]
        if fields:
            self.nodes.append(f"node {after.name}: {', '.join(fields)} changed")

    def gone(self, names: Iterable[str]) -> None:
        self.nodes += [f"node {name} removed" for name in sorted(names)]


def _different(
    before: network_pb2.Network | node_pb2.Node, after: network_pb2.Network | node_pb2.Node
) -> list[str]:
    """The fields in which two messages differ."""
    if before == after:
        return []
    old = MessageToDict(before, preserving_proto_field_name=True)
    new = MessageToDict(after, preserving_proto_field_name=True)
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _prefixes(spec: topology_pb2.TopologySpec) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    waiting = [group for topology in spec.topologies for group in topology.groups]
    while waiting:
        group = waiting.pop()
        found[group.path] = dict(group.carved_prefixes)
        waiting += group.groups
    return found


def _walk(group: topology_pb2.PrefixGroup, network: str, depth: int) -> Iterator[Group]:
    prefix = group.carved_prefixes.get(network, "")
    if not prefix:
        return
    labels = dict(group.assignment)
    yield Group(group.path, prefix, range_of(prefix), depth, group.node_count, labels)
    for child in group.groups:
        yield from _walk(child, network, depth + 1)
