"""Agents' streams of rules: what the engine says goes into the source, and wakes its streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping

from services.common.etcd.types import Revision
from services.common.model.names import NodeName
from services.common.model.rules import PolicyName, RuleSet
from services.common.process.gc_tuning import freeze_heap
from services.common.rpc.context import Context
from services.common.rpc.draining import Draining
from services.common.rpc.identity import check_node
from services.common.sync.hub import Hub, HubObserver
from services.common.sync.model import Hello
from services.common.sync.source import Source
from services.common.sync.stream_server import serve
from services.policy.agents import messages
from services.policy.engine.resources import node_topic
from services.policy.store.store import PolicyStore


class RuleStreams:
    """All streams of this replica."""

    def __init__(
        self,
        store: PolicyStore,
        epoch: str,
        observer: HubObserver,
        recomputed: Callable[[float], None],
    ) -> None:
        """Follows the store from now on; `recomputed` is told how many seconds a change took."""
        self._store = store
        self._recomputed = recomputed
        self.source = Source(epoch)
        self.hub = Hub(self.source, observer)
        self.policies: dict[str, PolicyName] = {}
        """Of rule sets, by their resources' ids."""
        self.spans: dict[NodeName, Revision] = {}
        """When what a node needs changed last."""
        self._left: dict[NodeName, dict[PolicyName, Revision]] = {}
        """Policies that a node does not need any more, and may not know it yet: since when."""
        self._groups: dict[str, int] = {}
        """Pages, by topic."""
        self._loaded = False
        store.on_change = self._on_change

    @property
    def rule_sets(self) -> int:
        """How many are in use."""
        return len(self.policies)

    @property
    def groups(self) -> int:
        """How many have members."""
        return len(self._groups)

    def left(self, policy: PolicyName) -> Mapping[NodeName, Revision]:
        """Nodes that needed a policy and may still enforce it: since when they need not."""
        return {
            node: gone[policy]
            for node, gone in self._left.items()
            if policy in gone and node in self.source.nodes
        }

    def concerned(self, revision: Revision) -> Iterator[NodeName]:
        """Nodes that may have to enforce something else than at a revision."""
        for node, topics in self.source.nodes.items():
            name = NodeName(node)
            if self.spans.get(name, 0) > revision or self.source.has_changed(revision, topics):
                yield name

    def enforces(self, node: NodeName) -> bool:
        """Says whether there are rules for a node or its endpoints."""
        return bool(self.source.values(node_topic(node)))

    def told(self, node: NodeName) -> dict[str, bytes] | None:
        """What a node is told of itself, its endpoints and their rule sets, by id; None: it is not
        known."""
        topics = self.source.nodes.get(node)
        if topics is None:
            return None
        return {
            identity: value
            for topic in topics
            if not topic.startswith("group/")
            for identity, value in self.source.values(topic).items()
            if identity.startswith(("endpoint/", "node/", "rules/"))
        }

    async def serve(self, context: Context) -> None:
        """Serves one agent; raises RomanaError for why its stream ends."""

        async def admit(hello: Hello) -> None:
            check_node(context, hello.node)
            self._store.check_in_sync()

        await serve(self.hub, messages.DIALECT, context, admit)

    async def confirm(self) -> None:
        """Makes sure that all that is in the store now is said; raises Unavailable."""
        self.hub.flush(await self._store.confirm())

    async def drain_on(self, draining: Draining, seconds: float) -> None:
        """Waits for the stop to begin, and ends all streams within that time."""
        await draining.wait()
        await self.hub.drain(seconds)
        await asyncio.Event().wait()  # an eternal task

    def _on_change(self) -> None:
        store = self._store
        if not store.in_sync:
            return  # what is known of is only a part
        begin = time.perf_counter()
        changes = store.engine.drain_changes()
        for node, topics in changes.spans.items():
            self._note_left(node, topics or frozenset())
        for topic, identity in changes.dropped:
            self._drop(topic, identity)
        for topic, identity, value in changes.put:
            if isinstance(value, RuleSet):
                self.policies[identity] = value.policy
            self._put(topic, identity, messages.resource(identity, value))
        for node, topics in changes.spans.items():
            self._assign(node, topics)
        self.hub.flush(store.revision)
        self._recomputed(time.perf_counter() - begin)
        if not self._loaded:
            self._loaded = True
            asyncio.get_running_loop().call_soon(freeze_heap)  # when the snapshot is gone

    def _put(self, topic: str, identity: str, value: bytes) -> None:
        if topic.startswith("group/") and identity not in self.source.values(topic):
            self._groups[topic] = self._groups.get(topic, 0) + 1
        self.source.put(topic, identity, value)

    def _drop(self, topic: str, identity: str) -> None:
        self.policies.pop(identity, None)
        if topic in self._groups and identity in self.source.values(topic):
            self._groups[topic] -= 1
            if not self._groups[topic]:
                del self._groups[topic]
        self.source.drop(topic, identity)

    def _note_left(self, node: NodeName, topics: frozenset[str]) -> None:
        if node in self._left and self.hub.is_current(node):
            del self._left[node]
        gone = self.source.nodes.get(node, frozenset()) - topics
        policies = [self.policies[topic] for topic in gone if topic in self.policies]
        if policies:
            left = self._left.setdefault(node, {})
            left.update(dict.fromkeys(policies, self._store.revision))

    def _assign(self, node: NodeName, topics: frozenset[str] | None) -> None:
        if topics is None:
            self.spans.pop(node, None)
            self._left.pop(node, None)
        elif self.source.nodes.get(node) != topics:
            self.spans[node] = self._store.revision
        self.source.assign(node, topics)
