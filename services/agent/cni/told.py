"""What runtimes are told of an attachment, and whether it is so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Final

from services.agent.cni.asked import objects_of
from services.agent.cni.protocol import BAD_CONFIGURATION, CniError, Request
from services.agent.kernel import endpoint_names
from services.agent.model import LocalEndpoint
from services.common.model.network import Address, Network, joined

EVERYTHING: Final = {4: "0.0.0.0/0", 6: "::/0"}
GATEWAYS: Final = {4: "169.254.1.1", 6: "fe80::1"}


def result(request: Request, endpoint: LocalEndpoint) -> dict[str, object]:
    """What ADD prints."""
    families = sorted({item.address.version for item in endpoint.addresses})
    inside: dict[str, object] = {
        "name": endpoint.interface,
        "mac": endpoint.mac,
        "sandbox": request.namespace,
    }
    outside: dict[str, object] = {"name": endpoint.host_interface, "mac": endpoint_names.HOST_MAC}
    if request.version == "1.1.0":
        inside["mtu"] = outside["mtu"] = endpoint.mtu
    ips = []
    for address in _told(request, endpoint):
        entry: dict[str, object] = {
            "address": f"{address}/{address.max_prefixlen}",
            "gateway": GATEWAYS[address.version],
            "interface": 1,
        }
        if request.version.startswith("0."):
            entry["version"] = str(address.version)
        ips.append(entry)
    return {
        "cniVersion": request.version,
        "interfaces": [outside, inside],
        "ips": ips,
        "routes": [
            *(
                {"dst": EVERYTHING[family], "gw": GATEWAYS[family]}
                for family in families
                if not endpoint.beside  # the container has its default route by another interface
            ),
            *({"dst": text, "gw": GATEWAYS[ip_network(text).version]} for text in endpoint.routes),
        ],
        "dns": request.config.get("dns") or {},
    }


def dns(networks: Iterable[Network]) -> dict[str, list[str]]:
    """What networks say of resolvers, in their order."""
    said = joined(network.dns for network in networks)
    made = {"nameservers": [*map(str, said.nameservers)], "search": [*said.search]}
    return {name: items for name, items in made.items() if items}


def differences(request: Request, endpoint: LocalEndpoint) -> list[str]:
    """What a CHECK's prevResult says that is not so; raises CniError if there is none."""
    previous = request.config.get("prevResult")
    if not isinstance(previous, dict):
        raise CniError(BAD_CONFIGURATION, "CHECK needs prevResult")
    found = []
    inside = [item for item in objects_of(previous, "interfaces") if item.get("sandbox")]
    names = {str(item.get("name", "")) for item in inside}
    if names and endpoint.interface not in names:
        found.append(f"prevResult has no interface {endpoint.interface}")
    said = {str(item.get("address", "")).partition("/")[0] for item in objects_of(previous, "ips")}
    for address in _told(request, endpoint):
        if str(address) not in said:
            found.append(f"prevResult lacks {address}")  # noqa: PERF401
    return found


def _told(request: Request, endpoint: LocalEndpoint) -> Sequence[Address]:
    """The addresses that the runtime is told: a pod that has two of a family is not taken by
    Kubernetes, so it is told the first of each."""
    addresses = [item.address for item in endpoint.addresses]
    if request.pod is None:
        return addresses
    first: dict[int, Address] = {}
    for address in addresses:
        first.setdefault(address.version, address)
    return list(first.values())
