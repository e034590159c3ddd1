"""What cloud-init in a VM is told: network configuration of version 2, and a seed with it. Pure.

The guest has its addresses alone, and a default route by way of a gateway that is on its link
whatever the addresses say.
"""

from __future__ import annotations

from typing import Final

from romana.agent.v1 import endpoint_pb2

from services.ctl.views.output import Json, yaml_text

EVERYTHING: Final = {4: "0.0.0.0/0", 6: "::/0"}
USER_DATA: Final = "#cloud-config\n{}\n"


def network_config(endpoint: endpoint_pb2.Endpoint, mac: str) -> dict[str, Json]:
    """The document.

    Args:
        endpoint: The VM's; attached.
        mac: Which interface is meant; empty: whatever Ethernet there is.
    """
    version = {item.address: 6 if ":" in item.address else 4 for item in endpoint.addresses}
    gateways = {version[item.address]: item.gateway for item in endpoint.addresses}
    own: dict[str, Json] = {
        "match": {"macaddress": mac} if mac else {"name": "e*"},
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
        "addresses": [
            f"{item.address}/{32 if version[item.address] == 4 else 128}"
            for item in endpoint.addresses
        ],
        "routes": [
            {"to": EVERYTHING[family], "via": gateway, "on-link": True}
            for family, gateway in sorted(gateways.items())
        ],
    }
    if endpoint.mtu:
        own["mtu"] = endpoint.mtu
    dns: dict[str, Json] = {}
    if endpoint.nameservers:
        dns["addresses"] = [*endpoint.nameservers]
    if endpoint.search_domains:
        dns["search"] = [*endpoint.search_domains]
    if dns:
        own["nameservers"] = dns
    return {"version": 2, "ethernets": {"romana": own}}


def seed(
    endpoint: endpoint_pb2.Endpoint, mac: str, hostname: str, user_data: bytes
) -> dict[str, bytes]:
    """The files of a NoCloud seed. Another attach is another instance: cloud-init then looks
    anew at what it did once."""
    meta: dict[str, Json] = {
        "instance-id": f"{endpoint.name}-{endpoint.create_time.seconds}",
        "local-hostname": hostname or endpoint.name.replace("/", "-"),
    }
    return {
        "meta-data": yaml_text(meta).encode(),
        "network-config": yaml_text(network_config(endpoint, mac)).encode(),
        "user-data": user_data or USER_DATA.encode(),
    }
