"""Certificates that our own authority makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.common.certificates import authority
from services.common.certificates.authority import Subject
from services.common.errors import InvalidInput

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NODE = Subject("n1", ("romana:node:n1",), ("n1.example", "192.0.2.1", "2001:db8::1"))


def test_a_certificate_says_whom_and_where_it_is_for() -> None:
    made = authority.issue(authority.new_authority("dc", NOW), NODE, NOW, days=7)
    facts = authority.facts(made.certificate)
    assert (facts.name, facts.uris, facts.hosts) == (NODE.name, NODE.uris, NODE.hosts)
    assert facts.not_after == NOW + timedelta(days=7)
    assert facts.not_before < NOW


def test_none_outlives_its_authority() -> None:
    ca = authority.new_authority("dc", NOW, days=2)
    made = authority.issue(ca, NODE, NOW, days=30)
    assert authority.facts(made.certificate).not_after == authority.facts(ca.certificate).not_after


def test_a_request_proves_its_key_and_chooses_no_name() -> None:
    ca = authority.new_authority("dc", NOW)
    request = authority.signing_request("operator")
    facts = authority.facts(authority.sign(ca, request.certificate, NODE, NOW))
    assert (facts.name, facts.uris) == ("n1", ("romana:node:n1",))


@pytest.mark.parametrize(
    "host", ["", "two words", "10.0.0.5:9610", "10.0.0.0/24", "https://a.example", "bücher.example"]
)
def test_what_is_neither_an_address_nor_a_hosts_name_is_in_no_certificate(host: str) -> None:
    ca = authority.new_authority("dc", NOW)
    with pytest.raises(InvalidInput, match="neither an address nor the name of a host"):
        authority.issue(ca, Subject("n1", ("romana:node:n1",), (host,)), NOW)


@pytest.mark.parametrize("host", ["*.dc.example", "romana_ipam_1", "a-b.c", "fe80::1"])
def test_names_of_hosts_are_taken(host: str) -> None:
    ca = authority.new_authority("dc", NOW)
    made = authority.issue(ca, Subject("n1", ("romana:node:n1",), (host,)), NOW)
    assert authority.facts(made.certificate).hosts == (host,)


@pytest.mark.parametrize("request_", [b"", b"-----BEGIN CERTIFICATE REQUEST-----", b"x" * 100])
def test_what_is_no_request_is_refused(request_: bytes) -> None:
    with pytest.raises(InvalidInput, match="signing request"):
        authority.sign(authority.new_authority("dc", NOW), request_, NODE, NOW)


def test_a_request_that_was_changed_is_refused() -> None:
    request = bytearray(authority.signing_request("n1").certificate)
    middle = len(request) // 2
    request[middle] = ord("A") if request[middle] != ord("A") else ord("B")
    with pytest.raises(InvalidInput):
        authority.sign(authority.new_authority("dc", NOW), bytes(request), NODE, NOW)
