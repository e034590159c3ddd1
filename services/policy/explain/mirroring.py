"""Says who gets copies of a connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.common.model.devices import DeviceGroupName, DeviceRules, Leg
from services.common.model.names import NetworkName, NodeName
from services.common.model.rules import Direction, PolicyName
from services.policy.explain.path import End, network_of
from services.policy.explain.verdict import Verdict
from services.policy.model import PolicyNetwork


@dataclass(frozen=True, slots=True)
class Mirroring:
    """What is said of a connection of which a rule has copies made."""

    policy: PolicyName
    direction: Direction
    rule: int
    group: DeviceGroupName
    devices: tuple[Leg, ...]
    """Of which one gets them, as long as it is up."""
    node: NodeName | None
    """That makes them."""
    description: str


def mirrors(
    source: End,
    destination: End,
    egress: Verdict | None,
    ingress: Verdict | None,
    networks: Mapping[NetworkName, PolicyNetwork],
    groups: Mapping[DeviceGroupName, DeviceRules],
) -> Iterator[Mirroring]:
    """Of a connection that passes: the source's, then the destination's."""
    for verdict, direction, own in (
        (egress, Direction.EGRESS, source),
        (ingress, Direction.INGRESS, destination),
    ):
        if verdict is None or verdict.mirror is None or verdict.policy is None or own.is_node:
            continue
        network = network_of(own.address, networks)
        group = groups.get(verdict.mirror)
        legs = tuple(
            leg
            for leg in (group.legs if group is not None else ())
            if network is not None and leg.network == network.name
        )
        up = [leg.device for leg in legs if leg.is_up and not leg.is_draining]
        who = f"one of {', '.join(up)}" if up else "nobody, since no device is up,"
        yield Mirroring(
            verdict.policy,
            direction,
            verdict.rule,
            verdict.mirror,
            legs,
            own.node,
            f"{who} of group {verdict.mirror} gets a copy, both directions",
        )
