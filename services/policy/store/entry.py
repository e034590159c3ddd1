"""A record of the store, as it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.etcd.types import Revision

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A record."""

    value: T
    revision: Revision
    """At which it was written."""
