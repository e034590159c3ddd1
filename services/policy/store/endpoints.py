"""What orchestrators and agents say of endpoints, written to the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

import structlog

from services.common.errors import Conflict, Exhausted
from services.common.etcd.types import Compare, Field, Relation
from services.common.model.names import EndpointName, NodeName, Tenant
from services.common.model.own_tenants import of_another_tenant
from services.common.process.mutation_metrics import Result
from services.policy.checks.tenant_limits import check_endpoint
from services.policy.metrics import Operation, PolicyMetrics
from services.policy.model import Endpoint
from services.policy.store import codec
from services.policy.store.store import PolicyStore

log = structlog.get_logger(__name__)

MAX_OF_NODE: Final = 10_000
"""Endpoints that a node may report, believed or not."""


class EndpointChanges:
    def __init__(self, store: PolicyStore, metrics: PolicyMetrics) -> None:
        self._store = store
        self._feed = store.feed
        self._metrics = metrics

    async def put(self, endpoints: Sequence[Endpoint]) -> None:
        """Takes what an orchestrator says; of several of one name the last counts.

        Raises Unavailable; some may be written then.
        """
        with self._metrics.refusals(Operation.ENDPOINT):
            await self._store.catch_up()
            documents = {
                self._key(endpoint.name): codec.encode_endpoint(endpoint)
                for endpoint in map(self._with_its_allocation, endpoints)
                if (before := self._feed.by_orchestrator.get(endpoint.name)) is None
                or before.value != endpoint
            }
            await self._store.write(documents)
        self._count(Operation.ENDPOINT, changed=bool(documents))
        log.info("endpoints_put", endpoints=len(documents))

    async def put_one(self, endpoint: Endpoint, etag: str) -> None:
        """Replaces what was read; raises Conflict and Unavailable."""
        with self._metrics.refusals(Operation.ENDPOINT):
            await self._store.catch_up()
            document = codec.encode_endpoint(endpoint)
            await self._replace(endpoint.name, document, etag)
        self._count(Operation.ENDPOINT, changed=True)
        log.info("endpoints_put", endpoints=1)

    async def put_own(self, endpoint: Endpoint, etag: str, tenants: frozenset[Tenant]) -> None:
        """Takes labels and ports of somebody who is limited to tenants.

        Raises Forbidden for what is not theirs, Conflict and Unavailable.
        """
        name = endpoint.name
        with self._metrics.refusals(Operation.ENDPOINT):
            await self._store.catch_up()
            check_endpoint(endpoint, self._store.engine.endpoints.get(name), tenants)
            before = self._feed.by_orchestrator.get(name)
            said = replace(endpoint, only_of_tenant=True)
            if before is not None and not before.value.only_of_tenant:
                said = replace(before.value, labels=endpoint.labels, ports=endpoint.ports)
            revision = before.revision if before is not None else 0
            await self._replace(name, codec.encode_endpoint(said), etag or str(revision))
        self._count(Operation.ENDPOINT, changed=True)
        log.info("endpoints_put", endpoints=1)

    async def delete(
        self, name: EndpointName, etag: str, tenants: frozenset[Tenant] | None = None
    ) -> None:
        """Takes back what an orchestrator said; raises Conflict and Unavailable.

        `tenants`: the caller is limited to these, and gets Forbidden for what others said.
        """
        with self._metrics.refusals(Operation.ENDPOINT):
            await self._store.catch_up()
            before = self._feed.by_orchestrator.get(name)
            there = before is not None
            if tenants is not None and before is not None:
                said = before.value
                if not said.only_of_tenant or said.tenant not in tenants:
                    raise of_another_tenant(f"what was said of endpoint {name!r}")
                etag = etag or str(before.revision)
            if etag and there:
                await self._replace(name, b"", etag)
            elif there:
                await self._store.write({self._key(name): b""})
        self._count(Operation.ENDPOINT, changed=there)
        log.info("endpoint_deleted", endpoint=name, known=there)

    async def report(
        self,
        node: NodeName,
        attached: Sequence[Endpoint],
        detached: Collection[EndpointName],
        *,
        complete: bool,
    ) -> None:
        """Takes what a node's agent says. With `complete`, `attached` is all there is.

        Raises Unavailable; the agent then says it again. Raises Exhausted for more than a node has.
        """
        keys = self._store.keys
        with self._metrics.refusals(Operation.REPORT):
            await self._store.catch_up_with_ipam()
            before = self._feed.attached.get(node, {})
            named = {endpoint.name for endpoint in attached}
            gone = (set(before) if complete else set(detached) & set(before)) - named
            if len(before.keys() | named) - len(gone) > MAX_OF_NODE:
                raise Exhausted(
                    f"node {node!r} says that it has more than {MAX_OF_NODE} endpoints",
                    reason="TOO_MANY_ENDPOINTS",
                    metadata={"node": node},
                )
            documents = {keys.attached_to(node, name): b"" for name in sorted(gone)}
            for endpoint in attached:
                known = before.get(endpoint.name)
                if known is None or known.value != endpoint:
                    key = keys.attached_to(node, endpoint.name)
                    documents[key] = codec.encode_endpoint(endpoint)
            await self._store.write(documents)
        self._count(Operation.REPORT, changed=bool(documents))
        if documents:
            log.info(
                "endpoints_reported", node=node, detached=len(gone),
                attached=len(documents) - len(gone),
            )  # fmt: skip

    async def _replace(self, name: EndpointName, document: bytes, etag: str) -> None:
        entry = self._feed.by_orchestrator.get(name)
        revision = entry.revision if entry is not None else 0
        same = Compare(self._key(name), Field.MOD, Relation.EQUAL, revision)
        if etag != str(revision) or not await self._store.write({self._key(name): document}, same):
            raise Conflict(
                f"endpoint {name!r} changed since it was read: read it again",
                reason="STALE_ETAG",
                metadata={"etag": str(revision)},
            )

    def _with_its_allocation(self, endpoint: Endpoint) -> Endpoint:
        """The name in ipam stays with which a node was told to attach: its addresses are there."""
        known, wanted = self._feed.by_orchestrator.get(endpoint.name), endpoint.wanted
        before = known.value.wanted if known is not None else None
        if before is None or wanted is None or before.node != wanted.node:
            return endpoint
        return replace(endpoint, wanted=replace(wanted, allocation=before.allocation))

    def _key(self, name: EndpointName) -> str:
        return f"{self._store.keys.policy_endpoints}{name}"

    def _count(self, operation: Operation, *, changed: bool) -> None:
        self._metrics.count(operation, Result.CHANGED if changed else Result.UNCHANGED)
