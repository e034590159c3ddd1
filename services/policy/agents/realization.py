"""Who has applied what: agents' acknowledgments, here and on the other replicas.

A policy is applied on a node that needs it if the node has applied everything there is for it; or,
for a node that is always behind by something, if what it has applied is no older than the policy
and than the last change of what the node needs at all. A node that needs it no more counts until it
has applied that.

A change is applied when no node is left that may still enforce what was before: of all for which
there is something else now, those whose agents have said so, or hold what there is now anyway. A
node of which nothing is known, such as one whose agent has stopped, is not among these.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc.aio
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.sync.v1 import sync_pb2

from services.common.audit.in_force import Reach
from services.common.errors import RomanaError
from services.common.etcd.types import Revision
from services.common.model.failsafe import Failsafe
from services.common.model.names import NodeName, Tenant
from services.common.model.rules import PolicyName
from services.common.paging.pages import filled
from services.common.rpc.request_id import passed_on
from services.common.rpc.sibling_replicas import SiblingReplicas
from services.common.sizes import ANSWER_BYTES
from services.common.sync import wire
from services.common.sync.hub import Status
from services.policy.agents.streams import RuleStreams
from services.policy.checks.tenant_limits import is_own
from services.policy.store.apply import policy_not_found
from services.policy.store.store import PolicyStore

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

MAX_MISSING: Final = 100
"""Names of nodes that are listed for a policy."""

Nodes = Mapping[str, api.NodeRealization]


@dataclass(frozen=True, slots=True)
class KnownNodes:
    """What all replicas know of nodes, by name."""

    nodes: Nodes

    def behind(self, nodes: Collection[NodeName]) -> set[NodeName]:
        """Those of some nodes that have not applied everything there is for them."""
        return {node for node in nodes if node not in self.nodes or not self.nodes[node].current}

    def failsafe(self, node: NodeName) -> Failsafe:
        """What no policy on a node cuts off."""
        said = self.nodes.get(node)
        if said is None:
            return Failsafe()
        return wire.parse_failsafe(said.failsafe_inbound, said.failsafe_outbound)


class Realization:
    def __init__(
        self,
        store: PolicyStore,
        rule_streams: RuleStreams,
        siblings: SiblingReplicas,
        replica: str,
    ) -> None:
        """`replica`: the name of this one."""
        self._store = store
        self._rule_streams = rule_streams
        self._siblings = siblings
        self.replica = replica

    async def answer(self, request: api.GetRealizationRequest) -> api.GetRealizationResponse:
        """Answers a request; raises NotFound for a policy that is not there."""
        self._store.check_in_sync()
        policies = self._store.feed.policies
        for name in request.policies:
            if PolicyName(name) not in policies:
                raise policy_not_found(name)
        if request.since:
            await self._rule_streams.confirm()  # what was known before would not do
        nodes = await self._nodes(local=request.local_only)
        response = api.GetRealizationResponse()
        if request.since and not request.page_token:
            self._since(request, nodes, response)
        if not request.nodes_only:
            names = sorted(set(request.policies) or policies)
            found, response.next_page_token = filled(
                names,
                request.page_size,
                request.page_token,
                lambda number: self._policy(PolicyName(names[number]), nodes),
                in_order=True,
                most=ANSWER_BYTES // 2,  # the other half is for the nodes
            )
            response.policies.extend(found)
        if not request.page_token:
            wanted = request.nodes or sorted(nodes)
            response.nodes.extend(nodes[node] for node in wanted if node in nodes)
        return response

    async def answer_to_tenants(
        self, request: api.GetRealizationRequest, tenants: frozenset[Tenant]
    ) -> api.GetRealizationResponse:
        """Answers somebody who is limited to tenants, without others' names; raises NotFound."""
        self._store.check_in_sync()
        own = {
            name
            for name, entry in self._store.feed.policies.items()
            if is_own(entry.value.policy, tenants)
        }
        for name in request.policies:
            if name not in own:
                raise policy_not_found(name)
        limited = api.GetRealizationRequest()
        limited.CopyFrom(request)
        if not request.policies:
            limited.policies.extend(sorted(own))
            limited.nodes_only |= not own
        response = await self.answer(limited)
        for node in response.nodes:
            del node.failures[:]  # they name endpoints
        return response

    async def reached(self, revisions: Sequence[Revision]) -> Sequence[Reach]:
        """How far changes of policies, tenants and devices are; raises Unavailable."""
        self._store.check_in_sync()
        await self._rule_streams.confirm()  # what was known before would not do
        nodes = await self._nodes(local=False)
        reached: list[Reach] = []
        for revision in revisions:
            request = api.GetRealizationRequest(since=revision - 1, up_to=revision)
            answer = api.GetRealizationResponse()
            self._since(request, nodes, answer)
            reached.append(Reach(answer.concerned, len(answer.late)))
        return reached

    async def known(self) -> KnownNodes:
        """What all replicas know of nodes."""
        return KnownNodes(await self._nodes(local=False))

    async def _nodes(self, *, local: bool) -> Nodes:
        """All nodes that have or had a stream, by name."""
        own, found = await asyncio.gather(
            self._own(), self._siblings.ask(_ask) if not local else _nobody()
        )
        nodes = {item.node: item for item in own}
        for answer in found:
            for item in answer.nodes:
                before = nodes.get(item.node)
                if before is None or _rank(item) > _rank(before):
                    nodes[item.node] = item
        return nodes

    async def _own(self) -> list[api.NodeRealization]:
        with contextlib.suppress(RomanaError):  # the store is away: what was known before counts
            await self._rule_streams.confirm()
        hub = self._rule_streams.hub
        current = {stream.hello.node for stream in hub.streams if stream.sender.is_current}
        return [self._node(status, current=status.node in current) for status in hub.statuses()]

    def _node(self, status: Status, *, current: bool) -> api.NodeRealization:
        message = api.NodeRealization(
            node=status.node,
            connected=status.connected,
            replica=self.replica,
            agent_version=status.agent_version,
            current=current,
            failures=[wire.failure(one) for one in status.failures],
            failsafe_inbound=map(str, status.failsafe.inbound),
            failsafe_outbound=map(str, status.failsafe.outbound),
        )
        if status.applied is not None:
            message.applied.CopyFrom(wire.position(status.applied))
        message.update_time.FromMilliseconds(int(status.update_time * 1000))
        return message

    def _policy(self, name: PolicyName, nodes: Nodes) -> api.PolicyRealization:
        needed = self._store.engine.nodes_needing(name)
        least = self._store.feed.policies[name].revision
        missing = {
            node
            for node in needed
            if not self._has_applied(node, nodes, max(least, self._rule_streams.spans.get(node, 0)))
        }
        left = {
            node
            for node, revision in self._rule_streams.left(name).items()
            if self._may_enforce(node, nodes) and not self._has_applied(node, nodes, revision)
        }
        needed, missing = needed | left, missing | left
        return api.PolicyRealization(
            policy=name,
            needed=len(needed),
            applied=len(needed) - len(missing),
            missing=sorted(missing)[:MAX_MISSING],
            failures=self._failures(name, needed, nodes),
        )

    def _may_enforce(self, node: NodeName, nodes: Nodes) -> bool:
        """Whether a node has an agent, or endpoints that one has reported."""
        return node in nodes or self._rule_streams.enforces(node)

    def _has_applied(self, node: NodeName, nodes: Nodes, least: int) -> bool:
        """Whether a node has applied what there is for it, or all there was at a revision."""
        known, source = nodes.get(node), self._rule_streams.source
        if known is None:
            return False
        if known.current:
            return True
        applied = wire.parse_position(known.applied)
        if not applied.digest:
            return False  # it has applied nothing, or a part of a snapshot
        topics = source.nodes.get(node)
        if topics is not None and applied.digest == source.position(topics).digest:
            return True
        return applied.epoch == source.epoch and applied.revision >= least

    def _since(
        self,
        request: api.GetRealizationRequest,
        nodes: Nodes,
        response: api.GetRealizationResponse,
    ) -> None:
        """Which nodes may still enforce what was at a revision."""
        rule_streams = self._rule_streams
        concerned = [
            node for node in rule_streams.concerned(request.since) if self._may_enforce(node, nodes)
        ]
        least = request.up_to or rule_streams.source.revision
        late = [node for node in concerned if not self._has_applied(node, nodes, least)]
        response.concerned = len(concerned)
        response.late.extend(sorted(late)[:MAX_MISSING])
        response.revision = rule_streams.source.revision

    def _failures(
        self, name: PolicyName, needed: Iterable[NodeName], nodes: Nodes
    ) -> list[sync_pb2.Failure]:
        return [
            failure
            for node in sorted(needed)
            if node in nodes
            for failure in nodes[node].failures
            if self._rule_streams.policies.get(failure.resource) == name
        ][:MAX_MISSING]


async def _ask(channel: grpc.aio.Channel, timeout: float) -> api.GetRealizationResponse:
    stub: PolicyServiceAsyncStub = PolicyServiceStub(channel)
    request = api.GetRealizationRequest(local_only=True, nodes_only=True)
    return await stub.GetRealization(request, timeout=timeout, metadata=passed_on())


async def _nobody() -> Iterable[api.GetRealizationResponse]:
    return ()


def _rank(item: api.NodeRealization) -> tuple[bool, int, int]:
    """The higher, the more likely it is still so."""
    return item.connected, item.update_time.seconds, item.update_time.nanos
