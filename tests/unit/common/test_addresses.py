from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from services.common.model.addresses import (
    looks_like_address,
    read_address,
    read_interface,
    read_prefix,
)


@pytest.mark.parametrize("text", ["10.9.0.1", "::", "fd00::77", "FD00:0:0::0077"])
def test_an_address_is_read(text: str) -> None:
    assert read_address(text) == ip_address(text)


@pytest.mark.parametrize("text", ["10.9.0.0/16", "0.0.0.0/0", "::/0", "fd00::/64", "10.0.0.1/32"])
def test_a_prefix_is_read(text: str) -> None:
    assert read_prefix(text) == ip_network(text)


@pytest.mark.parametrize("text", ["10.9.0.1/16", "fd00::1/64", "10.9.0.1", "fd00::1"])
def test_an_interfaces_address_is_read(text: str) -> None:
    assert read_interface(text) == ip_interface(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an IPv4 or IPv6 address"),
        ("10.9.0.256", "not an IPv4 or IPv6 address"),
        ("10.9.0.010", "not an IPv4 or IPv6 address"),
        ("10.9.0.1 ", "not an IPv4 or IPv6 address"),
        ("10.9.0.1/32", "not an IPv4 or IPv6 address"),
        ("fd00::77%eth0", "has a zone"),
        ("10.9.0.1%eth0", "has a zone"),
        ("::ffff:192.0.2.1", "write 192.0.2.1"),
        ("::FFFF:c000:201", "write 192.0.2.1"),
        ("0:0:0:0:0:ffff:c000:0201", "write 192.0.2.1"),
    ],
)
def test_other_spellings_of_addresses_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_address(text)
    if "/" not in text:
        with pytest.raises(ValueError, match=why):
            read_interface(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a CIDR"),
        ("10.9.0.0", "not a CIDR"),
        ("10.9.0.0/", "not a plain number"),
        ("10.9.0.0/016", "not a plain number"),
        ("10.9.0.0/+16", "not a plain number"),
        ("10.9.0.0/١٦", "not a plain number"),
        ("10.9.0.0/255.255.0.0", "not a plain number"),
        ("10.9.0.0/" + "9" * 5000, "not a plain number"),
        ("10.9.0.0/33", "address or length is wrong"),
        ("10.9.0.0/16/16", "not a plain number"),
        ("fd00::/129", "address or length is wrong"),
        ("10.9.0.1/16", "the network is 10.9.0.0/16"),
        ("fd00::%eth0/64", "has a zone"),
        ("::ffff:10.9.0.0/112", "write 10.9.0.0/16"),
        ("::ffff:0:0/96", r"write 0\.0\.0\.0/0"),
        ("::ffff:10.9.0.1/112", "write 10.9.0.0/16"),
    ],
)
def test_other_spellings_of_prefixes_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_prefix(text)


def test_a_wrong_text_is_not_repeated_for_ever() -> None:
    with pytest.raises(ValueError, match="not an") as caught:
        read_address("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_what_is_meant_as_an_address_is_told_from_a_name() -> None:
    assert all(map(looks_like_address, ["10.0.0.1", "fd00::1", "fd00::1%eth0", "::ffff:10.0.0.1"]))
    assert not any(map(looks_like_address, ["web-1", "ns:pod:eth0", "10.0.0", "a.b.c.d"]))
