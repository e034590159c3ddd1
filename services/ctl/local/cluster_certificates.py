"""Authorities and certificates of an installation in Kubernetes, as Secrets of its namespace.

There are two authorities: whoever has a certificate of the first is known to Romana's services by
its role, and whoever has one of the second may do anything in etcd. Nodes have one of the first.
An etcd that was there before has an authority of its own, and what we have for it is not touched.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.admissionregistration_v1 import ValidatingWebhookConfiguration
from lightkube.resources.apps_v1 import DaemonSet, StatefulSet
from lightkube.resources.core_v1 import Secret
from lightkube.types import PatchType

from services.common.certificates import authority
from services.common.certificates.authority import CERTIFICATE_DAYS, Facts, Pair, Subject
from services.common.errors import Conflict, NotFound
from services.common.rpc.identity import URI, Role
from services.kubernetes.cluster.api_server import ApiServer

AUTHORITY: Final = "romana-authority"
ETCD_TLS: Final = "romana-etcd-tls"
ETCD_AUTHORITY: Final = "romana-etcd-authority"
CA, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
"""As in Secrets that cert-manager makes."""
WEBHOOKS, WEBHOOK = "romana", "topologies.romana.io"
"""What the API server asks, and under which name: as in deploy/kubernetes/webhook.yaml."""
RESTARTED: Final = "romana.io/certificates-renewed"
AGENTS: Final = "romana-agent"
ETCD: Final = "romana-etcd"


class Outcome(StrEnum):
    MADE = "made"
    RENEWED = "renewed"
    REPLACED = "replaced"
    """Renewed, by another authority than before."""
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Leaf:
    secret: str
    authority: str
    subject: Subject


@dataclass(frozen=True, slots=True)
class Done:
    secret: str
    outcome: Outcome
    facts: Facts


@dataclass(frozen=True, slots=True)
class Term:
    days: int
    within: int
    """Days before its end, in which one is renewed."""


def leaves(hosts: Sequence[str], *, etcd: bool) -> tuple[Leaf, ...]:
    """Those of an installation whose services are called by these names and addresses; `etcd`: it
    has one of its own."""

    def subject(role: Role, *called: str) -> Subject:
        return Subject(f"romana-{role}", (URI + role,), called)

    of_etcd = Leaf(ETCD_TLS, ETCD_AUTHORITY, Subject("romana-etcd", (), tuple(hosts)))
    return (
        *((of_etcd,) if etcd else ()),
        Leaf("romana-service-tls", AUTHORITY, subject(Role.SERVICE, *hosts)),
        Leaf("romana-operator-tls", AUTHORITY, subject(Role.OPERATOR)),
        Leaf("romana-scheduler-tls", AUTHORITY, subject(Role.ORCHESTRATOR)),
    )


def is_due(data: Mapping[str, bytes], leaf: Leaf, ours: Pair, now: datetime, within: int) -> bool:
    """Whether what a Secret has has to be made anew."""
    if data.get(CA) != ours.certificate or CERTIFICATE not in data or KEY not in data:
        return True
    facts = authority.facts(data[CERTIFICATE])
    ends_soon = facts.not_after - now < timedelta(days=within)
    return ends_soon or set(facts.hosts) != set(leaf.subject.hosts)


def agents_are_due(since: datetime, now: datetime, within: int) -> bool:
    """Whether certificates of nodes may end soon, if none was made before `since`."""
    return now - since > timedelta(days=CERTIFICATE_DAYS - within)


class ClusterCertificates:
    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace

    async def ensure(
        self, hosts: Sequence[str], now: datetime, term: Term, *, etcd: bool
    ) -> list[Done]:
        """Makes what lacks and renews what ends soon; `etcd`: also for etcd."""
        done: list[Done] = []
        authorities: dict[str, Pair] = {}
        wanted = leaves(hosts, etcd=etcd)
        for name in (AUTHORITY, *((ETCD_AUTHORITY,) if etcd else ())):
            authorities[name], outcome = await self._authority(name, now)
            done.append(Done(name, outcome, authority.facts(authorities[name].certificate)))
        done += [await self._leaf(leaf, authorities[leaf.authority], now, term) for leaf in wanted]
        await self._tell_api_server(authorities[AUTHORITY].certificate)
        replaced = {one.secret for one in done if one.outcome is Outcome.REPLACED}
        if ETCD_TLS in replaced:  # it reads its authorities when it starts
            await self._restart(StatefulSet, ETCD, now)
        await self._renew_agents(now, term, is_due="romana-service-tls" in replaced)
        return done

    async def _authority(self, name: str, now: datetime) -> tuple[Pair, Outcome]:
        found = await self._read(name)
        if found is not None:
            data = _data(found)
            return Pair(data[CERTIFICATE], data[KEY]), Outcome.KEPT
        made = authority.new_authority(name, now)
        try:
            await self._create(name, made, made.certificate)
        except Conflict:  # somebody else was first
            return await self._authority(name, now)
        return made, Outcome.MADE

    async def _leaf(self, leaf: Leaf, ours: Pair, now: datetime, term: Term) -> Done:
        found = await self._read(leaf.secret)
        data = {} if found is None else _data(found)
        if found is not None and not is_due(data, leaf, ours, now, term.within):
            facts = authority.facts(data[CERTIFICATE])
            return Done(leaf.secret, Outcome.KEPT, facts)
        made = authority.issue(ours, leaf.subject, now, days=term.days)
        if found is None:
            await self._create(leaf.secret, made, ours.certificate)
        else:
            found.data = _encoded(made, ours.certificate)
            await self._server.call(lambda client: client.replace(found))
        if found is None:
            outcome = Outcome.MADE
        elif data.get(CA, ours.certificate) == ours.certificate:
            outcome = Outcome.RENEWED
        else:
            outcome = Outcome.REPLACED
        return Done(leaf.secret, outcome, authority.facts(made.certificate))

    async def _tell_api_server(self, ca: bytes) -> None:
        """By which authority it knows the webhook that it asks."""
        bundle = {"caBundle": base64.b64encode(ca).decode()}
        change = {"webhooks": [{"name": WEBHOOK, "clientConfig": bundle}]}
        with contextlib.suppress(NotFound):  # an installation without it
            await self._server.call(
                lambda client: client.patch(
                    ValidatingWebhookConfiguration,
                    WEBHOOKS,
                    change,
                    patch_type=PatchType.STRATEGIC,
                )
            )

    async def _renew_agents(self, now: datetime, term: Term, *, is_due: bool) -> None:
        """Has agents begin anew, some at a time, before the certificates end that they asked for
        when they began."""
        try:
            found = await self._server.call(
                lambda client: client.get(DaemonSet, AGENTS, namespace=self._namespace)
            )
        except NotFound:
            return
        if is_due or agents_are_due(_began(found, now), now, term.within):
            await self._restart(DaemonSet, AGENTS, now)

    async def _restart(
        self, kind: type[StatefulSet] | type[DaemonSet], name: str, now: datetime
    ) -> None:
        change = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now.isoformat()}}}}}
        with contextlib.suppress(NotFound):  # an installation without it
            await self._server.call(
                lambda client: client.patch(
                    kind, name, change, namespace=self._namespace, patch_type=PatchType.MERGE
                )
            )

    async def _read(self, name: str) -> Secret | None:
        try:
            return await self._server.call(
                lambda client: client.get(Secret, name, namespace=self._namespace)
            )
        except NotFound:
            return None

    async def _create(self, name: str, pair: Pair, ca: bytes) -> None:
        secret = Secret(
            metadata=ObjectMeta(name=name, namespace=self._namespace),
            type="kubernetes.io/tls",
            data=_encoded(pair, ca),
        )
        await self._server.call(lambda client: client.create(secret))


def _began(agents: DaemonSet, now: datetime) -> datetime:
    """Since when all agents have begun anew, or there are any."""
    spec, metadata = agents.spec, agents.metadata
    template = None if spec is None else spec.template.metadata
    text = ((template and template.annotations) or {}).get(RESTARTED)
    if text is not None:
        return datetime.fromisoformat(text)
    created = None if metadata is None else metadata.creationTimestamp
    return created or now


def _data(secret: Secret) -> dict[str, bytes]:
    return {key: base64.b64decode(text) for key, text in (secret.data or {}).items()}


def _encoded(pair: Pair, ca: bytes) -> dict[str, str]:
    content = {CA: ca, CERTIFICATE: pair.certificate, KEY: pair.key}
    return {key: base64.b64encode(data).decode() for key, data in content.items()}
