"""Plans a topology beside the event loop, by what was known at one moment.

A plan of thousands of nodes takes a while, in which everybody else's calls go on. Whoever carries
it out compares what it was made by.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from services.topology.forms.apply_request import ApplyRequest
from services.topology.layout.own_addresses import (
    AddressInUse,
    of_networks,
    of_nodes,
    refuse_in_use,
)
from services.topology.layout.plan import Plan
from services.topology.store.store import Known, TopologyStore


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and what it was made by."""

    plan: Plan
    known: Known


def plan_by(request: ApplyRequest, known: Known) -> Planned:
    """Plans at once; raises InvalidInput, WrongState, AddressInUse."""
    plan = request.plan(known.layout, known.nodes, known.usage, int(time.time()))
    refuse_in_use(of_networks(known.layout, plan.layout), known.usage)
    refuse_in_use(of_nodes(known.nodes, plan.nodes), known.usage)
    return Planned(plan, known)


async def plan_beside(request: ApplyRequest, store: TopologyStore) -> Planned:
    """Plans in a thread, by what is known now; raises besides Unavailable."""
    try:
        return await asyncio.to_thread(plan_by, request, store.known())
    except AddressInUse as error:
        raise await store.named(error) from None
