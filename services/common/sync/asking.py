"""Asks a node's agent about itself, on whichever replica its stream is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import grpc.aio

from services.common.errors import RomanaError, Unavailable, WrongState
from services.common.rpc.sibling_replicas import SiblingReplicas
from services.common.rpc.status import error_of
from services.common.sync.hub import Hub
from services.common.sync.questions import AGENT_REASONS, ANSWER_SECONDS, AWAY, Answer, away

PASSED_ON_SECONDS: Final = ANSWER_SECONDS + 1
"""For which another replica is waited for, which waits for the agent."""

Response = TypeVar("Response")


class Asking(Generic[Response]):
    def __init__(
        self,
        hub: Hub,
        siblings: SiblingReplicas,
        here: Callable[[str, Answer], Response],
        there: Callable[[str, grpc.aio.Channel, float], Awaitable[Response]],
    ) -> None:
        """`here` makes a response of what a node's agent says; `there` asks another replica for its
        own, within some seconds."""
        self._hub = hub
        self._siblings = siblings
        self._here = here
        self._there = there

    async def ask(self, node: str, *, local: bool) -> Response:
        """The agent's answer; `local`: if its stream is at this replica.

        Raises:
            WrongState: It has no stream, or does not answer questions.
            Unavailable: It does not answer in time, or a replica that may have its stream does not.
        """
        try:
            return self._here(node, await self._hub.ask(node))
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

    async def _elsewhere(self, node: str, channel: grpc.aio.Channel) -> Response | RomanaError:
        try:
            return await self._there(node, channel, PASSED_ON_SECONDS)
        except grpc.aio.AioRpcError as error:
            found = error_of(error)
            if found.reason in AGENT_REASONS:
                return found
            raise
