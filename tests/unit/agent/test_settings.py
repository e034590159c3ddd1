"""What the agent's settings are made into."""

from __future__ import annotations

import ipaddress

from services.agent.settings import AgentSettings, AttachmentSettings


def test_a_link_that_is_made_has_the_addresses_of_all_its_networks() -> None:
    attachments = tuple(
        AttachmentSettings(network=name, interface="e0.5", address=address, vlan_id=5, parent="e0")
        for name, address in (("four", "192.0.2.5/24"), ("six", "2001:db8::5/64"))
    )
    there = AttachmentSettings(network="other", interface="e1", address="198.51.100.5")
    made = AgentSettings(attachments=(*attachments, there)).made_addresses()
    own = frozenset(map(ipaddress.ip_interface, ("192.0.2.5/24", "2001:db8::5/64")))
    assert made == {"e0.5": own}
