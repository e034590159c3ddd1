"""What the kernel's notifications say to look at, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from services.agent.kernel.state import Kind

ALL: Final = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Heard:
    """What the kernel's notifications say to look at."""

    kinds: frozenset[Kind] = frozenset()
    """Read these again."""
    down: frozenset[int] = field(default_factory=frozenset)
    """Indexes of interfaces that went down or away, with all routes by them."""
    endpoints: bool = False
    """Whether something is new of endpoints' interfaces, which we make and delete ourselves."""
