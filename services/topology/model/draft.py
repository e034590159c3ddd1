"""What somebody asked for, as it was written: nothing in it has been checked.

Requests and topology files both become drafts; `check` makes a `Spec` of them. Addresses are still
text, so that everything wrong with a draft can be said at once. Each part knows its field path in
what the caller sent, since a file of Romana 2 names its fields otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.common.model.network import Isolation, Mode, Placement


@dataclass(frozen=True, slots=True)
class NetworkDraft:
    """A network; the fields are those of the API."""

    at: str
    name: str = ""
    cidr: str = ""
    block_length: int = 0
    tenants: tuple[str, ...] = ()
    vlan_id: int = 0
    gateway: str = ""
    mtu: int = 0
    mode: Mode = Mode.ROUTED
    placement: Placement = Placement.AGGREGATE
    reuse_delay: float | None = None
    """Seconds; None: not said."""
    isolation: Isolation = Isolation.NONE
    masquerade: bool = False


@dataclass(frozen=True, slots=True)
class AttachmentDraft:
    """A node's interface and address on a network."""

    at: str
    network: str = ""
    interface: str = ""
    address: str = ""
    vlan_id: int = 0
    parent_interface: str = ""


class EmptyAttachments(StrEnum):
    """What it means that a node has no attachments."""

    NOT_SAID = ""
    EVERY_NETWORK = "every_network"
    NO_NETWORK = "no_network"


@dataclass(frozen=True, slots=True)
class AllowanceDraft:
    """What a node's own certificate may take."""

    at: str
    names: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    addresses: int = 0


@dataclass(frozen=True, slots=True)
class NodeDraft:
    """A node."""

    at: str
    name: str = ""
    address: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[AttachmentDraft, ...] = ()
    empty_attachments: EmptyAttachments = EmptyAttachments.NOT_SAID
    """What it means that there are none."""
    pins: Mapping[str, str] = field(default_factory=dict)
    allowance: AllowanceDraft | None = None
    """None: not said."""


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """A prefix group with those below it."""

    at: str
    name: str = ""
    assignment: Mapping[str, str] = field(default_factory=dict)
    routing: str = ""
    weight: int = 0
    prefixes: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[GroupDraft, ...] = ()
    nodes: tuple[NodeDraft, ...] = ()
    slots: int = 0
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class TopologyDraft:
    """A topology."""

    at: str
    name: str = ""
    networks: tuple[str, ...] = ()
    groups: tuple[GroupDraft, ...] = ()
    slots: int = 0


@dataclass(frozen=True, slots=True)
class SpecDraft:
    """All networks and topologies."""

    at: str = ""
    """Field path of the whole, empty for a file."""
    networks: tuple[NetworkDraft, ...] = ()
    topologies: tuple[TopologyDraft, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """The form's own names of fields, where they differ from the API's."""

    def field(self, at: str, name: str) -> str:
        """The field path of a field of the part at `at`."""
        name = self.names.get(name, name)
        return f"{at}.{name}" if at else name
