"""Settings of the agent, from `ROMANA_AGENT__...`."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator, model_validator

from services.agent.kernel.state import InterfaceAddress
from services.agent.rules.render_rules import Logging
from services.common.model import names
from services.common.model.addresses import read_address, read_interface
from services.common.model.failsafe import Failsafe, Port, parse_ports
from services.common.model.names import NetworkName, NodeName
from services.common.model.node import Attachment
from services.common.model.rules import Protocol
from services.common.process.settings import (
    Addresses,
    Listed,
    MetricsSettings,
    Section,
    ServiceSettings,
    TlsSettings,
)
from services.common.socket_address import TcpAddress, parse_address

INBOUND: Final = ("tcp/22", "udp/68", "tcp/2379", "tcp/2380")
"""ssh, DHCP's answers, etcd."""
OUTBOUND: Final = ("udp/53", "tcp/53", "udp/67", "tcp/2379", "tcp/2380")
"""DNS, DHCP, etcd."""


class AttachmentSettings(Section):
    """An interface of this node on a network."""

    network: str
    interface: str
    """Existing, or to be made when `parent` is set."""
    address: str = ""
    """`address` or `address/length`; empty: read from the interface. A length is needed where the
    agent makes the interface."""
    vlan_id: int = Field(0, ge=0, le=4094)
    parent: str = ""
    """Makes `interface` as a VLAN link with `vlan_id` on this one."""

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value:
            read_interface(value)
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> AttachmentSettings:
        for field in ("interface", "parent"):
            name = getattr(self, field)
            if field == "interface" or name:
                for violation in names.interface_name(name, field):
                    raise ValueError(f"{violation.path} {violation.message}")
        if self.parent and not self.vlan_id:
            raise ValueError("parent needs a vlan_id")
        if self.parent and self.address and "/" not in self.address:
            raise ValueError("the address of an interface that is made needs a length: a.b.c.d/24")
        return self

    def attachment(self) -> Attachment:
        """As the model has it."""
        return Attachment(
            NetworkName(self.network),
            self.interface,
            read_interface(self.address).ip if self.address else None,
            self.vlan_id,
            self.parent,
        )


class RuleSettings(Section):
    """How policies are enforced."""

    failsafe_inbound: Listed = INBOUND
    """Ports of this node, such as tcp/22, that no policy on it closes; and those of services."""
    failsafe_outbound: Listed = OUTBOUND
    """Ports elsewhere that no policy on this node keeps it from; and those of services."""
    log_group: int | None = Field(None, ge=0, le=65535)
    """Group of nflog for packets that are denied; none: they are not logged."""
    log_rate: int = Field(10, ge=1, le=10_000)
    """Packets a second of each rule that are logged at most."""

    @field_validator("failsafe_inbound", "failsafe_outbound")
    @classmethod
    def _are_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_ports(value)
        return value

    def logging(self) -> Logging | None:
        return None if self.log_group is None else Logging(self.log_group, self.log_rate)


class AgentSettings(ServiceSettings, env_prefix="ROMANA_AGENT__"):
    """The agent of one node."""

    node: str = Field(default_factory=socket.gethostname)
    """This node's name."""
    address: str = ""
    """Its main address; empty: the one that topology is reached from, as long as it is there."""
    labels: dict[str, str] = Field(default_factory=dict)
    """What topology places the node by; empty: those that topology has stay."""
    attachments: tuple[AttachmentSettings, ...] = ()
    """Empty: those that topology has, else every network by way of the main address."""
    ipam: Addresses = ("127.0.0.1:9620",)
    """Replicas of ipam: host:port each."""
    policy: Addresses = ()
    """Replicas of policy: host:port each. None: nothing is enforced, and no table is made."""
    rules: RuleSettings = RuleSettings()
    topology: Addresses = Field(("127.0.0.1:9610",), min_length=1)
    """Replicas of topology: host:port each."""
    register_node: bool = True
    """Whether to register this node at topology."""
    tls: TlsSettings = TlsSettings()
    insecure: bool = False
    """Speak to other machines without TLS."""
    state_dir: Path = Path("/var/lib/romana")
    """Survives a restart of the machine."""
    socket: Path = Path("/run/romana/agent.sock")
    """Where the API is served."""
    cni_socket: Path = Path("/run/romana/cni.sock")
    """Where the CNI plugin asks."""
    full_check: float = Field(30.0, gt=0)
    """Seconds between comparisons of everything in the kernel."""
    quick_check: float = Field(5.0, gt=0)
    """The same of what is cheap to read (not routes and rules), and of endpoints' links."""
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9641")
    drain: float = Field(10.0, ge=0)
    """Seconds that running calls get at a stop."""

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value:
            read_address(value)
        return value

    @field_validator("node")
    @classmethod
    def _is_name(cls, value: str) -> str:
        for violation in names.subject_name(value, "node"):
            raise ValueError(violation.message)
        return value

    @property
    def name(self) -> NodeName:
        return NodeName(self.node)

    def declared(self) -> tuple[Attachment, ...]:
        """The attachments as the model has them."""
        return tuple(item.attachment() for item in self.attachments)

    def failsafe(self) -> Failsafe:
        """What no policy on this node cuts off: what the rules' settings say, and the services,
        without which no mistake could be mended, at the ports where this node knows them."""
        found = [parse_address(text) for text in (*self.topology, *self.ipam, *self.policy)]
        services = [
            Port(Protocol.TCP, address.port) for address in found if isinstance(address, TcpAddress)
        ]
        inbound, outbound = (
            tuple(sorted({*parse_ports(ports), *services}))
            for ports in (self.rules.failsafe_inbound, self.rules.failsafe_outbound)
        )
        return Failsafe(inbound, outbound)

    def made_addresses(self) -> Mapping[str, frozenset[InterfaceAddress]]:
        """Addresses of the links that the agent makes, by interface."""
        made: dict[str, frozenset[InterfaceAddress]] = {}
        for item in self.attachments:
            if item.parent and item.address:
                address = read_interface(item.address)
                made[item.interface] = made.get(item.interface, frozenset()) | {address}
        return made
