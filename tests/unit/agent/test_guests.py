"""What dnsmasq is told, what it is to forget, and what is read from its complaints."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from services.agent.endpoints.spec import EndpointSpec, violations
from services.agent.guests import leases
from services.agent.guests.dnsmasq_config import render
from services.agent.guests.guest import Guest, Told, guest_of
from services.agent.model import EndpointAddress, LocalEndpoint
from services.common.model.names import EndpointName, NetworkName, Segment, Tenant
from services.common.model.network import Dns, Network

FOLDER = Path("/var/lib/romana/guests")
LEASES = """\
1795810928 72:16:67:f5:10:c3 10.1.0.6 * *
1795810928 46:1c:35:1a:b0:1a 10.1.0.5 web *
duid 00:01:00:01:32:9c:94:de:06:c6:5f:41:e8:eb
1795810934 1744113859 fd00:1::6 * 00:01:00:01:32:9c:94:e6:72:16:67:f5:10:c3
"""


def network(name: str, cidr: str, dns: Dns | None = None) -> Network:
    return Network(NetworkName(name), ip_network(cidr), 28, dns=dns)


def guest(number: int, *cidrs: str) -> Guest:
    told = tuple(Told(ip_network(cidr)[number], ip_network(cidr)) for cidr in cidrs)
    return Guest(f"tap{number}", told, 1400, (), ())


def lines(*guests: Guest) -> list[str]:
    return render(guests, FOLDER).splitlines()


def test_a_guest_is_told_the_first_address_of_each_family() -> None:
    networks = {
        one.name: one
        for one in (
            network("a", "10.1.0.0/24", Dns((ip_address("10.0.0.53"),), ("a.example",))),
            network("b", "10.2.0.0/24", Dns((ip_address("10.0.0.54"),), ())),
            network("c", "fd00:1::/64", Dns((ip_address("fd00::53"),), ("a.example", "c"))),
        )
    }
    addresses = [("10.1.0.5", "a"), ("10.2.0.5", "b"), ("fd00:1::5", "c"), ("10.9.0.5", "gone")]
    endpoint = LocalEndpoint(
        EndpointName("vm-1"),
        Tenant("t"),
        Segment(""),
        "tap1",
        tuple(EndpointAddress(ip_address(text), NetworkName(name)) for text, name in addresses),
        mtu=1450,
        dhcp=True,
    )
    made = guest_of(endpoint, networks)
    assert [str(told.address) for told in made.addresses] == ["10.1.0.5", "fd00:1::5"]
    assert [str(server) for server in made.nameservers] == ["10.0.0.53", "fd00::53"]
    assert made.search == ("a.example", "c")
    assert guest_of(endpoint, {}).addresses == ()


def test_each_interface_has_its_own_line_and_each_network_one_range() -> None:
    found = lines(guest(5, "10.1.0.0/24", "fd00:1::/64"), guest(6, "10.1.0.0/24"))
    assert [line for line in found if line.startswith("dhcp-host=")] == [
        "dhcp-host=tag:tap5,*:*:*:*:*:*,10.1.0.5,[fd00:1::5]",
        "dhcp-host=tag:tap6,*:*:*:*:*:*,10.1.0.6",
    ]
    assert [line for line in found if line.startswith("dhcp-range=")] == [
        "dhcp-range=fd72:6f6d::,static,off-link,64,1h",
        "dhcp-range=10.1.0.0,static,255.255.255.0,1h",
        "dhcp-range=fd00:1::,static,off-link,64,1h",
    ]
    assert [line for line in found if line.startswith("interface=")] == [
        "interface=tap5",
        "interface=tap6",
    ]
    assert [line for line in found if line.startswith("ra-param=")] == [
        "ra-param=tap5,mtu:1400,60,1800"
    ]


def test_of_a_large_network_as_much_is_said_as_dnsmasq_takes() -> None:
    found = lines(guest(5, "fd00:1::/48"))
    assert "dhcp-range=fd00:1::,static,off-link,64,1h" in found
    assert "shared-network=fd72:6f6d::1,fd00:1::" in found


def test_the_order_in_which_guests_came_says_nothing() -> None:
    first, second = guest(5, "10.1.0.0/24"), guest(6, "10.2.0.0/24")
    assert lines(first, second) == lines(second, first)


def test_a_guest_without_a_known_network_is_left_out() -> None:
    assert not [line for line in lines(guest(5)) if "tap5" in line]


def test_leases_of_others_and_forgotten_ones_go_and_the_servers_name_stays() -> None:
    wanted = [ip_address(text) for text in ("10.1.0.6", "10.1.0.5")]
    kept = leases.without(LEASES, wanted, [ip_address("10.1.0.5")])
    assert kept.splitlines() == [LEASES.splitlines()[0], LEASES.splitlines()[2]]


@pytest.mark.parametrize(
    ("line", "interfaces"),
    [
        ("dnsmasq-dhcp[36]: DHCPDISCOVER(tap1) 02:00:00:00:00:99 no address available", {"tap1"}),
        ("dnsmasq-dhcp[36]: DHCPADVERTISE(t.2) 00:01:00:01:32 no addresses available", {"t.2"}),
        ("dnsmasq-dhcp[36]: DHCPNAK(tap1) 10.1.0.5 02:00:00:00:00:99 address in use", {"tap1"}),
        (
            "dnsmasq-dhcp[36]: not using configured address 10.1.0.5 because it is leased to 4",
            set(),
        ),
        ("dnsmasq[36]: exiting on receipt of SIGTERM", set()),
    ],
)
def test_who_got_no_address_is_read_from_the_log(line: str, interfaces: set[str]) -> None:
    assert leases.refused(f"Nov 27 19:22:20 {line}\n") == interfaces


@pytest.mark.parametrize(
    ("namespace", "interface", "wrong"),
    [
        ("/run/netns/a", "eth0", True),
        ("", "tap,0", True),
        ("", "tap*", True),
        ("", "tap-0.1", False),
    ],
)
def test_dhcp_is_for_vms_with_plain_names(namespace: str, interface: str, *, wrong: bool) -> None:
    spec = EndpointSpec(
        EndpointName("vm"), Tenant("t"), Segment(""), interface, namespace, dhcp=True
    )
    assert ("spec.dhcp" in {each.path for each in violations(spec)}) is wrong
