"""The changes of single nodes: register, update, delete."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import structlog

from services.common.audit.record import NOT_KNOWN, Changed, ObjectKind
from services.common.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    WrongState,
)
from services.common.etcd.types import Compare, Delete, Put
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.common.process.mutation_metrics import Result
from services.common.records.layout import RemovedNodeRecord, encode_removed_node
from services.topology.checks.nodes import address_field
from services.topology.checks.own_node import (
    AGENTS_MAY,
    FIELDS,
    FOR_OPERATORS,
    check_own_addresses,
    declared,
    reported,
)
from services.topology.forms.node_request import AT, NodeRequest
from services.topology.layout.placement import networks_of
from services.topology.layout.plan import Plan, address_taken, plan_node
from services.topology.metrics import Operation, TopologyMetrics
from services.topology.model.spec import NodeSpec
from services.topology.store import agent_presence, aside, claims
from services.topology.store.agent_presence import AgentPresence
from services.topology.store.apply import refuse_being_removed, would_strand
from services.topology.store.store import Decision, TopologyStore, record_unreadable

log = structlog.get_logger(__name__)

_MAX_LOGGED = 128
_SPENT_MOST = 16
"""Removals that are forgotten at once."""
_REMOVALS_KEPT = 1_000
"""Names whose agents are told that somebody removed them: enough for those that may yet run."""
_ASKED = (*FIELDS, *FOR_OPERATORS)
"""What a caller says of a node; the rest is ours."""


@dataclass(frozen=True, slots=True)
class RegisterOptions:
    validate_only: bool = False
    by_agent: bool = False
    """The node's own agent says it."""
    unless_removed: bool = False
    """Not if somebody has removed a node of that name."""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    etag: str = ""
    request_id: str = ""
    force: bool = False
    """Although addresses are in use on it."""
    machine_is_off: bool = False
    """Nothing of it has them any more."""


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    etag: str = ""
    by_agent: bool = False
    allow_stranded: bool = False
    validate_only: bool = False


