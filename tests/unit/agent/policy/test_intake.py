"""What is told of an endpoint that is wanted, by a service that is newer than the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from romana.policy.v1 import sync_rules_pb2

from services.agent.rules.ending import Ending
from services.agent.rules.enforce import Enforcement
from services.agent.rules.firewall import Firewall
from services.agent.rules.intake import RuleSink
from services.agent.rules.wanted import WantedEndpoints
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName
from services.common.sync.model import Phase, Position, Response
from services.common.sync.receiver import Receiver

WANTED = "wanted/e"
READABLE = sync_rules_pb2.RuleResource(
    id=WANTED, wanted=sync_rules_pb2.WantedEndpoint(name="e", tenant="t")
).SerializeToString()
UNREADABLE = sync_rules_pb2.RuleResource(id=WANTED).SerializeToString()


@pytest.mark.parametrize("then", [{WANTED: READABLE}, {}])
async def test_what_was_not_understood_is_forgotten_with_it(then: Mapping[str, bytes]) -> None:
    firewall = Firewall()
    enforcement = Enforcement(firewall, Ending(firewall), Failsafe())
    wanted, receiver = WantedEndpoints(), Receiver[bytes]()
    sink = RuleSink(enforcement, wanted)

    async def tell(
        phase: Phase, updated: Mapping[str, bytes], removed: tuple[str, ...] = ()
    ) -> None:
        batch = receiver.receive(Response(1, Position("e", 1, 1), phase, updated, removed))
        assert batch is not None
        applying = asyncio.create_task(sink.apply(batch))
        await asyncio.sleep(0)  # it is taken in; there is no kernel that would hold it
        applying.cancel()

    await tell(Phase.SNAPSHOT_END, {WANTED: UNREADABLE})
    assert set(enforcement.unreadable) == {WANTED}
    await tell(Phase.DELTA, then, () if then else (WANTED,))
    assert not enforcement.unreadable
    assert (wanted.get(EndpointName("e")) is not None) is bool(then)
