"""Signs certificates of agents: requests to the API server for the signer romana.io/node.

The elected replica approves, signs, and answers with the certificate and that of the authority
after it, which is all that an agent needs. What is refused is denied with the reason.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from lightkube.models.certificates_v1 import (
    CertificateSigningRequestCondition,
)
from lightkube.models.certificates_v1 import (
    CertificateSigningRequestStatus as RequestStatus,
)
from lightkube.resources.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestApproval,
    CertificateSigningRequestStatus,
)

from services.common.certificates import authority
from services.common.certificates.authority import Pair, Subject
from services.common.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    RomanaError,
    Unavailable,
)
from services.common.model.names import NodeName
from services.common.rpc.identity import NODE_URI
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.informer import Change, Informer
from services.kubernetes.cluster.kinds import PODS
from services.kubernetes.control.dirty import Dirty
from services.kubernetes.objects.signing_requests import NODE_SIGNER, SigningRequest
from services.kubernetes.wanted.node_certificates import agent_pod, node_of_agent

log = structlog.get_logger(__name__)

_BATCH: Final = 50


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs, and for whom."""

    folder: Path
    """With tls.crt and tls.key."""
    namespace: str
    """Of the agents' pods."""
    account: str
    """Their ServiceAccount."""

    def pair(self) -> Pair:
        """As it is now; raises Unavailable."""
        try:
            return Pair(
                (self.folder / "tls.crt").read_bytes(), (self.folder / "tls.key").read_bytes()
            )
        except OSError as error:
            raise Unavailable(f"the authority cannot be read: {error}") from error


class NodeSigner:
    """What has to be signed, and how."""

    def __init__(
        self,
        requests: Informer[SigningRequest],
        server: ApiServer,
        changed: Callable[[], None],
        authority: Authority,
    ) -> None:
        """`changed` is called when there is something to sign."""
        self._requests = requests
        self._server = server
        self._fresh = FreshReads(server)
        self._changed = changed
        self._authority = authority
        self._marked: Dirty[str] = Dirty()
        requests.on_change(self._take)

    def mark_all(self) -> None:
        """All that wait have to be signed."""
        self._marked.mark(self._requests.items)

    async def mark_strays(self) -> None:
        """There are none: the API server removes requests by itself."""

    def mark_postponed(self) -> None:
        """Nothing is."""

    def stand_by(self) -> None:
        """Another replica signs now."""
        self._marked.clear()

    async def tell(self) -> bool:
        """Signs some; whether there is more. What failed is marked again, and raised."""
        names = self._marked.take(_BATCH)
        for place, name in enumerate(names):
            request = self._requests.items.get(name)
            if request is None or request.is_settled or request.signer != NODE_SIGNER:
                continue
            try:
                await self._settle(request)
            except (Conflict, NotFound):
                continue  # it has changed, which is heard of
            except RomanaError:
                self._marked.mark([*names[place + 1 :], name])
                raise
        return bool(self._marked)

    def _take(self, changes: Sequence[Change[SigningRequest]]) -> None:
        self._marked.mark(change.key for change in changes)
        self._changed()

    async def _settle(self, request: SigningRequest) -> None:
        try:
            key = agent_pod(request, self._authority.namespace, self._authority.account)
            pod = await self._fresh.get(PODS, key)
            node = node_of_agent(request, pod)
            chain = self._sign(request, node)
        except (Forbidden, InvalidInput) as error:
            log.warning("request_denied", request=request.name, message=error.message)
            await self._decide(request, "Denied", error.message)
            return
        await self._decide(request, "Approved", f"node {node}")
        found, status = await self._read(request)
        status.certificate = base64.b64encode(chain).decode()
        await self._server.call(
            lambda client: client.replace(
                CertificateSigningRequestStatus.from_dict(found.to_dict()), request.name
            )
        )
        log.info("node_certified", request=request.name, node=node)

    def _sign(self, request: SigningRequest, node: NodeName) -> bytes:
        """The certificate and the authority's."""
        ours = self._authority.pair()
        subject = Subject(node, (NODE_URI + node,))
        signed = authority.sign(ours, request.request, subject, datetime.now(UTC))
        return signed + ours.certificate

    async def _decide(self, request: SigningRequest, decision: str, why: str) -> None:
        found, status = await self._read(request)
        conditions = status.conditions = status.conditions or []
        if any(one.type == decision for one in conditions):
            return
        conditions.append(
            CertificateSigningRequestCondition(
                type=decision, status="True", reason="Romana", message=why
            )
        )
        await self._server.call(
            lambda client: client.replace(
                CertificateSigningRequestApproval.from_dict(found.to_dict()), request.name
            )
        )

    async def _read(
        self, request: SigningRequest
    ) -> tuple[CertificateSigningRequest, RequestStatus]:
        """The request as it is now, and its status in it."""
        found = await self._server.call(
            lambda client: client.get(CertificateSigningRequest, request.name)
        )
        found.status = found.status or RequestStatus()
        return found, found.status
