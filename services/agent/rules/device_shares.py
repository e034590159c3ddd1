"""Which device a new connection goes through: its share of all connections. Pure.

Rendezvous hashing: every device draws a number for every share, and the greatest has it. So a
device that goes gives its own shares to the others, none of theirs moves, and one that comes back
gets its own again; and all nodes that see the same devices say the same. The weight enters as the
logarithm of a number between 0 and 1 divided by it (Schindelhauer and Schomaker, 2005).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from services.agent.kernel.nftables.table import SHARES
from services.agent.rules.device_legs import LegHere

_SPAN = 1 << 64


def shares(legs: Sequence[LegHere]) -> Sequence[LegHere]:
    """The leg that each share goes to; empty: no leg takes new connections."""
    taking = [leg for leg in legs if leg.is_up and not leg.is_draining and leg.weight]
    if not taking:
        return ()
    return [max(taking, key=lambda leg: _draw(leg, share)) for share in range(SHARES)]


def _draw(leg: LegHere, share: int) -> tuple[float, str]:
    digest = hashlib.blake2b(f"{leg.device}/{share}".encode(), digest_size=8).digest()
    drawn = (int.from_bytes(digest, "big") + 0.5) / _SPAN
    return -leg.weight / math.log(drawn), leg.device
