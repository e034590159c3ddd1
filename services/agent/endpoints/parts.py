"""What attaching and detaching work with on one node."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.agent.endpoints.addressing import Addressing
from services.agent.endpoints.ownership import Ownership
from services.agent.endpoints.records import Records
from services.agent.endpoints.standing import Standing
from services.agent.endpoints.view import Guard
from services.agent.kernel.veth import EndpointLinks
from services.agent.routing.reconcile import Reconciler
from services.common.model.names import EndpointName


@dataclass(frozen=True, slots=True)
class Parts:
    """Built once, by `services.agent.wiring.endpoints`."""

    records: Records
    """Where it is written down."""
    links: EndpointLinks
    addressing: Addressing
    reconciler: Reconciler
    """Puts routes into the kernel."""
    standing: Standing
    """How attached endpoints stand."""
    ownership: Ownership
    """What ipam has for them."""
    guard: Guard | None = None
    """Keeps endpoints closed until their rules are in force; None: there is no policy."""
    keeps: Callable[[EndpointName], bool] = lambda _: False
    """Whose addresses are kept when it is detached, for the next time."""
    passed: Callable[[str], None] = lambda _: None
    """Is told what every step has reached; tests end the process there."""
    now: Callable[[], float] = time.time
    draw: Callable[[], str] = lambda: secrets.token_hex(8)
    unfinished: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something is left for `services.agent.endpoints.recovery`."""
    moving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when `services.agent.endpoints.moving` shall look."""
    doubtful: set[EndpointName] = field(default_factory=set)
    """Attached endpoints that `services.agent.endpoints.upkeep` shall look at."""
