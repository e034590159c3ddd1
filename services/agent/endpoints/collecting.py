"""Detaches endpoints that their orchestrator is sure are no more, if their runtime has not.

Only what is said to be gone is detached, and nothing because it was not heard of.
"""

from __future__ import annotations

import structlog

from services.agent.endpoints.lifecycle import Endpoints
from services.agent.rules.wanted import WantedEndpoints
from services.common.errors import RomanaError

log = structlog.get_logger(__name__)


async def collect(endpoints: Endpoints, wanted: WantedEndpoints) -> None:
    """Does so for ever."""
    while True:
        for name in await wanted.gone():
            if name not in endpoints.records:
                continue
            try:
                released = await endpoints.detach(name)
            except RomanaError as error:
                log.warning("not_collected", endpoint=name, message=error.message)
            else:
                log.info("endpoint_collected", endpoint=name, released=released)
