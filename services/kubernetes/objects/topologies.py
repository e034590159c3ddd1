"""RomanaTopology: the topology file as an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from services.kubernetes.objects.conditions import Condition
from services.kubernetes.objects.metadata import Metadata, ours

THE_ONE: Final = "romana"
"""The name of the one that counts: there is one topology."""
ALLOW_STRANDED: Final = "allow-stranded"


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    conditions: tuple[Condition, ...] | None = None
    plan: tuple[str, ...] | None = None
    networks: int = 0
    observed_generation: int = 0


class TopologyObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: _Status = _Status()


@dataclass(frozen=True, slots=True)
class TopologyStatus:
    """What is said of it."""

    conditions: tuple[Condition, ...] = ()
    plan: tuple[str, ...] = ()
    networks: int = 0
    observed_generation: int = 0


@dataclass(frozen=True, slots=True)
class TopologyResource:
    """What is kept of it."""

    name: str
    uid: str
    generation: int
    spec: bytes
    """JSON of a topology file."""
    allow_stranded: bool
    status: TopologyStatus

    @property
    def key(self) -> str:
        """Its name."""
        return self.name


def topology_of(item: TopologyObject) -> TopologyResource:
    """Takes what is needed."""
    metadata, status = item.metadata, item.status
    return TopologyResource(
        metadata.name,
        metadata.uid,
        metadata.generation,
        bytes(item.spec),
        ours(metadata.annotations).get(ALLOW_STRANDED) == "true",
        TopologyStatus(
            status.conditions or (),
            status.plan or (),
            status.networks,
            status.observed_generation,
        ),
    )
