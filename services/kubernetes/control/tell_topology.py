"""Keeps topology's nodes equal to the cluster's.

A node that is deleted takes its own with it once no address is in use there: until then it is tried
again and again, so that nothing is taken from pods that still run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.common.errors import AlreadyExists, InvalidInput, RomanaError, WrongState
from services.common.model.names import NodeName
from services.kubernetes.calls.topology import TopologyCalls
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.informer import Change
from services.kubernetes.cluster.kinds import NODES
from services.kubernetes.cluster.recorder import Recorder
from services.kubernetes.control import notes
from services.kubernetes.control.dirty import Dirty
from services.kubernetes.control.followed import Followed
from services.kubernetes.metrics import ControllerMetrics, Outcome, What
from services.kubernetes.objects.nodes import Node
from services.kubernetes.wanted.nodes import FOLLOWED, KUBERNETES, node_of

log = structlog.get_logger(__name__)

BATCH: Final = 50


class TopologyTeller:
    """What has to be told, and how."""

    def __init__(
        self,
        followed: Followed,
        calls: TopologyCalls,
        fresh: FreshReads,
        recorder: Recorder,
        metrics: ControllerMetrics,
        changed: Callable[[], None],
        *,
        force: bool,
    ) -> None:
        """`changed` is called when there is something to tell; `force`: nodes go at once."""
        self._nodes = followed.nodes
        self._calls = calls
        self._fresh = fresh
        self._recorder = recorder
        self._metrics = metrics
        self._changed = changed
        self._force = force
        self._marked: Dirty[str] = Dirty()
        self._postponed: set[str] = set()
        """Nodes that cannot go yet, or are refused for what is wrong elsewhere."""
        followed.nodes.on_change(self._take)

    def mark_all(self) -> None:
        """Everything has to be told anew."""
        self._marked.mark_later(self._nodes.items)

    async def mark_strays(self) -> None:
        """What topology has of ours and the cluster has not; raises RomanaErrors."""
        known = await self._calls.nodes()
        self._marked.mark(
            name
            for name, labels in known.items()
            if labels.get(FOLLOWED) == KUBERNETES and name not in self._nodes.items
        )

    async def tell(self) -> bool:
        """Tells some of it; whether there is more. What failed is marked again, and raised."""
        names = self._marked.take(BATCH)
        for place, name in enumerate(names):
            try:
                await self._tell_one(name)
            except BaseException:
                self._marked.mark([*names[place + 1 :], name])
                raise
        return bool(self._marked)

    def mark_postponed(self) -> None:
        """What could not be done before is tried again."""
        self._marked.mark(self._postponed)
        self._postponed.clear()

    def stand_by(self) -> None:
        """Another replica tells now."""
        self._marked.clear()
        self._postponed.clear()

    def _take(self, changes: Sequence[Change[Node]]) -> None:
        self._marked.mark(change.key for change in changes)
        self._changed()

    async def _tell_one(self, name: str) -> None:
        node = self._nodes.items.get(name)
        try:
            if node is None:
                await self._delete(NodeName(name))
            else:
                wanted, problems = node_of(node)
                if problems:
                    self._recorder.note(notes.bad_annotations(node, problems))
                await self._calls.put_node(wanted)
        except (InvalidInput, AlreadyExists, WrongState) as error:
            self._refused(name, node, error)
        else:
            self._metrics.told(What.NODE, Outcome.DONE)

    async def _delete(self, name: NodeName) -> None:
        if await self._fresh.get(NODES, name) is not None:
            return  # another one of that name; it is heard of soon
        await self._calls.delete_node(name, force=self._force)
        log.info("node_deleted", node=name)

    def _refused(self, name: str, node: Node | None, error: RomanaError) -> None:
        self._metrics.told(What.NODE, Outcome.REFUSED)
        self._postponed.add(name)
        log.warning("node_refused", node=name, message=error.message)
        if node is not None:
            self._recorder.note(notes.refused(node, error))
