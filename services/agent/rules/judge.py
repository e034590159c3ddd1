"""Who may speak to whom, by the rules that this node knows: for connections that stand. Pure.

A judge does not change: it is made when rules have changed, and asked in another thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.agent.rules.block_sets import Blocks, is_in_block
from services.agent.rules.page_sets import Pages, is_in_page
from services.common.model.judging import IsMember, judge
from services.common.model.names import EndpointName
from services.common.model.network import Address
from services.common.model.rules import (
    Action,
    Direction,
    Packet,
    Profile,
    RuleSet,
    RuleSetId,
)


def members_of(pages: Pages, blocks: Blocks) -> IsMember:
    """Says who is in a group, whichever kind it is of."""
    return lambda group, one: is_in_page(pages, group, one) or is_in_block(blocks, group, one)


@dataclass(frozen=True, slots=True)
class Opened:
    """An endpoint that has its rules."""

    name: EndpointName
    profile: Profile


@dataclass(frozen=True, slots=True)
class Judge:
    """What is needed to judge."""

    endpoints: Mapping[Address, Opened]
    """Of this node's endpoints that are open."""
    rule_sets: Mapping[RuleSetId, RuleSet]
    pages: Pages
    blocks: Blocks

    def denies(self, packet: Packet) -> bool:
        """Says whether the egress of its source or the ingress of its destination, as far as they
        are here, denies what begins with a packet; nothing denies what is of an endpoint with
        itself."""
        source, destination = (
            self.endpoints.get(one) for one in (packet.source, packet.destination)
        )
        if source is not None and destination is not None and source.name == destination.name:
            return False
        return self._is_denied(packet, Direction.EGRESS) or self._is_denied(
            packet, Direction.INGRESS
        )

    def _is_denied(self, packet: Packet, direction: Direction) -> bool:
        egress = direction is Direction.EGRESS
        opened = self.endpoints.get(packet.source if egress else packet.destination)
        if opened is None:
            return False
        sets = [self.rule_sets[one] for one in opened.profile.of(direction)]
        if not sets:
            return False
        return judge(sets, packet, members_of(self.pages, self.blocks)).action is Action.DENY
