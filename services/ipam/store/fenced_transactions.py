"""Transactions of the one writer, and what became of them.

Every transaction writes a tag to `Keys.commit` and demands that nobody did so since the last one.
So a transaction whose outcome is not known can be settled by a further one: either the tag is
there, or what the lost transaction demands never holds again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import STORE_FULL, OutcomeUnknown, StoreFull
from services.common.etcd.keys import Keys
from services.common.etcd.types import (
    Compare,
    Field,
    Get,
    Operation,
    Outcome,
    Put,
    Relation,
    Revision,
)

log = structlog.get_logger(__name__)

_RESOLVE: Final = BackoffPolicy(initial=0.02, maximum=1.0)


class Deposed(Exception):
    """Another replica is the active one, or may be."""


class OutcomeLost(Deposed):
    """It was deposed before it knew what became of a transaction, which may be carried out."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """That this replica is the active one, as far as it can know."""

    replica: str
    """Its id."""
    fence: Compare
    """Holds in the store while it is."""
    holds: Callable[[], bool]
    """False as soon as the lease may have ended."""
    revision: Revision
    """Of `Keys.commit`, as written when it took over."""


class Writer:
    """Carries out one transaction at a time."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        leadership: Leadership,
        reach_topology: Callable[[Revision], Awaitable[None]],
    ) -> None:
        """Writes nothing yet; `reach_topology` returns when all up to a revision has been seen."""
        self.revision = leadership.revision
        """Of the last transaction."""
        self._client = client
        self._keys = keys
        self._leadership = leadership
        self._reach_topology = reach_topology
        self._transactions = 0

    async def write(
        self, conditions: Sequence[Compare], writes: Sequence[Operation]
    ) -> Revision | None:
        """Carries out a transaction; None: it was not, and may be decided and tried anew at once.

        Raises Deposed, and nothing was carried out unless it is OutcomeLost; Unavailable, and
        nothing was; RequestTooLarge.
        """
        tag = self._next_tag()
        try:
            outcome = await self._transact(tag, conditions, writes)
        except StoreFull as error:
            log.warning("store_full", why=error.message)
            return await self._look(tag, error)
        except OutcomeUnknown as error:
            log.warning("commit_unknown", why=error.message)
            return await self._resolve(tag)
        if outcome.succeeded:
            self.revision = outcome.revision
            return outcome.revision
        commits, candidates = outcome.reads
        if not candidates or not commits or commits[0].mod_revision != self.revision:
            raise Deposed
        await self._reach_topology(outcome.revision)
        return None

    async def _look(self, tag: bytes, full: StoreFull) -> Revision:
        """Reads whether a transaction came through that etcd has answered: nothing is under way.

        Raises Unavailable if it did not.
        """
        try:
            commit = await self._client.get(self._keys.commit)
        except Unavailable as error:
            log.warning("commit_unknown", why=error.message)
            revision = await self._resolve(tag)
        else:
            if commit is not None and commit.value == tag:
                self.revision = commit.mod_revision
                return self.revision
            if commit is None or commit.mod_revision != self.revision:
                raise OutcomeLost
            revision = None
        if revision is None:
            raise Unavailable(
                "etcd has used up its quota, and nothing was carried out: make room in it and "
                "disarm its alarm",
                reason=STORE_FULL,
                metadata=full.metadata,
            ) from full
        return revision

    async def _resolve(self, lost: bytes) -> Revision | None:
        """Finds out whether a transaction came through: its revision, or None if it never will."""
        backoff = Backoff(_RESOLVE, random.random)
        own: set[bytes] = set()
        while True:
            if not self._leadership.holds():
                raise OutcomeLost
            tag = self._next_tag()
            own.add(tag)
            try:
                outcome = await self._transact(tag, (), ())
            except Unavailable:
                await asyncio.sleep(backoff.failed())
                continue
            if outcome.succeeded:
                self.revision = outcome.revision
                return None
            commits, candidates = outcome.reads
            if not candidates or not commits or commits[0].value not in {lost, *own}:
                raise OutcomeLost
            self.revision = commits[0].mod_revision
            return self.revision if commits[0].value == lost else None

    async def _transact(
        self, tag: bytes, conditions: Sequence[Compare], writes: Sequence[Operation]
    ) -> Outcome:
        """Asks besides what was written last, and whether the leadership still stands."""
        commit, fence = self._keys.commit, self._leadership.fence
        last = Compare(commit, Field.MOD, Relation.EQUAL, self.revision)
        return await self._client.transact(
            (fence, last, *conditions),
            (Put(commit, tag), *writes),
            (Get(commit), Get(fence.key)),
        )

    def _next_tag(self) -> bytes:
        self._transactions += 1
        return f"{self._leadership.replica}/{self._transactions}".encode()
