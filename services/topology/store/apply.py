"""The changes of the topology as a whole: apply, and what a crash or a slow hand left undone."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import structlog

from services.common.audit.record import Changed, ObjectKind
from services.common.errors import Conflict, Unavailable, WrongState
from services.common.etcd.types import Revision
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.common.process.mutation_metrics import Result
from services.common.store.optimistic import Committed
from services.common.terminal.plural import count
from services.topology.forms.apply_request import ApplyRequest
from services.topology.forms.export import compact_json
from services.topology.layout.plan import Plan, placed_anew
from services.topology.metrics import Operation, TopologyMetrics
from services.topology.store import aside, claims
from services.topology.store.planning import Planned, plan_beside, plan_by
from services.topology.store.store import Decision, TopologyStore, record_unreadable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Applied:
    plan: Plan
    changed: bool
    etag: str


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    validate_only: bool = False
    allow_stranded: bool = False
    etag: str = ""
    """Empty: whatever it is."""
    only_first: bool = False
    """Only if there is no topology at all."""


class TopologyChanges:
    def __init__(self, store: TopologyStore, metrics: TopologyMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._texts = LayoutTexts()

    async def apply(self, request: ApplyRequest, options: ApplyOptions) -> Applied:
        """Makes the topology the one that is asked for, or says what would happen.

        Raises:
            InvalidInput: something in it is wrong.
            Conflict: the etag is stale.
            AlreadyExists: an endpoint has what is to be a node's address or a gateway.
            WrongState: addresses in use would be stranded.
            Unavailable: the store, or a node that is just being removed.
        """
        with self._metrics.refusals(Operation.APPLY):
            planned = await self._plan_beside(request, options)
            if planned is not None and not options.validate_only:
                # for the record of the change, which is made where nobody may wait for it
                for layout in (planned.known.layout, planned.plan.layout):
                    await asyncio.to_thread(self._texts.of, layout)
            attempts = itertools.count()

            def decide() -> Decision[Plan]:
                # one that was overtaken is planned anew at once, lest it be so again
                return self._decide(request, options, planned if not next(attempts) else None)

            committed = await self._store.change(decide, looks_at_usage=True)
            plan = committed.answer
            if committed.changed and committed.groups < len(plan.nodes):
                await self._finish(request, plan.layout, committed)
        if options.validate_only:
            self._metrics.count(Operation.APPLY, Result.VALIDATED)
        else:
            changed = committed.changed
            self._metrics.count(Operation.APPLY, Result.CHANGED if changed else Result.UNCHANGED)
            log.info(
                "topology_applied",
                changed=changed,
                networks=len(plan.networks),
                groups=len(plan.groups),
                nodes=len(plan.moves),
                stranded=plan.stranded_addresses,
            )
        return Applied(plan, committed.changed, self._store.layout_etag)

    async def place_misplaced(self) -> int:
        """Places anew the nodes whose groups the layout does not allow; returns how many.

        That waits for another time where the layout cannot be read.
        """
        total = 0
        if not self._store.cache.layout_known:
            return total
        with self._metrics.refusals(Operation.SETTLE):
            while True:
                committed = await self._store.change(self._decide_misplaced)
                if not committed.changed:
                    break
                total += committed.groups
        result = Result.CHANGED if total else Result.UNCHANGED
        self._metrics.count(Operation.SETTLE, result)
        if total:
            log.info("nodes_settled", nodes=total)
        return total

    async def _plan_beside(self, request: ApplyRequest, options: ApplyOptions) -> Planned | None:
        if options.only_first and self._store.cache.layout_revision:
            return None
        await self._store.catch_up()
        self._check_etag(options)
        return await plan_beside(request, self._store)

    def _check_etag(self, options: ApplyOptions) -> None:
        if options.etag and options.etag != self._store.layout_etag:
            raise Conflict(
                "the topology changed since it was read: read it again",
                reason="STALE_ETAG",
                metadata={"etag": self._store.layout_etag},
            )

    def _decide(
        self, request: ApplyRequest, options: ApplyOptions, planned: Planned | None
    ) -> Decision[Plan]:
        store, cache = self._store, self._store.cache
        if options.only_first and cache.layout_revision:
            return Decision(Plan(cache.layout))
        self._check_etag(options)
        if planned is None or planned.known.generation != cache.generation:
            planned = plan_by(request, store.known())
        plan, seen = planned.plan, planned.known.seen
        self._refuse_being_removed(plan)
        demands = (
            []
            if options.allow_stranded
            else claims.of_plan(
                plan,
                cache.layout,
                {move.node for move in plan.moves if move.before is not None},
                store.keys,
                seen,
            )
        )
        networks = aside.of_layout(store, plan.layout, beside=len(demands))
        demands += networks.demands
        own = aside.of_nodes(store, plan.nodes, beside=len(demands))
        if options.validate_only:
            return Decision(plan)
        self._refuse_removal(plan)
        if plan.stranded and not options.allow_stranded:
            raise would_strand(plan)
        writes_layout = plan.layout != cache.layout or not cache.layout_revision
        nodes = plan.nodes[: own.nodes]
        return Decision(
            plan,
            layout=plan.layout if writes_layout else None,
            nodes=nodes,
            writes=networks.writes or own.writes,
            demands=[*demands, *own.demands],
            changed=[
                *([self._layout_changed(plan.layout)] if writes_layout else ()),
                *self._nodes_changed(request, nodes),
            ],
        )

    def _layout_changed(self, after: Layout) -> Changed:
        cache = self._store.cache
        before = self._texts.of(cache.layout) if cache.layout_revision else None
        return Changed(ObjectKind.TOPOLOGY, "", before, self._texts.of(after))

    def _nodes_changed(self, request: ApplyRequest, nodes: Iterable[Node]) -> list[Changed]:
        """Of nodes that are written, those that the request says something new of."""
        listed = {entry.node.name for entry in request.spec.nodes}
        known = self._store.cache.nodes
        return [
            Changed(ObjectKind.NODE, node.name, before, node)
            for node in nodes
            if node.name in listed
            and (
                (before := known.get(node.name)) is None
                or replace(before, placements=node.placements) != node
            )
        ]

    def _refuse_removal(self, plan: Plan) -> None:
        """Raises WrongState if it takes prefixes away and nobody knows what is in use there."""
        losing = claims.networks_losing(plan)
        if losing:
            key = self._store.first_unreadable(losing)
            if key is not None:
                raise record_unreadable(key)

    def _refuse_being_removed(self, plan: Plan) -> None:
        for node in plan.nodes:
            if node.name not in self._store.cache.nodes:
                refuse_being_removed(self._store, node.name)

    async def _finish(self, request: ApplyRequest, layout: Layout, done: Committed[Plan]) -> None:
        """Writes the nodes that did not fit into the first transaction."""
        left, revision = done.answer.nodes[done.groups :], done.revision
        while left:
            written = await self._store.change(
                partial(self._decide_rest, request, layout, left, revision), looks_at_usage=True
            )
            left, revision = written.answer[written.groups :], written.revision

    def _decide_rest(
        self, request: ApplyRequest, layout: Layout, left: tuple[Node, ...], revision: Revision
    ) -> Decision[tuple[Node, ...]]:
        """The nodes that are left. They are planned anew after others' changes."""
        cache = self._store.cache
        if cache.layout != layout:
            return Decision(())  # somebody applied another one, which is theirs to finish
        nodes = left
        if cache.generation != revision:
            plan = plan_by(request, self._store.known()).plan
            self._refuse_being_removed(plan)
            nodes = plan.nodes
        own = aside.of_nodes(self._store, nodes)
        written = nodes[: own.nodes]
        return Decision(
            nodes,
            None,
            written,
            own.writes if nodes else (),
            own.demands,
            self._nodes_changed(request, written),
        )

    def _decide_misplaced(self) -> Decision[None]:
        cache = self._store.cache
        if not cache.layout_revision:
            return Decision(None)
        moved = placed_anew(cache.layout, cache.nodes).values()
        return Decision(None, nodes=[node for node in moved if cache.is_readable(node.name)])


