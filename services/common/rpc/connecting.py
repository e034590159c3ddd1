"""Why a service cannot be reached, in words, from what gRPC says of its attempts to connect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
_NO_TLS = "WRONG_VERSION_NUMBER"
"""BoringSSL's words for an answer that is not TLS."""
_OTHER_NAME = "Hostname Verification Check failed"
_NO_GRPC = "Failed parsing HTTP/2"
_SILENT = "before receiving SETTINGS frame"
_UNUSABLE = "Failed to create security handshaker"
_CLOSED = ("Socket closed", "Connection reset by peer")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why, and what to do about it."""

    text: str
    hint: str = ""
    """Empty: nothing but to look for the service elsewhere."""


_PATIENCE: Final = {
    "Deadline Exceeded": "it did not answer in time",
    "Stream removed (ping timeout)": "it does not answer any more",
}


def in_words(message: str) -> str:
    """What gRPC itself says of a connection, in words; what services say as it is."""
    if message in _PATIENCE:
        return _PATIENCE[message]
    is_grpcs = message.startswith("failed to connect to all addresses") or message in _CLOSED
    return cause_of(message, tls=False).text if is_grpcs else message


def is_unusable(details: str) -> bool:
    """It could make nothing of our own files."""
    return _UNUSABLE in details


def cause_of(details: str, *, tls: bool) -> Cause:
    """Reads the details of an UNAVAILABLE; `tls`: the attempt was made with certificates."""
    if _NOT_TRUSTED in details:
        why = details.partition(_NOT_TRUSTED)[2].removesuffix(": OK").strip(": ")
        return Cause(
            f"its certificate is not trusted ({why})",
            "--tls-ca names the authority that the services' certificates come from",
        )
    if _NO_TLS in details:
        return Cause("it does not speak TLS", "without --tls-... it is reached in the clear")
    if _NO_GRPC in details:
        return Cause(
            "it does not speak gRPC",
            "is this the port of its metrics, or of another program?",
        )
    if _SILENT in details:
        return Cause(
            "it takes the connection and says nothing",
            "it hangs, or is another program",
        )
    if _OTHER_NAME in details:
        return Cause(
            "its certificate is for another address",
            "the address must be one of the certificate's subjectAltName",
        )
    if details.endswith(_CLOSED):
        return Cause(
            "it closes the connection",
            "it may not trust the certificate of --tls-cert"
            if tls
            else "if it is served with TLS, it takes --tls-ca, --tls-cert and --tls-key",
        )
    return Cause(details.rpartition(": ")[2])  # of a chain of gRPC's own layers
