"""Namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from services.kubernetes.objects.metadata import Metadata, ours

NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Servers since 1.21 set it; here every namespace has it."""


class NamespaceObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Namespace:
    """What is known of a namespace."""

    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """Ours, without the prefix."""

    @property
    def key(self) -> str:
        """Its name."""
        return self.name


def namespace_of(item: NamespaceObject) -> Namespace:
    """Takes what is needed."""
    metadata = item.metadata
    return Namespace(
        name=metadata.name,
        uid=metadata.uid,
        labels={**(metadata.labels or {}), NAME_LABEL: metadata.name},
        annotations=ours(metadata.annotations),
    )
