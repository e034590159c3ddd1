"""Callers with certificates, as the servicer's context shows them."""

from __future__ import annotations

from typing import cast

from services.common.rpc.context import Context


class Certificate:
    """What gRPC says of a caller."""

    def __init__(
        self,
        *names: str,
        tls: bool = True,
        common_name: str = "",
        metadata: tuple[tuple[str, str], ...] = (),
        peer: str = "ipv4:192.0.2.9:40000",
    ) -> None:
        """`names` are the certificate's alternative names."""
        self._metadata = metadata
        self._peer = peer
        self._auth = {
            "transport_security_type": [b"ssl" if tls else b"insecure"],
            "x509_subject_alternative_name": [name.encode() for name in names],
            "x509_common_name": [common_name.encode()],
        }

    @property
    def context(self) -> Context:
        return cast("Context", self)

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata
