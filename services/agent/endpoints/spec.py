"""What a caller asks an endpoint to be, and how far the agent has come with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_network
from typing import Final

from services.agent.kernel.endpoint_names import is_host_interface
from services.agent.kernel.wiring import DefaultRoute, Wiring
from services.agent.model import AddressWant, EndpointAddress, LocalEndpoint
from services.common.errors import Violation
from services.common.model import names
from services.common.model.addresses import read_prefix
from services.common.model.names import EndpointName, Segment, Tenant
from services.common.model.network import Prefix

DEFAULT_INTERFACE = "eth0"
MTU_LEAST = 68
"""Bytes: RFC 791's minimum, and the least that the kernel gives a veth."""
MTU_MOST = 65535
ADDRESSES_MOST = 16
"""As in ipam."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]+")
"""What may stand in dnsmasq's configuration and means itself."""
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """What a caller asks for."""

    name: EndpointName
    tenant: Tenant
    segment: Segment
    interface: str
    """Inside the namespace; without one, the interface that is there already."""
    namespace: str = ""
    """Path; empty: the target is an interface of the node (a VM's tap)."""
    addresses: tuple[AddressWant, ...] = ()
    """Empty: one of any network."""
    mtu: int = 0
    """Bytes; 0: that of the network, else of the attachment."""
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    """Who asked: `cni/NETWORK` for the CNI plug-in with the configuration of that name."""
    container: str = ""
    """Which of a pod's sandboxes it is in, one after the other; empty: it is not a pod's."""
    allocation: str = ""
    """Name of its addresses in ipam; empty: the endpoint's."""
    labels_follow: bool = False
    """An orchestrator says its labels: it is closed until that is known."""
    default_route: DefaultRoute = DefaultRoute.AUTO
    routes: tuple[str, ...] = ()
    """Prefixes that its namespace reaches by it besides."""
    mac: str = ""
    """Inside the namespace; empty: it follows from the name."""
    dhcp: bool = False
    """Of a VM: its guest is told by DHCP and router advertisements who it is."""

    @property
    def allocation_name(self) -> str:
        """The name under which ipam has its addresses."""
        return self.allocation or self.name


class Stage(StrEnum):
    """How far it has come. Names, links and addresses follow from the endpoint's name, so what
    lies between begun and done needs no record to be found again."""

    BEGUN = "begun"
    """Being attached: whatever there is of it is undone after a crash."""
    ATTACHED = "attached"
    DETACHING = "detaching"
    """The link is gone or going; the addresses are given back as soon as ipam is there."""


@dataclass(frozen=True, slots=True)
class Record:
    """One endpoint in the journal."""

    spec: EndpointSpec
    stage: Stage
    endpoint: LocalEndpoint | None = None
    """When attached, or on its way to be detached."""


def read_mac(text: str) -> str:
    """A machine's MAC address, however it is spelled; raises ValueError."""
    digits = text.lower().replace("-", ":")
    if not _MAC.fullmatch(digits) or int(digits[:2], 16) & 1 or not digits.strip("0:"):
        raise ValueError(f"{text[:80]!r} is not the MAC address of a machine")
    return digits


def read_route(text: str) -> Prefix:
    """A prefix that a namespace reaches by an interface besides; raises ValueError."""
    prefix = read_prefix(text)
    if not prefix.prefixlen:
        raise ValueError(f"{prefix} is what the default route is about")
    return prefix


def unreachable_routes(
    spec: EndpointSpec, addresses: Sequence[EndpointAddress]
) -> Iterator[Violation]:
    """Checks routes, when it is known which addresses there are."""
    families = {item.address.version for item in addresses}
    for index, text in enumerate(spec.routes):
        version = ip_network(text).version
        if version not in families:
            yield Violation(
                f"spec.routes[{index}]", f"{text} needs an IPv{version} address, and there is none"
            )


def unusable_interface(spec: EndpointSpec, ways: Collection[str]) -> Iterator[Violation]:
    """Checks the interface of a VM, when it is known by which interfaces the node is on networks:
    made an endpoint's, one of those would answer for everybody on its link."""
    if not spec.namespace and spec.interface in ways:
        yield Violation(
            "spec.target.interface.interface",
            f"{spec.interface!r} is the node's own interface to a network, not a VM's",
        )


def local_endpoint(
    spec: EndpointSpec,
    addresses: tuple[EndpointAddress, ...],
    *,
    host_interface: str,
    mac: str,
    mtu: int,
    create_time: int,
    instance: str,
    beside: bool = False,
    moves: bool = False,
) -> LocalEndpoint:
    """The endpoint that became of a specification."""
    return LocalEndpoint(
        name=spec.name,
        tenant=spec.tenant,
        segment=spec.segment,
        host_interface=host_interface,
        addresses=addresses,
        mac=mac,
        mtu=mtu,
        namespace=spec.namespace,
        interface=spec.interface if spec.namespace else "",
        labels=spec.labels,
        create_time=create_time,
        instance=instance,
        labels_follow=spec.labels_follow,
        beside=beside,
        moves=moves,
        allocation=spec.allocation,
        default_route=spec.default_route,
        routes=spec.routes,
        dhcp=spec.dhcp,
    )


def unknown(name: EndpointName) -> EndpointSpec:
    """Stands for an endpoint that there is no record of."""
    return EndpointSpec(name, Tenant(""), Segment(""), "")


def violations(spec: EndpointSpec) -> Iterator[Violation]:
    """Checks what can be checked without looking."""
    yield from names.endpoint_name(spec.name, "spec.name")
    yield from names.subject_name(spec.tenant, "spec.tenant")
    yield from names.subject_name(spec.segment, "spec.segment", optional=True)
    yield from names.labels(spec.labels, "spec.labels")
    if spec.namespace:
        if not spec.namespace.startswith("/"):
            yield Violation(
                "spec.target.namespace.path", f"{spec.namespace[:80]!r} is no absolute path"
            )
        yield from _interface(spec.interface, "spec.target.namespace.interface")
    else:
        yield from _interface(spec.interface, "spec.target.interface.interface")
        if spec.interface == "lo" or is_host_interface(spec.interface):
            yield Violation("spec.target.interface.interface", f"{spec.interface!r} is no VM's")
    if spec.dhcp and spec.namespace:
        yield Violation("spec.dhcp", "is for a VM: a container's addresses are put into it")
    if spec.dhcp and not spec.namespace and not _PLAIN.fullmatch(spec.interface):
        yield Violation(
            "spec.dhcp", f"needs an interface of letters, digits and '._-', not {spec.interface!r}"
        )
    if spec.mtu and not MTU_LEAST <= spec.mtu <= MTU_MOST:
        yield Violation("spec.mtu", f"{spec.mtu} is not between {MTU_LEAST} and {MTU_MOST} bytes")
    if len(spec.addresses) > ADDRESSES_MOST:
        yield Violation(
            "spec.addresses", f"has {len(spec.addresses)}, at most {ADDRESSES_MOST} are allowed"
        )


def _interface(text: str, path: str) -> Iterator[Violation]:
    """The kernel counts bytes, the common check characters."""
    yield from names.interface_name(text, path)
    if len(text) <= 15 < len(text.encode()):
        yield Violation(path, f"{text!r} has {len(text.encode())} bytes, at most 15 are allowed")


def wiring(endpoint: LocalEndpoint) -> Wiring:
    """The link that a container's endpoint shall have."""
    return Wiring(
        name=endpoint.name,
        host_interface=endpoint.host_interface,
        namespace=endpoint.namespace,
        interface=endpoint.interface,
        mac=endpoint.mac,
        mtu=endpoint.mtu,
        addresses=tuple(item.address for item in endpoint.addresses),
        default_route=endpoint.default_route,
        routes=tuple(ip_network(text) for text in endpoint.routes),
        dhcp=endpoint.dhcp,
    )
