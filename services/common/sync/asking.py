"""Asks a node's agent about itself, on whichever replica its stream is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import RomanaError, Unavailable, WrongState
from services.common.rpc.sibling_replicas import SiblingReplicas
from services.common.rpc.status import error_of
from services.common.sync import wire
from services.common.sync.hub import Hub
from services.common.sync.questions import AGENT_REASONS, ANSWER_SECONDS, AWAY, Answer, away

PASSED_ON_SECONDS: Final = ANSWER_SECONDS + 1
"""For which another replica is waited for, which waits for the agent."""


class KernelResponse(Protocol):
    """What every service's method answers that asks an agent."""

    @property
    def answer_time(self) -> Timestamp:
        """When the agent answered."""


Response = TypeVar("Response", bound=KernelResponse)


class Asking(Generic[Response]):
    def __init__(
        self,
        hub: Hub,
        siblings: SiblingReplicas,
        replica: str,
        response: Callable[..., Response],
        there: Callable[[str, grpc.aio.Channel, float], Awaitable[Response]],
    ) -> None:
        """Asks nobody yet.

        Args:
            hub: Streams to this replica.
            siblings: The other replicas.
            replica: Name of this one.
            response: Makes one with `kernel`, `holds_all` and `replica`.
            there: Asks another replica for a node, within some seconds.
        """
        self._hub = hub
        self._siblings = siblings
        self._replica = replica
        self._response = response
        self._there = there

    async def ask(self, node: str, *, local: bool) -> Response:
        """The agent's answer; `local`: if its stream is at this replica.

        Raises:
            WrongState: It has no stream, or does not answer questions.
            Unavailable: It does not answer in time, or a replica that may have its stream does not.
        """
        try:
            return self._of(node, await self._hub.ask(node))
        except WrongState as error:
            if local or error.reason != AWAY:
                raise
        others = self._siblings.count
        answers = await self._siblings.ask(
            lambda channel, _: self._elsewhere(node, channel)  # it takes as long as the agent does
        )
        errors = []
        for answer in answers:
            if not isinstance(answer, RomanaError):
                return answer
            if answer.reason != AWAY:
                errors.append(answer)
        if errors:
            raise errors[0]
        if len(answers) < others:
            raise Unavailable(
                f"the agent of {node} has no stream here, and {others - len(answers)} of {others} "
                "other replicas, which may have it, did not answer",
                "REPLICA_DID_NOT_ANSWER",
                {"node": node},
            )
        raise away(node)

    def _of(self, node: str, answer: Answer) -> Response:
        source = self._hub.source
        topics = source.nodes.get(node)
        held = wire.parse_position(answer.message.answer.held)
        response = self._response(
            kernel=answer.message,
            holds_all=topics is not None and held.digest == source.position(topics).digest,
            replica=self._replica,
        )
        response.answer_time.FromMilliseconds(int(answer.time * 1000))
        return response

    async def _elsewhere(self, node: str, channel: grpc.aio.Channel) -> Response | RomanaError:
        try:
            return await self._there(node, channel, PASSED_ON_SECONDS)
        except grpc.aio.AioRpcError as error:
            found = error_of(error)
            if found.reason in AGENT_REASONS:
                return found
            raise
