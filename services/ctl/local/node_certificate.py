"""The certificate of a node in Kubernetes: its key is made there, and never leaves it.

Who the node is says the token of the agent's pod, by which the API server is asked; the controller
signs (`services.kubernetes.control.sign_nodes`).
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from pathlib import Path
from typing import Final

from lightkube.models.certificates_v1 import CertificateSigningRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.certificates_v1 import CertificateSigningRequest

from services.common.certificates import authority
from services.common.errors import Forbidden, InvalidInput
from services.common.files import write_atomic
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.objects.signing_requests import NODE_SIGNER

_PAUSE: Final = 0.5
"""Seconds between two looks: no watch, since an agent may read single requests only."""
_END: Final = b"-----END CERTIFICATE-----\n"


async def request(server: ApiServer, node: str, folder: Path) -> None:
    """Asks, waits for the answer, and writes ca.crt, tls.crt and tls.key; raises RomanaErrors."""
    made = authority.signing_request(node)
    name = f"romana-node-{uuid.uuid4().hex}"
    await server.call(
        lambda client: client.create(
            CertificateSigningRequest(
                metadata=ObjectMeta(name=name),
                spec=CertificateSigningRequestSpec(
                    request=base64.b64encode(made.certificate).decode(),
                    signerName=NODE_SIGNER,
                    usages=["digital signature", "client auth", "server auth"],
                ),
            )
        )
    )
    chain = await _answer(server, name)
    own, end, ca = chain.partition(_END)
    if not ca.strip():
        raise InvalidInput(f"{name}: no certificate of the authority came with it", "BAD_ANSWER")
    write_atomic(folder / "tls.key", made.key)
    write_atomic(folder / "tls.crt", own + end)
    write_atomic(folder / "ca.crt", ca)


async def _answer(server: ApiServer, name: str) -> bytes:
    while True:
        found = await server.call(lambda client: client.get(CertificateSigningRequest, name))
        status = found.status
        if status is not None and status.certificate:
            return base64.b64decode(status.certificate)
        for condition in (status.conditions or []) if status is not None else []:
            if condition.type in {"Denied", "Failed"}:
                raise Forbidden(f"{name}: {condition.message}", "NOT_AN_AGENT")
        await asyncio.sleep(_PAUSE)
