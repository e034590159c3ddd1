"""An authority of one's own: makes itself, and certificates for services, nodes and people.

A certificate says who by its role (`services.common.rpc.identity`) and where by names and addresses
of hosts, and is good for both ends of a connection: replicas and agents call and are called. Keys
are on the curve P-256. Pure: time is an argument, files are others' business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.common.errors import InvalidInput

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 365
_EARLIER: Final = timedelta(minutes=5)
"""A certificate is good a little before it is made: clocks of machines differ."""
_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
"""Labels of RFC 1123, and the underscore that some names of containers have."""
_LONGEST_HOST: Final = 253
_NAME_MOST: Final = 64
"""Characters of a common name (RFC 5280, ub-common-name)."""


@dataclass(frozen=True, slots=True)
class Pair:
    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Facts:
    name: str
    uris: tuple[str, ...]
    hosts: tuple[str, ...]
    """DNS names and addresses."""
    serial: int
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    uris: tuple[str, ...]
    hosts: tuple[str, ...] = ()


def new_authority(name: str, now: datetime, *, days: int = AUTHORITY_DAYS) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, key.public_key(), now, now + timedelta(days=days))
        .issuer_name(_common_name(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(Encoding.PEM), _key_bytes(key))


def issue(
    authority: Pair, subject: Subject, now: datetime, *, days: int = CERTIFICATE_DAYS
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    return Pair(_sign(authority, subject, key.public_key(), now, days), _key_bytes(key))


def sign(
    authority: Pair,
    request: bytes,
    subject: Subject,
    now: datetime,
    *,
    days: int = CERTIFICATE_DAYS,
) -> bytes:
    """A certificate for the key of a signing request, which proves that its maker has it.

    Who that is says `subject` alone: what a request asks for its maker may have made up.

    Raises:
        InvalidInput: The request is none, or was not signed by its key.
    """
    try:
        signing_request = x509.load_pem_x509_csr(request)
        proved = signing_request.is_signature_valid
        key = signing_request.public_key()
    except (ValueError, InvalidSignature) as error:
        raise InvalidInput.at("request", f"not a signing request in PEM: {error}") from error
    if not proved or not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInput.at("request", "not signed by its own key, on an elliptic curve")
    return _sign(authority, subject, key, now, days)


def signing_request(name: str) -> Pair:
    """A new key, and the request for a certificate of it in place of the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder(_common_name(name))
    return Pair(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), _key_bytes(key))


def list_of_revoked(authority: Pair, serials: Iterable[int], now: datetime) -> bytes:
    """What the authority takes back, in the form of a CRL, PEM (RFC 5280, section 5)."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update((now - _EARLIER).astimezone(UTC))
        .next_update(issuer.not_valid_after_utc)
    )
    for serial in sorted(serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    signer = _private_key(authority)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)


def is_key_of(key: bytes, certificate: bytes) -> bool:
    """Whether a private key is the certificate's, the first of a chain."""
    own = load_pem_private_key(key, None).public_key()
    return own == x509.load_pem_x509_certificates(certificate)[0].public_key()


def issued_by(certificate: bytes, authority: bytes) -> bool:
    try:
        x509.load_pem_x509_certificates(certificate)[0].verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority)
        )
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def split(bundle: bytes) -> list[bytes]:
    """The certificates of a file, each by itself; raises InvalidInput."""
    try:
        found = x509.load_pem_x509_certificates(bundle)
    except ValueError as error:
        raise InvalidInput.at("certificate", f"no certificate in PEM: {error}") from error
    return [one.public_bytes(Encoding.PEM) for one in found]


def facts(certificate: bytes) -> Facts:
    """Reads a certificate, the first of a chain; raises InvalidInput."""
    try:
        read = x509.load_pem_x509_certificates(certificate)[0]
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except ValueError as error:
        raise InvalidInput.at("certificate", f"not a certificate in PEM: {error}") from error
    common = read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Facts(
        str(common[0].value) if common else "",
        tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        (
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        ),
        read.serial_number,
        read.not_valid_before_utc,
        read.not_valid_after_utc,
    )


def _sign(
    authority: Pair, subject: Subject, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> bytes:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    signer = _private_key(authority)
    until = min(now + timedelta(days=days), issuer.not_valid_after_utc)
    names = [*map(x509.UniformResourceIdentifier, subject.uris), *map(_host, subject.hosts)]
    made = (
        _builder(subject.name, key, now, until)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return made.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)


def _private_key(pair: Pair) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """Ours are on a curve; an authority that was made elsewhere may have RSA."""
    key = load_pem_private_key(pair.key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidInput.at("key", "an authority's key is on an elliptic curve, or RSA")
    return key


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - _EARLIER).astimezone(UTC))
        .not_valid_after(until.astimezone(UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_NAME_MOST])])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        if len(text) > _LONGEST_HOST or not _HOST.fullmatch(text):
            raise InvalidInput.at(
                "host", f"{text[:80]!r} is neither an address nor the name of a host"
            ) from None
        return x509.DNSName(text)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
