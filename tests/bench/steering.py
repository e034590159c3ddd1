"""Rules that lead through devices: what they cost packets that are not led.

From one endpoint to another of the same node, the shortest way that there is, and so the one where
a rule weighs most. What an empty chain costs there is the least that any rule can cost.
"""

from __future__ import annotations

import ipaddress
import statistics
from collections.abc import Iterator
from enum import StrEnum

from services.agent.kernel.nftables.driver import Nft
from services.agent.kernel.nftables.table import Found
from services.agent.kernel.nftables.table_diff import diff
from services.agent.rules.device_legs import Around
from services.agent.rules.resources import NetworkRules, Resource
from services.common.model.devices import DeviceGroupName, DeviceName, DeviceRules, Leg
from services.common.model.names import EndpointName, NetworkName
from services.common.model.network import Address
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    EndpointRules,
    GroupId,
    Mode,
    PolicyName,
    Profile,
    RuleSet,
    RuleSetId,
    Tier,
)
from tests.bench.policy_kernel import B, Path, World, page
from tests.bench.report import Row
from tests.support.netns import Namespaces, missing

TITLE = "through devices"
RATE_AIM = 0.95
NETWORK, GROUP = NetworkName("production"), DeviceGroupName("firewalls")
CIDR = ipaddress.ip_network("10.0.0.0/8")
EMPTY = """
table inet bench {
  chain nothing {
    type filter hook prerouting priority -90
  }
}
"""
FIRST_PAGE = 2_000
"""Of the led peers: no other group has them."""


def lead(world: World, pairs: int, *, here: bool) -> None:
    """Adds a rule that leads so many pairs through firewalls: peers of `b`, or of an endpoint that
    packets from a to b do not concern."""
    devices: tuple[Address, ...] = tuple(
        ipaddress.ip_address(f"10.99.1.{number}") for number in (1, 2, 3)
    )
    macs = {
        (NETWORK, each): f"02:00:00:00:01:{number:02x}" for number, each in enumerate(devices, 1)
    }
    rules = RuleSet(
        RuleSetId("via"),
        PolicyName("via"),
        Direction.INGRESS,
        Tier.ADMIN,
        10,
        Mode.ENFORCE,
        (CompiledRule(0, Action.ALLOW, groups=(GroupId("led"),), via=GROUP),),
    )
    legs = tuple(
        Leg(number, DeviceName(f"fw-{number}"), NETWORK, each)
        for number, each in enumerate(devices, 1)
    )
    updated: dict[str, Resource] = dict(
        page("led", FIRST_PAGE + number) for number in range(-(-pairs // 64))
    )
    updated["rules/via"] = rules
    updated["network/production"] = NetworkRules(NETWORK, CIDR)
    updated["device/firewalls"] = DeviceRules(GROUP, legs)
    name, address = ("b", B) if here else ("e0", ipaddress.ip_address("10.1.0.0"))
    real = RuleSetId("real-ingress"), RuleSetId("real-egress")
    profile = Profile((rules.id, real[0]), (real[1],))
    updated[f"endpoint/{name}"] = EndpointRules(EndpointName(name), (address,), profile)
    world.composer.set_around(Around({NETWORK: "uplink"}, macs))
    world.composer.update(updated, ())


class Kind(StrEnum):
    """What packets meet beside the rules that all of them meet."""

    NOTHING = "without such rules"
    EMPTY = "an empty chain at the same hook"
    OTHERS = "led pairs of another endpoint"
    OWN = "led pairs of the endpoint that they are for"


def packets(made: Namespaces, pairs: int, rounds: int, seconds: float) -> Iterator[Row]:
    """Packets from a to b, which nothing leads, in turns."""
    path = Path(made)
    nft = path.node.call(Nft)
    images = {}
    for kind in Kind:
        world = World(10, 10, 20, 640)
        if kind in {Kind.OTHERS, Kind.OWN}:
            lead(world, pairs, here=kind is Kind.OWN)
        world.composer.refresh()
        images[kind] = diff(world.composer.image(), Found())
    found: dict[Kind, list[float]] = {kind: [] for kind in Kind}
    for _ in range(rounds):
        for kind, image in images.items():
            nft.apply(image)
            if kind is Kind.EMPTY:
                path.node.run("nft -f -", stdin=EMPTY)
            found[kind].append(path.small_packets(seconds, answered=True))
            nft.remove()
            if kind is Kind.EMPTY:
                path.node.run("nft delete table inet bench")
    nft.close()
    bare = statistics.median(found[Kind.NOTHING])
    for kind in (Kind.EMPTY, Kind.OTHERS, Kind.OWN):
        rate = statistics.median(found[kind])
        judged = kind is not Kind.EMPTY
        yield Row(
            f"packets that are not led, beside {f'{pairs:,} ' if judged else ''}{kind}",
            f"{rate / 1e3:.1f} k per second of CPU",
            f"{Kind.NOTHING} {bare / 1e3:.1f} k per second of CPU",
            rate / bare,
            f">= {RATE_AIM}" if judged else "-",
            rate >= RATE_AIM * bare if judged else None,
        )


async def measure(*, quick: bool) -> list[Row]:
    lack = missing()
    if lack:
        return [Row("steering", f"needs {lack}")]
    pairs, rounds, seconds = (640, 2, 0.2) if quick else (10_000, 9, 1.0)
    with Namespaces() as made:
        return [*packets(made, pairs, rounds, seconds)]
