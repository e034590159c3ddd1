"""The changes of policies and tenants."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final, TypeVar

import structlog

from services.common.audit.record import Changed, ObjectKind
from services.common.errors import AlreadyExists, Conflict, InvalidInput, NotFound, Violation
from services.common.model.names import NetworkName, Tenant
from services.common.model.rules import PolicyName
from services.common.process.mutation_metrics import Result
from services.common.sizes import POLICY_BYTES
from services.policy.checks.devices import check_via
from services.policy.checks.policies import check_references
from services.policy.checks.tenant_limits import (
    check_policy,
    check_stored,
    check_tenants,
    is_own,
)
from services.policy.metrics import Operation, PolicyMetrics
from services.policy.model import Policy, TenantRecord
from services.policy.store import codec
from services.policy.store.codec import Stored
from services.policy.store.entry import Entry
from services.policy.store.store import Decision, PolicyStore

log = structlog.get_logger(__name__)

T = TypeVar("T")


ABSENT: Final = "0"
"""The etag of what is not there."""


class Kind(Enum):
    """What becomes of a policy or tenant."""

    CREATED = auto()
    UPDATED = auto()
    UNCHANGED = auto()
    REMOVED = auto()


@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """How to carry out a change."""

    etag: str = ""
    """That which was read; empty: whatever it is."""
    validate_only: bool = False
    tenants: frozenset[Tenant] | None = None
    """Whoever asks is limited to these; None: to none."""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A set of policies and tenants."""

    policies: Sequence[Policy]
    tenants: Sequence[TenantRecord] = ()
    prune: Mapping[str, str] = field(default_factory=dict)
    """Policies with all of these labels that are not in the set are removed; empty: none are."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a set."""

    changes: Mapping[str, Kind]
    """By `policy/NAME` or `tenant/NAME`."""
    policies: Sequence[Entry[Stored]]
    """In the order of the set; revision 0: not stored."""


