"""The stream of rules from the policy service into enforcement, and of what is to be attached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import grpc.aio
from romana.policy.v1 import sync_rules_pb2
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.agent.model import WantedEndpoint
from services.agent.rules import messages
from services.agent.rules.enforce import Enforcement
from services.agent.rules.resources import Resource
from services.agent.rules.spool import RuleSpool
from services.agent.rules.wanted import WantedEndpoints
from services.agent.streams.agent_stream import MANY, AgentStream
from services.agent.streams.answering import answering
from services.common.model.failsafe import Failsafe
from services.common.model.names import NodeName
from services.common.sync.model import Failure, Hello
from services.common.sync.receiver import Batch, Receiver
from services.common.sync.stream_client import Call, Peer, StreamObserver

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub


class RuleSink:
    """Hands packed resources to enforcement, and to those who attach."""

    def __init__(self, enforcement: Enforcement, wanted: WantedEndpoints) -> None:
        self._enforcement = enforcement
        self._wanted = wanted

    def replace(self, held: Mapping[str, bytes]) -> None:
        """Takes over all there is, such as what was on the disk."""
        wanted, rules = _apart(_parse(held))
        self._wanted.replace(wanted)
        self._enforcement.replace(rules)

    async def apply(self, batch: Batch[bytes]) -> None:
        """Takes in a change, and returns when the kernel holds it, or refused it.

        A part of a change, which has no digest, only is taken in: what it refers to may be in the
        next part, and a group that is not all there would deny too much or too little.
        """
        if len(batch.updated) < MANY:
            updated = _parse(batch.updated)
        else:
            updated = await asyncio.to_thread(_parse, batch.updated)
        whole = batch.snapshot or bool(batch.position.digest)
        self._hand_on(updated, batch.removed, whole=whole)
        if whole:
            await self._enforcement.reached()

    async def reached(self) -> None:
        """Waits for the kernel."""
        await self._enforcement.reached()

    def failures(self) -> Sequence[Failure]:
        """What is not understood; and when the kernel refuses, that nothing new is enforced."""
        found = [
            Failure(name, "UNREADABLE", message)
            for name, message in self._enforcement.unreadable.items()
        ]
        if self._enforcement.error:
            found.append(Failure("table/inet romana", "NOT_ENFORCED", self._enforcement.error))
        return found

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round."""
        self._enforcement.on_change(listener)

    def _hand_on(
        self, updated: Mapping[str, Resource], removed: Collection[str], *, whole: bool
    ) -> None:
        wanted, rules = _apart(updated)
        self._wanted.update(wanted, removed)
        # what is wanted is there only while it is not understood
        self._enforcement.update(rules, [*removed, *wanted], whole=whole)


def _apart(
    resources: Mapping[str, Resource],
) -> tuple[Mapping[str, WantedEndpoint], Mapping[str, Resource]]:
    wanted = {key: one for key, one in resources.items() if isinstance(one, WantedEndpoint)}
    return wanted, {key: one for key, one in resources.items() if key not in wanted}


def _parse(packed: Mapping[str, bytes]) -> Mapping[str, Resource]:
    return {name: messages.parse_resource(message) for name, message in packed.items()}


def rule_stream(
    node: NodeName,
    channels: Mapping[str, grpc.aio.Channel],
    enforcement: Enforcement,
    wanted: WantedEndpoints,
    spool: RuleSpool,
    receiver: Receiver[bytes],
    observer: StreamObserver | None = None,
    *,
    failsafe: Failsafe,
) -> AgentStream[bytes]:
    """The node's stream of rules.

    Args:
        node: This node.
        channels: To replicas of the policy service, by address.
        enforcement: Gets it.
        wanted: Gets what is to be attached.
        spool: Where it is kept.
        receiver: From the spool, or empty.
        observer: Is told how the stream fares.
        failsafe: What no policy on the node cuts off, to be told.
    """
    peers = [_peer(address, channel, failsafe) for address, channel in channels.items()]
    answers = answering(
        enforcement.in_kernel,
        messages.kernel_parts,
        sync_rules_pb2.KernelRules,
        lambda part: sync_rules_pb2.SyncRulesRequest(kernel=part),
    )
    return AgentStream(
        node, peers, RuleSink(enforcement, wanted), spool.save, receiver, observer, answers
    )


def _peer(address: str, channel: grpc.aio.Channel, failsafe: Failsafe) -> Peer[bytes]:
    stub: PolicyServiceAsyncStub = PolicyServiceStub(channel)

    def begin() -> Call:
        return cast("Call", stub.SyncRules())  # what it is, but for its type in the stubs

    def hello(value: Hello) -> object:
        return messages.hello(value, failsafe)

    return Peer(
        address,
        begin,
        hello,
        messages.ack,
        messages.parse_response,
        lambda message: message.question.id,
    )
