"""CertificateSigningRequests."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

import msgspec

from services.kubernetes.objects.metadata import Metadata

NODE_SIGNER: Final = "romana.io/node"
"""Signs certificates of agents."""
POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
"""What the API server knows of who shows a token that is bound to a pod."""


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""


class _Spec(msgspec.Struct, frozen=True):
    request: str = ""
    signer: str = msgspec.field(name="signerName", default="")
    username: str = ""
    extra: dict[str, list[str]] | None = None


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] | None = None
    certificate: str | None = None


class SigningRequestObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """What is known of one. All but `request` is the API server's own word."""

    name: str
    signer: str
    username: str
    pod_name: str
    """Of the pod that asks; empty: none does."""
    pod_uid: str
    request: bytes
    """PEM."""
    is_settled: bool
    """It has a certificate, or never gets one."""

    @property
    def key(self) -> str:
        """Its name."""
        return self.name


def signing_request_of(item: SigningRequestObject) -> SigningRequest:
    """Takes what is needed."""
    extra = item.spec.extra or {}
    conditions = {one.type for one in item.status.conditions or ()}
    return SigningRequest(
        name=item.metadata.name,
        signer=item.spec.signer,
        username=item.spec.username,
        pod_name=_single(extra.get(POD_NAME)),
        pod_uid=_single(extra.get(POD_UID)),
        request=_decoded(item.spec.request),
        is_settled=bool(item.status.certificate) or bool(conditions & {"Denied", "Failed"}),
    )


def _single(values: list[str] | None) -> str:
    return values[0] if values is not None and len(values) == 1 else ""


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
