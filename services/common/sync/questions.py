"""What an agent is asked about itself, on its stream: the service's end.

    questions.next()           id of a question to send; 0: none
    questions.take(part)       a part of an answer
    await questions.ask()      the answer, asked for now or a moment ago

One question is on its way at a time, and whoever asks meanwhile waits for the same answer; an
answer lasts a moment, so that an agent is not asked more often however many ask. What an agent does
not answer in time is given up, and what comes of it later is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from romana.sync.v1 import sync_pb2 as pb

from services.common.errors import InvalidInput, RomanaError, Unavailable, WrongState
from services.common.sizes import ANSWER_BYTES

ANSWER_SECONDS: Final = 8.0
"""For which an agent is waited for: a table with 100,000 elements takes some of them."""
LASTS_SECONDS: Final = 2.0
"""For which an answer counts."""
AWAY: Final = "AGENT_AWAY"
_TOO_OLD: Final = "AGENT_TOO_OLD"
_SILENT: Final = "AGENT_DID_NOT_ANSWER"
_NOT_READ: Final = "KERNEL_NOT_READ"
AGENT_REASONS: Final = frozenset({AWAY, _TOO_OLD, _SILENT, _NOT_READ})
"""Reasons of errors that say something of the agent, whichever replica says so."""


class Part(Protocol):
    """A service's message with a part of an answer."""

    @property
    def answer(self) -> pb.AnswerPart:
        """Whose part it is."""

    def ByteSize(self) -> int:  # noqa: N802
        """On the wire."""

    def MergeFrom(self, msg: Any) -> None:  # noqa: N802
        """Adds another part's lists."""


@dataclass(frozen=True, slots=True)
class Answer:
    """All parts of one, together."""

    message: Part
    time: float
    """Unix time at which it came."""


class Questions:
    """Of one stream."""

    def __init__(
        self,
        node: str,
        wake: Callable[[], None],
        *,
        answers: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`answers`: the agent says that it does; `wake`: there is a question to send."""
        self._node = node
        self._wake = wake
        self._answers = answers
        self._clock = clock
        self._id = 0
        self._is_sent = True
        self._asked: asyncio.Future[Answer] | None = None
        self._asked_at = 0.0
        self._whole: Part | None = None
        self._size = 0
        self._last: Answer | RomanaError | None = None
        self._last_at = 0.0

    def next(self) -> int:
        """The question to send now; 0: none."""
        if self._is_sent:
            return 0
        self._is_sent = True
        return self._id

    async def ask(self) -> Answer:
        """Raises WrongState for an agent that does not answer questions, and Unavailable."""
        if not self._answers:
            raise WrongState(
                f"the agent of {self._node} is of a version that does not say what its kernel has",
                _TOO_OLD,
                {"node": self._node},
            )
        if self._last is not None and self._clock() - self._last_at < LASTS_SECONDS:
            if isinstance(self._last, RomanaError):
                raise self._last
            return self._last
        if self._asked is None:
            self._begin()
        asked, asked_at = self._asked, self._asked_at
        assert asked is not None
        try:
            async with asyncio.timeout(max(asked_at + ANSWER_SECONDS - self._clock(), 0)):
                return await asyncio.shield(asked)
        except TimeoutError:
            if self._asked is asked:
                self._give_up()
            raise Unavailable(
                f"the agent of {self._node} has a stream and has not answered for "
                f"{ANSWER_SECONDS:g} s",
                _SILENT,
                {"node": self._node},
            ) from None

    def take(self, part: Part) -> None:
        """Takes a part of an answer; raises InvalidInput for one that is too long."""
        said = part.answer
        if said.question != self._id or self._asked is None:
            return  # it was given up
        self._size += part.ByteSize()
        if self._size > ANSWER_BYTES:
            raise InvalidInput(f"an answer has more than {ANSWER_BYTES} bytes", "ANSWER_TOO_LONG")
        if self._whole is None:
            self._whole = part
        else:
            self._whole.MergeFrom(part)
        if not said.last:
            return
        asked, whole = self._asked, self._whole
        self._give_up()
        self._last_at = self._clock()
        if said.problem:
            self._last = Unavailable(
                f"the agent of {self._node} cannot say what its kernel has: {said.problem}",
                _NOT_READ,
                {"node": self._node},
            )
            _fail(asked, self._last)
        else:
            self._last = Answer(whole, time.time())
            asked.set_result(self._last)

    def end(self) -> None:
        """The stream is over."""
        asked = self._asked
        self._give_up()
        if asked is not None:
            _fail(asked, away(self._node))

    def _begin(self) -> None:
        self._asked = asyncio.get_running_loop().create_future()
        self._asked_at = self._clock()
        self._id += 1
        self._is_sent = False
        self._wake()

    def _give_up(self) -> None:
        self._asked = self._whole = None
        self._size = 0
        self._is_sent = True


def away(node: str) -> WrongState:
    """The error for a node whose agent has no stream."""
    return WrongState(
        f"the agent of {node} has no stream: what its kernel has is not known",
        AWAY,
        {"node": node},
    )


def _fail(asked: asyncio.Future[Answer], error: RomanaError) -> None:
    asked.set_exception(error)
    asked.exception()  # whoever asked may be gone
