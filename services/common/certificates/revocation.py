"""What authorities have taken back: lists (CRLs) that stand beside them in one file. Pure.

A list in the file of the authorities reaches all who trust them by the way of that file.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from services.common.errors import InvalidInput

_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----\s.*?-----END X509 CRL-----\s*", re.DOTALL)


class Revoked(NamedTuple):
    """A certificate: its authority numbers it."""

    issuer: bytes
    """Its name, DER."""
    serial: int


def revoked(ca: bytes) -> frozenset[Revoked]:
    """What may not be trusted any more, though an authority in the file has signed it.

    Raises:
        InvalidInput: A list cannot be read, or is by none of the authorities.
    """
    if b"BEGIN X509 CRL" not in ca:
        return frozenset()
    authorities = x509.load_pem_x509_certificates(ca)
    found: set[Revoked] = set()
    for block in _LIST.findall(ca):
        try:
            read = x509.load_pem_x509_crl(block)
        except ValueError as error:
            raise InvalidInput.at("tls.ca", f"a list of revoked certificates: {error}") from error
        keys = [one.public_key() for one in authorities if one.subject == read.issuer]
        if not any(_signed(read, key) for key in keys):
            raise InvalidInput.at(
                "tls.ca", "a list of revoked certificates is by none of the authorities"
            )
        by = read.issuer.public_bytes()
        found |= {Revoked(by, entry.serial_number) for entry in read}
    return frozenset(found)


def lists(ca: bytes) -> list[bytes]:
    return _LIST.findall(ca)


def issuer(block: bytes) -> bytes:
    """Whose list it is: the authority's name, DER."""
    return x509.load_pem_x509_crl(block).issuer.public_bytes()


def named(certificate: bytes) -> Revoked:
    """How a list names a certificate, PEM; raises ValueError."""
    read = x509.load_pem_x509_certificate(certificate)
    return Revoked(read.issuer.public_bytes(), read.serial_number)


def _signed(read: x509.CertificateRevocationList, key: object) -> bool:
    return read.is_signature_valid(cast("CertificateIssuerPublicKeyTypes", key))
