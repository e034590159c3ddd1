"""Nodes."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from services.common.model.network import Address
from services.kubernetes.objects.metadata import PREFIX, Metadata, ours

INTERNAL: Final = "InternalIP"
GROUP_LABEL: Final = f"{PREFIX}group"
"""Which of our groups a node is in, for constraints of pods: it comes from topology, so topology is
not told of it."""
NOT_READY_TAINT: Final = "node.romana.io/agent-not-ready"
"""Keeps pods from a node until its agent has been heard of."""


class _NodeAddress(msgspec.Struct, frozen=True):
    type: str = ""
    address: str = ""


class _Taint(msgspec.Struct, frozen=True):
    key: str = ""


class _Spec(msgspec.Struct, frozen=True):
    taints: tuple[_Taint, ...] | None = None


class _Status(msgspec.Struct, frozen=True):
    addresses: tuple[_NodeAddress, ...] | None = None


class NodeObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a node."""

    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """Ours, without the prefix."""
    addresses: tuple[Address, ...]
    """Internal ones, in the node's order; several families or none."""
    agent_taint: int | None = None
    """Which of its taints keeps pods away until its agent is ready; None: none does."""

    @property
    def key(self) -> str:
        """Its name."""
        return self.name


def node_of(item: NodeObject) -> Node:
    """Takes what is needed."""
    metadata = item.metadata
    return Node(
        name=metadata.name,
        uid=metadata.uid,
        labels=metadata.labels or {},
        annotations=ours(metadata.annotations),
        addresses=tuple(
            ipaddress.ip_address(one.address)
            for one in item.status.addresses or ()
            if one.type == INTERNAL and _is_address(one.address)
        ),
        agent_taint=next(
            (
                place
                for place, taint in enumerate(item.spec.taints or ())
                if taint.key == NOT_READY_TAINT
            ),
            None,
        ),
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
