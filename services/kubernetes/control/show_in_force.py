"""Shows on how many nodes a network policy is in force, to those who use kubectl.

A ClusterNetworkPolicy gets the condition `InForce`. A NetworkPolicy has no status: it gets an event
when it has come into force after a change, and one when it stays out of force.

Policy is asked about some policies at a time, since each is compared with every node: first those
that have changed or are not in force, then the others in turn. A policy that was not told of yet is
left for later; so what is said is of the object as it is.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import NotFound, RomanaError
from services.kubernetes.calls.policy import InForce, PolicyCalls
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.informer import Change
from services.kubernetes.cluster.kinds import CLUSTER_NETWORK_POLICIES
from services.kubernetes.cluster.recorder import Recorder
from services.kubernetes.control import notes
from services.kubernetes.control.dirty import Dirty
from services.kubernetes.control.followed import Followed
from services.kubernetes.control.tell_policy import PolicyTeller
from services.kubernetes.objects.conditions import Finding, conditions
from services.kubernetes.objects.policies import NetworkPolicy, is_status

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 5.0
ASK_MOST: Final = 50
"""Policies in one look: so many objects are written in one, at most."""
FIRST_MOST: Final = 40
"""Of them, those that have changed or are not in force; the others have their turn, too."""
LATE_LOOKS: Final = 2
"""After so many it is not just on its way."""
IN_FORCE: Final = "InForce"
PENDING: Final = "Pending"
MISSING_MOST: Final = 5
"""Names of nodes in a message."""
RETRY: Final = BackoffPolicy(initial=1.0, maximum=30.0)


class InForceShowing:
    """The loop."""

    def __init__(
        self,
        followed: Followed,
        teller: PolicyTeller,
        calls: PolicyCalls,
        server: ApiServer,
        recorder: Recorder,
    ) -> None:
        self._followed = followed
        self._teller = teller
        self._calls = calls
        self._server = server
        self._recorder = recorder
        self._first: Dirty[str] = Dirty()
        """Policies that are asked about first."""
        self._others: deque[str] = deque()
        self._changed: set[str] = set()
        """NetworkPolicies of which it is to be said that they are in force."""
        self._behind: dict[str, int] = {}
        """NetworkPolicies that were not in force at the last looks, and at how many."""
        followed.policies.on_change(self._take)
        followed.cluster_policies.on_change(self._take)

    async def run(self) -> None:
        """Shows for ever."""
        self._changed.clear()
        self._behind.clear()
        backoff = Backoff(RETRY, random.random)
        while True:
            try:
                await self.look()
            except RomanaError as error:
                log.info("in_force_not_shown", message=error.message)
                await asyncio.sleep(backoff.failed())
            else:
                backoff.succeeded()
                await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Looks after some policies; raises RomanaErrors."""
        names = self._next()
        if not names:
            return
        self._first.mark(names)  # until they are seen to be in force, or something fails
        told = [name for name in names if self._teller.is_told(name)]
        asked = [name for name in told if name not in self._teller.refused]
        found = await self._calls.in_force(asked) if asked else {}
        for name in told:
            policy = self._followed.policy(name)
            if policy is None or not self._teller.is_told(name):
                continue  # it has changed since
            finding = self._finding(name, found.get(name))
            if finding is not None:
                await self._show(policy, finding)
                if finding.holds:
                    self._first.drop(name)

    def _next(self) -> Sequence[str]:
        names = [one for one in self._first.take(FIRST_MOST) if self._followed.policy(one)]
        if not self._others:
            self._others.extend(self._followed.policy_names)
        while self._others and len(names) < ASK_MOST:
            name = self._others.popleft()
            if name not in names and self._followed.policy(name):
                names.append(name)
        return names

    def _finding(self, name: str, found: InForce | None) -> Finding | None:
        """None: nothing is known."""
        why = self._teller.refused.get(name)
        if why is not None:
            return Finding(IN_FORCE, "Refused", why, holds=False)
        if found is None:
            return None
        if not found.needed:
            return Finding(IN_FORCE, "NothingSelected", "it selects nothing on any node")
        said = f"on {found.applied} of {found.needed} nodes"
        if found.applied < found.needed:
            some = ", ".join(found.missing[:MISSING_MOST])
            more = ", ..." if len(found.missing) > MISSING_MOST else ""
            return Finding(IN_FORCE, PENDING, f"{said}; not on {some}{more}", holds=False)
        return Finding(IN_FORCE, "Applied", said)

    async def _show(self, policy: NetworkPolicy, finding: Finding) -> None:
        if policy.namespace:
            self._note(policy, finding)
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = conditions([finding], policy.conditions, policy.generation, now)
        if all(one in policy.conditions for one in found):
            return
        body = {
            "apiVersion": policy.api_version,
            "kind": policy.kind,
            "metadata": {"name": policy.name},
            "status": {"conditions": found},
        }
        try:
            await self._server.apply(f"{CLUSTER_NETWORK_POLICIES.path}/{policy.name}/status", body)
        except NotFound:
            return  # it has just been deleted

    def _note(self, policy: NetworkPolicy, finding: Finding) -> None:
        name = policy.policy
        if finding.holds:
            if self._behind.pop(name, 0) >= LATE_LOOKS or name in self._changed:
                self._recorder.note(notes.in_force(policy, finding))
            self._changed.discard(name)
        elif finding.reason == PENDING:
            self._behind[name] = self._behind.get(name, 0) + 1
            if self._behind[name] == LATE_LOOKS:
                self._recorder.note(notes.in_force(policy, finding))

    def _take(self, changes: Sequence[Change[NetworkPolicy]]) -> None:
        for change in changes:
            before, after = change.before, change.after
            if after is None:
                if before is not None:
                    self._first.drop(before.policy)
                    self._changed.discard(before.policy)
                    self._behind.pop(before.policy, None)
            elif not is_status(before, after):
                self._first.mark([after.policy])
                self._changed.add(after.policy)