class NodeChanges:
    def __init__(
        self,
        store: TopologyStore,
        metrics: TopologyMetrics,
        agents_may: Collection[str] = AGENTS_MAY,
    ) -> None:
        """`agents_may`: what an agent may say of its own node, see `own_node`."""
        self._store = store
        self._metrics = metrics
        self._agents_may = frozenset(agents_may)

    async def register(self, request: NodeRequest, options: RegisterOptions) -> Node:
        """Adds a node and places it; the same one again changes nothing.

        Raises:
            InvalidInput: something in it is wrong.
            Forbidden: its agent says what it may not say.
            AlreadyExists: its name or one of its addresses is another node's, or an endpoint has
                one of its addresses.
            WrongState: it fits no group at all, or it was removed.
            Unavailable: the store, or addresses of an earlier node are still being released.
        """

        def decide() -> Decision[Node]:
            cache = self._store.cache
            known = cache.nodes.get(request.name)
            spec = request.read(cache.layout, known)
            node = self._said(spec, known, by_agent=options.by_agent)
            if known is not None:
                self._refuse_another(node, known)
                return Decision(known)
            if (options.by_agent or options.unless_removed) and node.name in cache.removed:
                raise node_removed(node.name)
            self._refuse_taken(node)
            refuse_being_removed(self._store, node.name)
            node = replace(node, create_time=int(time.time()))
            plan = plan_node(node, None, cache.layout, cache.node_index, ())
            if options.by_agent:
                self._check_own_addresses(None, plan.nodes[0])
            own = aside.of_nodes(self._store, plan.nodes)
            if options.validate_only:
                return Decision(plan.nodes[0])
            by_itself = options.by_agent or options.unless_removed
            changed = () if by_itself else (_changed(node.name, None, plan.nodes[0]),)
            return Decision(plan.nodes[0], None, plan.nodes, own.writes, own.demands, changed)

        with self._metrics.refusals(Operation.REGISTER):
            done = await self._store.change(decide, looks_at_usage=True)
        self._count(Operation.REGISTER, changed=done.changed, validated=options.validate_only)
        if done.changed:
            log.info(
                "node_registered",
                node=done.answer.name,
                placements=dict(done.answer.placements),
            )
        return done.answer

    async def update(self, request: NodeRequest, options: UpdateOptions) -> tuple[Node, Plan]:
        """Replaces what a caller says of a node, and places it anew if it no longer fits.

        Raises:
            InvalidInput, Forbidden, AlreadyExists, Unavailable: as for `register`.
            NotFound: there is no such node.
            Conflict: the etag is stale.
            WrongState: it fits no group, or addresses in use would be stranded.
        """

        def decide() -> Decision[tuple[Node, Plan]]:
            cache = self._store.cache
            known = cache.nodes.get(request.name)
            if known is None:
                raise node_not_found(request.name)
            self._check_etag(known.name, options.etag)
            spec = request.read(cache.layout, known)
            _refuse_unasked(spec, known)
            said = self._said(spec, known, by_agent=options.by_agent)
            self._refuse_taken(said)
            node = replace(said, placements=known.placements, create_time=known.create_time)
            blocks = self._store.usage.blocks_of(known.name)
            plan = plan_node(node, known, cache.layout, cache.node_index, blocks)
            after = plan.nodes[0] if plan.nodes else known
            if options.by_agent:
                self._check_own_addresses(known, after)
            own = aside.of_nodes(self._store, plan.nodes)
            if options.validate_only:
                return Decision((after, plan))
            allow_stranded = options.allow_stranded and not options.by_agent
            if plan.stranded and not allow_stranded:
                field = "labels" if after.attachments == known.attachments else "attachments"
                raise would_strand(plan, f"node.{field}")
            moved = after.placements != known.placements
            moved = moved or networks_of(after, cache.layout) != networks_of(known, cache.layout)
            demands = list(own.demands)
            if moved and not allow_stranded:
                store = self._store
                demands.append(claims.of_node(known.name, store.keys, store.usage_revision))
            changed = () if options.by_agent else (_changed(after.name, known, after),)
            return Decision((after, plan), None, plan.nodes, own.writes, demands, changed)

        with self._metrics.refusals(Operation.UPDATE):
            done = await self._store.change(decide, looks_at_usage=True)
        self._count(Operation.UPDATE, changed=done.changed, validated=options.validate_only)
        node, plan = done.answer
        if done.changed:
            log.info(
                "node_updated",
                node=node.name,
                moves=len(plan.moves),
                stranded=plan.stranded_addresses,
            )
        return node, plan

    async def delete(self, name: NodeName, options: DeleteOptions) -> int:
        """Removes a node; returns the addresses that ipam is about to release, 0 unless forced.

        That it was removed is remembered, so that its own agent does not register it again.

        A node that is not there is fine: the first of two attempts may have had no answer.

        Raises:
            Conflict: the etag is stale.
            WrongState: it is not forced, and addresses are in use on it or its record cannot be
                read; or it is, and its agent is there, or may be.
        """
        seen = AgentPresence()

        async def look() -> None:
            nonlocal seen
            seen = await self._store.agent_presence(name)

        def without_agent() -> list[Compare]:
            off = options.machine_is_off
            agent_presence.refuse(name, seen, machine_is_off=off)
            return agent_presence.demands(name, keys, machine_is_off=off)

        keys, force = self._store.keys, options.force

        def decide() -> Decision[int]:
            cache = self._store.cache
            used, there = self._store.usage.of_node(name), self._store.usage.there(name)
            removal = self._removal(name, there, options)
            if not cache.exists(name):
                # What it left behind is released sooner if somebody asks for that.
                if not force or not there:
                    return Decision(0)
                said = cache.removed.get(name)
                known = said is not None and said.machine_is_off >= options.machine_is_off
                if known:
                    return Decision(there)
                return Decision(there, writes=[removal], demands=without_agent())
            if not force and not cache.is_readable(name):
                raise record_unreadable(keys.node(name))
            self._check_etag(name, options.etag)
            if used and not force:
                raise node_in_use(name, used)
            return Decision(
                there,
                writes=[Delete(keys.node(name)), removal, *self._spent_removals()],
                demands=without_agent()
                if used
                else [claims.of_node(name, keys, self._store.usage_revision)],
                changed=[_changed(name, cache.nodes.get(name, NOT_KNOWN), None)],
            )

        with self._metrics.refusals(Operation.DELETE):
            done = await self._store.change(
                decide, looks_at_usage=True, look=look if force else None
            )
        self._count(Operation.DELETE, changed=done.changed)
        if done.changed:
            log.info(
                "node_deleted",
                node=name,
                released=done.answer,
            )
        return done.answer

    def _removal(self, name: NodeName, there: int, options: DeleteOptions) -> Put:
        """Says that somebody asked for it."""
        record = RemovedNodeRecord(
            int(time.time()), there, options.request_id[:_MAX_LOGGED], options.machine_is_off
        )
        return Put(self._store.keys.removed_node(name), encode_removed_node(record))

    def _spent_removals(self) -> list[Delete]:
        """Forgets the oldest removals after which everything has been released."""
        store = self._store
        removed = store.cache.removed
        oldest = sorted(removed, key=lambda name: removed[name].revision)[:-_REMOVALS_KEPT]
        spent = [name for name in oldest if not store.usage.there(name)]
        return [Delete(store.keys.removed_node(name)) for name in spent[:_SPENT_MOST]]

    def _said(self, spec: NodeSpec, known: Node | None, *, by_agent: bool) -> Node:
        """The node with what was not said as it is known; raises Forbidden."""
        node = spec.node
        if known is not None:
            unsaid = {name: getattr(known, name) for name in FOR_OPERATORS if name not in spec.said}
            node = replace(node, **unsaid)
        return reported(known, node, self._agents_may) if by_agent else declared(known, node)

    def _check_own_addresses(self, known: Node | None, node: Node) -> None:
        layout = self._store.cache.layout
        check_own_addresses(known, node, networks_of(node, layout), layout)

    def _refuse_another(self, node: Node, known: Node) -> None:
        other = [name for name in _ASKED if getattr(node, name) != getattr(known, name)]
        if other:
            raise AlreadyExists(
                f"there is a node {node.name!r} already, with other {', '.join(other)}: update or "
                "delete it",
                reason="NODE_EXISTS",
                metadata={"node": node.name, "fields": ",".join(other), "field": "node.name"},
            )

    def _refuse_taken(self, node: Node) -> None:
        node_index = self._store.cache.node_index
        for address in sorted(node.addresses, key=str):
            holder = node_index.holder(address, but=node.name)
            if holder is not None:
                raise address_taken(address, node.name, holder, address_field(node, address))

    def _check_etag(self, name: NodeName, etag: str) -> None:
        now = self._store.etag(name)
        if etag and etag != now:
            raise Conflict(
                f"node {name!r} changed since it was read: read it again",
                reason="STALE_ETAG",
                metadata={"node": name, "etag": now},
            )

    def _count(self, operation: Operation, *, changed: bool, validated: bool = False) -> None:
        result = Result.CHANGED if changed else Result.UNCHANGED
        self._metrics.count(operation, Result.VALIDATED if validated else result)


