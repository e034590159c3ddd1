"""Which device a new connection gets: the chains of the kernel and `explain` agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import Dispatch, Goto, Is, Key, Verdict
from services.agent.rules.device_chains import Devices
from services.agent.rules.device_legs import Around, groups_here
from services.agent.rules.render_device_groups import GroupRenderer
from services.agent.rules.render_device_legs import render_legs
from services.common.model.devices import (
    DeviceGroupName,
    DeviceName,
    DeviceRules,
    Leg,
    WhenDown,
)
from services.common.model.names import NetworkName
from services.common.model.rules import Direction
from services.policy.explain.steering import Outcome, taking
from services.policy.model import PolicyNetwork

GROUPS = [DeviceGroupName(name) for name in ("first", "second", "third")]
CIDRS = {
    NetworkName("a"): IPv4Network("10.1.0.0/16"),
    NetworkName("b"): IPv4Network("10.2.0.0/16"),
}
NETWORK = NetworkName("a")
ENDPOINT = int(ip_address("10.1.0.9"))


@st.composite
def _groups(draw: st.DrawFn) -> dict[DeviceGroupName, DeviceRules]:
    """Each may go on to a later one."""
    found: dict[DeviceGroupName, DeviceRules] = {}
    number = 0
    for place, name in enumerate(GROUPS):
        legs = []
        networks = draw(st.lists(st.sampled_from(sorted(CIDRS)), min_size=1, unique=True))
        for device in range(draw(st.integers(1, 2))):
            is_draining = draw(st.booleans())
            is_up = draw(st.booleans())
            for network in networks:
                number += 1
                address = ip_address(f"192.0.2.{number}")
                legs.append(
                    Leg(number, DeviceName(f"d{device}"), network, address,
                        is_up=is_up, is_draining=is_draining)
                )  # fmt: skip
        later = GROUPS[place + 1 :]
        ends = [WhenDown.OPEN, WhenDown.CLOSED]
        when = draw(st.sampled_from([*ends, *[WhenDown.NEXT] * 4] if later else ends))
        following = draw(st.sampled_from(later)) if when is WhenDown.NEXT else None
        found[name] = DeviceRules(
            name, tuple(legs), is_down=draw(st.booleans()), when_down=when, next=following
        )
    return found


def _rendered(groups: Mapping[DeviceGroupName, DeviceRules]) -> Devices:
    """By a node that is on all networks and knows all devices."""
    macs = {
        (leg.network, leg.address): f"02:00:00:00:00:{leg.number:02x}"
        for group in groups.values()
        for leg in group.legs
    }
    here = groups_here(groups.values(), CIDRS, Around({name: f"to-{name}" for name in CIDRS}, macs))
    made = Devices()
    GroupRenderer(made, here).render(GROUPS)
    render_legs(made, here.values())
    return made


def _outcome(made: Devices, chain: str) -> tuple[Outcome, Sequence[str]]:
    """What becomes of the first packet of a connection of the endpoint, and the chains of the
    devices that it may get."""
    if chain == table_names.UNSTEERED:
        return Outcome.OPEN, ()
    for rule in made.chains[chain].rules:
        for one in rule.statements:
            if isinstance(one, Is) and one.key is Key.SOURCE_4:
                mask = int.from_bytes(one.mask, "big")
                if ENDPOINT & mask != int.from_bytes(one.value, "big"):
                    break
            elif isinstance(one, Dispatch) and one.key is Key.SHARE_4 and made.elements[one.name]:
                return Outcome.STEERED, sorted(set(made.elements[one.name].values()))
            elif isinstance(one, Goto):
                return _outcome(made, one.chain)
            elif one is Verdict.DROP:
                return Outcome.CLOSED, ()
    raise AssertionError(f"{chain} says nothing of it")


@settings(max_examples=300, deadline=None)
@given(_groups())
def test_who_takes_a_new_connection_is_who_is_said_to(
    groups: dict[DeviceGroupName, DeviceRules],
) -> None:
    made = _rendered(groups)
    network = PolicyNetwork(NETWORK, ip_network(CIDRS[NETWORK]))
    for name in GROUPS:
        _, legs, said = taking(name, network, groups)
        entry = table_names.entry(name, Direction.EGRESS)
        outcome, devices = _outcome(made, entry)
        assert outcome is said
        if said is Outcome.STEERED:
            up = {one.number for one in legs if one.is_up and not one.is_draining}
            may_be = {table_names.pin_leg(number, Direction.EGRESS) for number in up}
            assert may_be.issuperset(devices)
            assert devices
