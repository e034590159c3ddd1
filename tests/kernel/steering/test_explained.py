"""Random rules and devices: what `explain` says of connections is what captures show."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.kernel.steering.cluster_site import (
    DIRECT,
    ENDS,
    FIREWALLS,
    NODES,
    PORT,
    WAIT,
    Site,
    device,
    spoken,
    until,
)
from tests.kernel.steering.firewall import Flow

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


def _policy(chance: random.Random, field: str) -> dict[str, Any]:
    """Rules of one direction, of a tier that denies the rest or of one that does not."""
    direction = chance.choice(("ingress", "egress"))
    targets = ["ask"] if direction == "egress" else chance.sample(ENDS, chance.randint(1, 2))
    rules = []
    for port in chance.sample((PORT, DIRECT), chance.randint(1, 2)):
        rule: dict[str, Any] = {"ports": [{"protocol": "PROTOCOL_TCP", "port": port}]}
        if chance.random() < 0.7:
            rule[field] = "firewalls"
        rules.append(rule)
    return {
        "name": "through",
        "tier": chance.choice(("POLICY_TIER_TENANT", "POLICY_TIER_ADMIN")),
        "targets": [{"endpoints": {"labels": {"matchLabels": {"app": one}}}} for one in targets],
        direction: rules,
    }


@pytest.mark.parametrize("seed", range(6))
async def test_captures_show_what_is_explained(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    field = "mirror" if seed % 3 == 2 else "via"
    drained = set(chance.sample(FIREWALLS, chance.randint(0, 2)))
    devices = [{**device(name), "drain": name in drained} for name in FIREWALLS]
    await site.group(devices=devices)
    for one in site.firewalls:  # who gets copies hands nothing on
        one.run(f"sysctl -qw net.ipv4.ip_forward={int(field == 'via')}")
    try:
        policy = _policy(chance, field)
        labels = {"test": "devices"}
        await site.driver.call("ApplyPolicies", {"policies": [policy], "pruneLabels": labels})
        await site.realized()
        rules = [*policy.get("ingress", ()), *policy.get("egress", ())]
        if any("mirror" in rule for rule in rules):
            await until(lambda: _copies(site, policy))
        for target in ENDS:
            for port in (PORT, DIRECT):
                await _compare(site, target, port)
    finally:
        for one in site.firewalls:
            one.run("sysctl -qw net.ipv4.ip_forward=1")


async def _copies(site: Site, policy: Mapping[str, Any]) -> bool:
    """Whether the nodes of all endpoints that a policy is for can make copies: that is in another
    transaction than rules."""
    labels = [one["endpoints"]["labels"]["matchLabels"]["app"] for one in policy["targets"]]
    return all("romana_copies4" in site.tables(NODES[app]) for app in labels)


async def _compare(site: Site, target: str, port: int) -> None:
    ends = {"source": {"endpoint": "ask"}, "destination": {"endpoint": target}, "port": port}
    said = await site.driver.call("Explain", {"connection": ends})
    (explained,) = said["explanations"]
    allowed = explained["action"] == "RULE_ACTION_ALLOW"
    client, passes, talk = await spoken(site, target, port, seconds=WAIT if allowed else 1)
    assert passes is allowed
    told = [explained.get("steering"), *explained.get("mirrors", ())]
    takes = {name for one in told if one for name in _taking(one)} if passes else set()
    seen = {one.name: Counter[Flow]() for one in site.firewalls}

    async def arrived() -> bool:
        for one in site.firewalls:
            seen[one.name] += one.of(client)
        return not takes or talk in seen.values()

    await until(arrived)
    by = {name for name, flows in seen.items() if flows}
    assert len(by) == bool(takes)
    assert by <= takes
    assert not any(one.has_part(client) for one in site.firewalls)


def _taking(led: Mapping[str, Any]) -> list[str]:
    """Devices that may have it."""
    return [one["device"] for one in led["devices"] if one.get("up") and not one.get("drain")]