def _changed(name: NodeName, before: Node | str | None, after: Node | None) -> Changed:
    return Changed(ObjectKind.NODE, name, before, after)


def _refuse_unasked(spec: NodeSpec, known: Node) -> None:
    """Refuses to put a node onto every network by leaving out what it was attached to."""
    if "attachments" not in spec.said and known.attachments is not None:
        was = ", ".join(item.network for item in known.attachments) or "no network"
        raise InvalidInput.at(
            f"{AT}.empty_attachments",
            f"is missing: node {known.name!r} is attached to {was}; without attachments it is on "
            "EVERY_NETWORK that its groups give, or on NO_NETWORK: say which",
        )


def node_not_found(name: str) -> NotFound:
    return NotFound(
        f"there is no node {name[:_MAX_LOGGED]!r}",
        reason="NODE_NOT_FOUND",
        metadata={"node": name[:_MAX_LOGGED]},
    )


def node_removed(name: NodeName) -> WrongState:
    """The error for an agent whose node somebody removed."""
    return WrongState(
        f"node {name!r} was removed: its agent does not register it again. If the machine is to "
        "stay, an operator registers it (`romana node register`)",
        reason="NODE_REMOVED",
        metadata={"node": name},
    )


def node_in_use(name: NodeName, used: int) -> WrongState:
    """The error for deleting a node with addresses in use."""
    what = "1 address is" if used == 1 else f"{used} addresses are"
    return WrongState(
        f"{what} in use on node {name!r}: release first, or delete the node by force, which "
        "releases them",
        reason="NODE_IN_USE",
        metadata={"node": name, "addresses": str(used)},
    )