class LayoutTexts:
    """Topology files of the layouts that were asked for last: of thousands of groups one takes a
    while."""

    def __init__(self) -> None:
        self._made: deque[tuple[Layout, str]] = deque(maxlen=4)

    def of(self, layout: Layout) -> str:
        for known, text in tuple(self._made):
            if known is layout:
                return text
        text = compact_json(layout)
        self._made.append((layout, text))
        return text


def would_strand(plan: Plan, field: str = "") -> WrongState:
    """The error for a change that is refused for what is in use; `field`: what asks for it."""
    blocks = len(plan.stranded)
    first = plan.stranded[0]
    what = (
        f"{count(plan.stranded_addresses, 'address')} in use in {count(blocks, 'block')} would be "
        "stranded"
    )
    return WrongState(
        f"{what}, such as those of node {first.node!r} on network {first.network!r}: release them "
        "first, or allow them to be stranded",
        reason="WOULD_STRAND",
        metadata={
            "addresses": str(plan.stranded_addresses),
            "blocks": str(blocks),
            "network": first.network,
            "node": first.node,
            **({"field": field} if field else {}),
        },
    )


def refuse_being_removed(store: TopologyStore, node: NodeName) -> None:
    """Raises Unavailable for a name that was removed by force, while its addresses are released.

    What its endpoints took along to other nodes is not: that is in its blocks for as long as they
    live.
    """
    used = store.usage.there(node)
    if node in store.cache.removed and used:
        raise Unavailable(
            f"{used} addresses of an earlier node {node!r} are still being released: try again "
            "when they are. If that machine is off, `romana node delete --force --machine-is-off` "
            "releases them now",
            reason="NODE_BEING_REMOVED",
            metadata={"node": node},
        )
