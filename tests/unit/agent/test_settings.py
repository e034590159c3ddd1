"""What the agent's settings are made into."""

from __future__ import annotations

import ipaddress

from services.agent.settings import AgentSettings, AttachmentSettings, RuleSettings


def test_a_link_that_is_made_has_the_addresses_of_all_its_networks() -> None:
    attachments = tuple(
        AttachmentSettings(network=name, interface="e0.5", address=address, vlan_id=5, parent="e0")
        for name, address in (("four", "192.0.2.5/24"), ("six", "2001:db8::5/64"))
    )
    there = AttachmentSettings(network="other", interface="e1", address="198.51.100.5")
    made = AgentSettings(attachments=(*attachments, there)).made_addresses()
    own = frozenset(map(ipaddress.ip_interface, ("192.0.2.5/24", "2001:db8::5/64")))
    assert made == {"e0.5": own}


def test_services_are_fail_safe_where_the_settings_say_that_they_are() -> None:
    settings = AgentSettings(
        topology=("[2001:db8::1]:7610", "topology-2:7611"),
        ipam=("ipam-1:7620", "ipam-2:7621"),
        policy=("192.0.2.1:7630",),
        rules=RuleSettings(failsafe_inbound=("tcp/22",), failsafe_outbound=()),
    )
    services = {"tcp/7610", "tcp/7611", "tcp/7620", "tcp/7621", "tcp/7630"}
    made = settings.failsafe()
    assert set(map(str, made.inbound)) == {"tcp/22", *services}
    assert set(map(str, made.outbound)) == services
