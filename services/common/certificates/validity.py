"""How long a certificate is good, and the authority that it comes from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from services.common.errors import InvalidInput

OWN = "certificate"
AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Validity:
    not_before: datetime
    not_after: datetime


def validities(ca: bytes, chain: bytes) -> Mapping[str, Validity]:
    """Of `certificate` and of `authority`, if that is in `ca`; raises InvalidInput."""
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        authorities = x509.load_pem_x509_certificates(ca)
    except ValueError as error:
        raise InvalidInput.at("certificate", f"no certificate in PEM: {error}") from error
    found = {OWN: _validity(certificates[0])}
    issuer = next((one for one in authorities if _issued(certificates[-1], one)), None)
    if issuer is not None:
        found[AUTHORITY] = _validity(issuer)
    return found


def _validity(certificate: x509.Certificate) -> Validity:
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
