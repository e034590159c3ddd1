"""Whether a certificate and a key belong together. Pure."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from services.common.certificates.revocation import revoked
from services.common.errors import InvalidInput


def check_pair(ca: bytes, certificate: bytes, key: bytes) -> None:
    """Raises InvalidInput with the field, unless all can be read and the key is the certificate's.

    Args:
        ca: Certificates of authorities, PEM.
        certificate: One, followed by intermediate ones, PEM.
        key: A private key, PEM.
    """
    for field, content in (("ca", ca), ("certificate", certificate)):
        try:
            x509.load_pem_x509_certificates(content)
        except ValueError as error:
            raise InvalidInput.at(f"tls.{field}", f"no certificate in PEM: {error}") from error
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise InvalidInput.at("tls.key", f"no private key in PEM: {error}") from error
    revoked(ca)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    own = x509.load_pem_x509_certificates(certificate)[0].public_key()
    if own.public_bytes(*form) != private.public_key().public_bytes(*form):
        raise InvalidInput.at("tls.key", "is not the key of the certificate")
