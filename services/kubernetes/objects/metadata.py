"""What objects of the API server have in common, as it is sent: only the fields that are needed.

`msgspec` skips everything else while it decodes, so that fifty thousand pods cost what is kept of
them and not what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

PREFIX: Final = "romana.io/"
"""Of our annotations and labels."""


class OwnerReference(msgspec.Struct, frozen=True):
    """Who made the object."""

    kind: str = ""
    name: str = ""
    controller: bool = False


class Metadata(msgspec.Struct, frozen=True):
    """`metadata`."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owners: tuple[OwnerReference, ...] | None = msgspec.field(name="ownerReferences", default=None)
    finalizers: tuple[str, ...] | None = None
    deletion_timestamp: str | None = msgspec.field(name="deletionTimestamp", default=None)

    @property
    def key(self) -> str:
        """NAMESPACE/NAME, or NAME of what has no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def controller(self) -> OwnerReference | None:
        """Who cares for the object."""
        return next((owner for owner in self.owners or () if owner.controller), None)


def ours(annotations: Mapping[str, str] | None) -> dict[str, str]:
    """Those that mean something here, without the prefix."""
    return {
        key.removeprefix(PREFIX): text
        for key, text in (annotations or {}).items()
        if key.startswith(PREFIX)
    }


def annotation_path(name: str) -> str:
    """The field path of one of our annotations."""
    return f"metadata.annotations[{PREFIX}{name}]"