class PolicyChanges:
    def __init__(
        self,
        store: PolicyStore,
        metrics: PolicyMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._feed = store.feed
        self._metrics = metrics
        self._clock = clock

    async def create(self, policy: Policy, how: ChangeOptions) -> Entry[Stored]:
        """Adds a policy; the same again is fine.

        Raises:
            AlreadyExists: there is another one of that name.
            InvalidInput: it names a network that does not exist.
        """

        def decide() -> Decision[None]:
            self._check_own([policy], how)
            self._check_via([policy], "policy.")
            before = self._feed.policies.get(policy.name)
            if before is not None:
                if _is_same(before.value.policy, policy):
                    return Decision(None)
                raise AlreadyExists(
                    f"there is another policy {policy.name!r}",
                    reason="POLICY_EXISTS",
                    metadata={"policy": policy.name},
                )
            return self._put(policy, how)

        return await self._change(Operation.CREATE, policy, decide, how)

    async def update(self, policy: Policy, how: ChangeOptions) -> Entry[Stored]:
        """Replaces a policy.

        Raises:
            NotFound: there is none.
            Conflict: it is not the one that was read.
            InvalidInput: it names a network that does not exist.
        """

        def decide() -> Decision[None]:
            self._check_own([policy], how)
            self._check_via([policy], "policy.")
            before = self._feed.policies.get(policy.name)
            if before is None:
                raise policy_not_found(policy.name)
            check_etag(how.etag, before, "policy", policy.name)
            if before.value.policy == policy:
                return Decision(None)
            return self._put(policy, how)

        return await self._change(Operation.UPDATE, policy, decide, how)

    async def delete(self, name: PolicyName, how: ChangeOptions) -> None:
        """Removes a policy; raises NotFound and Conflict."""

        def decide() -> Decision[bool]:
            before = self._feed.policies.get(name)
            if before is None:
                raise policy_not_found(name)
            if how.tenants is not None:
                check_stored(before.value.policy, how.tenants)
            check_etag(how.etag, before, "policy", name)
            gone = {f"{self._store.keys.policies}{name}": b""}
            changed = [self._policy_changed(name, None)]
            documents = {} if how.validate_only else gone
            return Decision(answer=True, documents=documents, changed=changed)

        with self._metrics.refusals(Operation.DELETE):
            await self._store.change(decide)
        result = Result.VALIDATED if how.validate_only else Result.CHANGED
        self._metrics.count(Operation.DELETE, result)
        if not how.validate_only:
            log.info("policy_deleted", policy=name)

    async def apply(self, wanted: PolicySet, how: ChangeOptions) -> Applied:
        """Makes a set be as it is said, all or nothing; raises InvalidInput."""
        names = {policy.name for policy in wanted.policies}
        labelled = [
            replace(policy, labels={**policy.labels, **wanted.prune}) for policy in wanted.policies
        ]
        now = self._now()

        def decide() -> Decision[dict[str, Kind]]:
            changes: dict[str, Kind] = {}
            documents: dict[str, bytes] = {}
            changed: list[Changed] = []
            self._check_own(wanted.policies, how)
            if how.tenants is not None:
                check_tenants(wanted.tenants, how.tenants)
            self._check_via(wanted.policies, "policies[{0}].")
            for tenant in wanted.tenants:
                kind, merged = self._tenant_kind(tenant)
                changes[f"tenant/{tenant.name}"] = kind
                if kind is not Kind.UNCHANGED:
                    documents[self._tenant_key(tenant.name)] = codec.encode_tenant(merged)
                    changed.append(self._tenant_changed(tenant.name, merged))
            for policy in labelled:
                before = self._feed.policies.get(policy.name)
                kind = _kind(before and before.value.policy, policy)
                changes[f"policy/{policy.name}"] = kind
                if kind is not Kind.UNCHANGED:
                    documents |= self._document(policy, now)
                    changed.append(self._policy_changed(policy.name, policy))
            for name in self._prunable(wanted.prune, names, how):
                changes[f"policy/{name}"] = Kind.REMOVED
                documents[f"{self._store.keys.policies}{name}"] = b""
                changed.append(self._policy_changed(name, None))
            return Decision(changes, {} if how.validate_only else documents, changed)

        with self._metrics.refusals(Operation.APPLY):
            changes = await self._store.change(decide)
        changed = any(kind is not Kind.UNCHANGED for kind in changes.values())
        self._count(Operation.APPLY, how, changed=changed)
        if changed and not how.validate_only:
            log.info(
                "policies_applied",
                **{
                    kind.name.lower(): sum(one is kind for one in changes.values()) for kind in Kind
                },
            )
        entries = [self._entry(policy, now, how) for policy in labelled]
        return Applied(changes, entries)

    async def put_tenant(self, tenant: TenantRecord, how: ChangeOptions) -> None:
        """Adds or replaces what is known of a tenant; raises Conflict."""

        def decide() -> Decision[None]:
            before = self._feed.tenants.get(tenant.name)
            check_etag(how.etag, before, "tenant", tenant.name)
            if before is not None and before.value == tenant:
                return Decision(None)
            document = codec.encode_tenant(tenant)
            changed = [self._tenant_changed(tenant.name, tenant)]
            return Decision(None, {self._tenant_key(tenant.name): document}, changed)

        with self._metrics.refusals(Operation.TENANT):
            await self._store.change(decide)
        self._metrics.count(Operation.TENANT, Result.CHANGED)
        log.info("tenant_put", tenant=tenant.name)

    async def delete_tenant(self, name: Tenant, how: ChangeOptions) -> None:
        """Forgets a tenant; raises Conflict."""

        def decide() -> Decision[None]:
            before = self._feed.tenants.get(name)
            if before is None:
                return Decision(None)
            check_etag(how.etag, before, "tenant", name)
            changed = [self._tenant_changed(name, None)]
            return Decision(None, {self._tenant_key(name): b""}, changed)

        with self._metrics.refusals(Operation.TENANT):
            await self._store.change(decide)
        self._metrics.count(Operation.TENANT, Result.CHANGED)
        log.info("tenant_deleted", tenant=name)

    def check_networks(self, policies: Sequence[Policy], at: str) -> list[Violation]:
        """References to networks that do not exist; `at` has the place of the number."""
        networks: Mapping[NetworkName, object] = self._store.engine.networks
        return [
            problem
            for number, policy in enumerate(policies)
            for problem in check_references(policy, networks, at.format(number))
        ]

    def _check_own(self, policies: Sequence[Policy], how: ChangeOptions) -> None:
        """Raises Forbidden for what is not of the tenants that the caller is limited to."""
        if how.tenants is None:
            return
        for policy in policies:
            check_policy(policy, how.tenants)
            before = self._feed.policies.get(policy.name)
            if before is not None:
                check_stored(before.value.policy, how.tenants)

    def _check_via(self, policies: Sequence[Policy], at: str) -> None:
        """Refuses groups of devices that do not exist, as of what a change is decided on."""
        problems = [
            Violation(
                f"{at.format(number)}{one.path}", f"{one.message} (policy {policy.name[:80]!r})"
            )
            for number, policy in enumerate(policies)
            for one in check_via(policy, self._feed.devices.groups)
        ]
        if problems:
            raise InvalidInput.of(problems)

    async def _change(
        self,
        operation: Operation,
        policy: Policy,
        decide: Callable[[], Decision[None]],
        how: ChangeOptions,
    ) -> Entry[Stored]:
        self._store.check_in_sync()
        before = self._feed.policies.get(policy.name)
        with self._metrics.refusals(operation):
            if problems := self.check_networks([policy], "policy."):
                raise InvalidInput.of(problems)
            await self._store.change(decide)
        entry = self._entry(policy, self._now(), how)
        changed = before is None or before.revision != entry.revision
        self._count(operation, how, changed=changed)
        if changed and not how.validate_only:
            log.info("policy_written", policy=policy.name)
        return entry

    def _count(self, operation: Operation, how: ChangeOptions, *, changed: bool) -> None:
        if how.validate_only:
            self._metrics.count(operation, Result.VALIDATED)
        else:
            self._metrics.count(operation, Result.CHANGED if changed else Result.UNCHANGED)

    def _put(self, policy: Policy, how: ChangeOptions) -> Decision[None]:
        documents = self._document(policy, self._now())
        changed = [self._policy_changed(policy.name, policy)]
        return Decision(None, {} if how.validate_only else documents, changed)

    def _policy_changed(self, name: PolicyName, after: Policy | None) -> Changed:
        before = self._feed.policies.get(name)
        return Changed(ObjectKind.POLICY, name, before and before.value.policy, after)

    def _tenant_changed(self, name: Tenant, after: TenantRecord | None) -> Changed:
        before = self._feed.tenants.get(name)
        return Changed(ObjectKind.TENANT, name, before and before.value, after)

    def _document(self, policy: Policy, now: int) -> dict[str, bytes]:
        document = codec.encode_policy(self._stored(policy, now))
        if len(document) > POLICY_BYTES:
            raise InvalidInput.at(
                "", f"policy {policy.name!r} has {len(document)} bytes, at most {POLICY_BYTES} fit"
            )
        return {f"{self._store.keys.policies}{policy.name}": document}

    def _stored(self, policy: Policy, now: int) -> Stored:
        before = self._feed.policies.get(policy.name)
        return Stored(policy, before.value.created if before is not None else now, now)

    def _entry(self, policy: Policy, now: int, how: ChangeOptions) -> Entry[Stored]:
        """As it is stored, or would be."""
        entry = self._feed.policies.get(policy.name)
        if how.validate_only or entry is None:
            return Entry(self._stored(policy, now), 0)
        return entry

    def _tenant_key(self, name: Tenant) -> str:
        return f"{self._store.keys.tenants}{name}"

    def _tenant_kind(self, tenant: TenantRecord) -> tuple[Kind, TenantRecord]:
        """A document that says nothing of isolation leaves it as it is."""
        before = self._feed.tenants.get(tenant.name)
        if before is not None and tenant.isolation is None:
            tenant = replace(tenant, isolation=before.value.isolation)
        return _kind(before and before.value, tenant), tenant

    def _prunable(
        self, labels: Mapping[str, str], names: set[PolicyName], how: ChangeOptions
    ) -> Sequence[PolicyName]:
        if not labels:
            return ()
        return [
            name
            for name, entry in self._feed.policies.items()
            if name not in names
            and labels.items() <= entry.value.policy.labels.items()
            and (how.tenants is None or is_own(entry.value.policy, how.tenants))
        ]

    def _now(self) -> int:
        return int(self._clock() * 1000)


def policy_not_found(name: str) -> NotFound:
    """The error for a policy that is not there."""
    return NotFound(
        f"there is no policy {name[:256]!r}",
        reason="POLICY_NOT_FOUND",
        metadata={"policy": name[:256]},
    )


def _is_same(before: Policy, after: Policy) -> bool:
    """Whether somebody creates what is there; what it was read from is not the caller's to say."""
    return replace(before, origin=after.origin) == after


def _kind(before: object | None, after: object) -> Kind:
    if before is None:
        return Kind.CREATED
    return Kind.UNCHANGED if before == after else Kind.UPDATED


def check_etag(etag: str, entry: Entry[T] | None, noun: str, name: str) -> None:
    """Raises Conflict if a record is not the one that was read, or is there and was not."""
    if etag and etag != (str(entry.revision) if entry is not None else ABSENT):
        raise Conflict(
            f"{noun} {name!r} changed since it was read: read it again",
            reason="STALE_ETAG",
            metadata={"etag": str(entry.revision) if entry is not None else ""},
        )
