"""RomanaNetwork: a network as Romana has it, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from services.kubernetes.objects.metadata import Metadata


class GroupUse(msgspec.Struct, frozen=True):
    """How full a prefix group is."""

    group: str
    prefix: str = ""
    used: int = 0
    free: int = 0
    nodes: int = 0


class NetworkSpec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What it is."""

    cidr: str
    topology: str = ""
    gateway: str = ""
    vlan_id: int = 0
    mode: str = ""
    tenants: tuple[str, ...] = ()


class NetworkUse(msgspec.Struct, frozen=True):
    """How full it is."""

    used: int = 0
    free: int = 0
    resting: int = 0
    reserved: int = 0
    groups: tuple[GroupUse, ...] = ()


class NetworkObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata
    spec: NetworkSpec = NetworkSpec("")
    status: NetworkUse = NetworkUse()


@dataclass(frozen=True, slots=True)
class NetworkResource:
    """What is kept of it, and what it shall be."""

    name: str
    spec: NetworkSpec
    use: NetworkUse

    @property
    def key(self) -> str:
        """Its name."""
        return self.name


def network_of(item: NetworkObject) -> NetworkResource:
    """Takes what is needed."""
    return NetworkResource(item.metadata.name, item.spec, item.status)
