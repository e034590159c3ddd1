"""Says what is wrong with a group of devices, on its own and beside what else there is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from services.common.errors import Violation
from services.common.model.devices import Arm, DeviceGroupName, Probe, ProbeKind, WhenDown
from services.common.model.names import NetworkName, resource_name
from services.common.model.network import Address
from services.common.model.rules import MAX_PORT, Action
from services.policy.model import (
    Device,
    DeviceAddress,
    DeviceArm,
    DeviceGroup,
    NodeSelector,
    PlacedArm,
    Policy,
    PolicyNetwork,
    Rule,
)

MAX_DEVICES: Final = 64
"""Of a group."""
MAX_WEIGHT: Final = 100
MAX_MACS: Final = 8
MAX_DESCRIPTION: Final = 1024
MAX_PATH: Final = 1024
MIN_INTERVAL: Final = 0.05
MAX_INTERVAL: Final = 60.0
MAX_THRESHOLD: Final = 100

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)


def check_device_group(group: DeviceGroup) -> Iterator[Violation]:
    """Everything that is wrong with a group on its own."""
    yield from _name(group.name, "name")
    if len(group.description) > MAX_DESCRIPTION:
        yield Violation("description", f"has more than {MAX_DESCRIPTION} characters")
    if not group.networks:
        yield Violation("networks", "is missing: devices are on the links of networks")
    for number, network in enumerate(group.networks):
        yield from resource_name(network, f"networks[{number}]")
        if network in group.networks[:number]:
            yield Violation(f"networks[{number}]", f"{network!r} is there twice")
    if not group.devices:
        yield Violation("devices", "is missing: a group has devices")
    if len(group.devices) > MAX_DEVICES:
        yield Violation("devices", f"has more than {MAX_DEVICES} devices")
        return
    yield from _devices(group)
    yield from _probe(group.probe)
    if not 0 <= group.threshold_percent <= 100:
        yield Violation("threshold_percent", f"{group.threshold_percent} is not between 0 and 100")
    if group.when_down is WhenDown.NEXT and group.next is None:
        yield Violation("next", "is missing: when_down is next")
    if group.when_down is not WhenDown.NEXT and group.next is not None:
        yield Violation("next", f"means nothing: when_down is {group.when_down}")


def check_device_references(
    group: DeviceGroup,
    networks: Mapping[NetworkName, PolicyNetwork],
    groups: Mapping[DeviceGroupName, DeviceGroup],
) -> Iterator[Violation]:
    """What is wrong with it beside the networks and the other groups."""
    for number, name in enumerate(group.networks):
        if name not in networks:
            yield Violation(f"networks[{number}]", f"there is no network {name[:80]!r}")
    taken = {
        (arm.network, arm.address): (other.name, device.name)
        for other in groups.values()
        if other.name != group.name
        for device in other.devices
        for one in device.addresses
        for arm in one.arms
    }
    for number, device in enumerate(group.devices):
        for place, one in enumerate(device.addresses):
            for arm in one.arms:
                at = f"{_arm_path(number, place, arm)}.address"
                network = networks.get(arm.network)
                if network is not None:
                    yield from _on_network(arm.address, network, at)
                elif arm.network != one.network:
                    yield Violation(
                        f"{_arm_path(number, place, arm)}.network",
                        f"there is no network {arm.network[:80]!r}",
                    )
                other = taken.get((arm.network, arm.address))
                if other is not None:
                    yield Violation(at, f"device {other[1]!r} of group {other[0]!r} has it")
    yield from _loop(group, groups)


def groups_of(policy: Policy) -> Iterator[tuple[str, DeviceGroupName, Rule]]:
    """Groups of devices that a policy's rules name, with the field and the rule."""
    for direction, rules in policy.rules.items():
        for number, rule in enumerate(rules):
            for field, group in (("via", rule.via), ("mirror", rule.mirror)):
                if group is not None:
                    yield f"{direction}[{number}].{field}", group, rule


def check_via(policy: Policy, groups: Mapping[DeviceGroupName, object]) -> Iterator[Violation]:
    """Groups of devices that a policy's rules name and that do not exist."""
    for at, group, _ in groups_of(policy):
        if group not in groups:
            yield Violation(at, f"there is no group of devices {group[:80]!r}")


def check_via_use(policy: Policy) -> Iterator[Violation]:
    """Rules that cannot lead through devices, or have copies made."""
    for at, group, rule in groups_of(policy):
        yield from _name(group, at)
        if rule.action is not Action.ALLOW:
            yield Violation(at, f"is for ALLOW: what is to {rule.action} goes nowhere")
        if any(isinstance(target, NodeSelector) for target in policy.targets):
            yield Violation(
                at, "is for endpoints: what nodes themselves send goes through no device"
            )


def _name(text: str, at: str) -> Iterator[Violation]:
    if not text:
        yield Violation(at, "is missing")
    elif not _NAME.fullmatch(text):
        yield Violation(
            at,
            f"{text[:80]!r} is not 1 to 63 of a-z, 0-9 and '-', with no '-' at the ends",
        )


def _devices(group: DeviceGroup) -> Iterator[Violation]:
    names: set[str] = set()
    addresses: set[tuple[str, object]] = set()
    for number, device in enumerate(group.devices):
        at = f"devices[{number}]"
        yield from _name(device.name, f"{at}.name")
        if device.name in names:
            yield Violation(f"{at}.name", f"there is another device {device.name!r}")
        names.add(device.name)
        if not 1 <= device.weight <= MAX_WEIGHT:
            yield Violation(f"{at}.weight", f"{device.weight} is not between 1 and {MAX_WEIGHT}")
        yield from _legs(group, device, at)
        for place, one in enumerate(device.addresses):
            for arm in one.arms:
                if (arm.network, arm.address) in addresses:
                    yield Violation(
                        f"{_arm_path(number, place, arm)}.address",
                        f"{arm.address} is there twice",
                    )
                addresses.add((arm.network, arm.address))


def _arm_path(device: int, place: int, arm: PlacedArm) -> str:
    outside = ".outside" if arm.arm is Arm.OUTSIDE else ""
    return f"devices[{device}].addresses[{place}]{outside}"


def _legs(group: DeviceGroup, device: Device, at: str) -> Iterator[Violation]:
    seen: set[NetworkName] = set()
    for place, one in enumerate(device.addresses):
        where = f"{at}.addresses[{place}]"
        if one.network not in group.networks:
            yield Violation(
                f"{where}.network", f"{one.network[:80]!r} is none of the group's networks"
            )
        elif one.network in seen:
            yield Violation(
                f"{where}.network",
                f"there is another address on {one.network!r}: a device has one there, and its "
                "second arm is said in `outside`",
            )
        seen.add(one.network)
        yield from _macs(one.macs, f"{where}.macs")
        if one.outside is not None:
            yield from _outside(one, one.outside, f"{where}.outside")
    for network in group.networks:
        if network not in seen:
            yield Violation(f"{at}.addresses", f"has none on network {network[:80]!r}")


def _outside(one: DeviceAddress, outside: DeviceArm, at: str) -> Iterator[Violation]:
    if outside.network is not None:
        yield from resource_name(outside.network, f"{at}.network")
    if outside.address.version != one.address.version:
        yield Violation(f"{at}.address", f"is of another family than inside: {one.address}")
    yield from _macs(outside.macs, f"{at}.macs")


def _macs(macs: Sequence[str], at: str) -> Iterator[Violation]:
    if len(macs) > MAX_MACS:
        yield Violation(at, f"has more than {MAX_MACS} addresses")
    for number, mac in enumerate(macs):
        if not _MAC.fullmatch(mac):
            yield Violation(f"{at}[{number}]", f"{mac[:80]!r} is not a MAC address")


def _on_network(address: Address, network: PolicyNetwork, at: str) -> Iterator[Violation]:
    if address.version != network.cidr.version:
        yield Violation(at, f"is of another family than network {network.name!r}")
    elif network.is_onlink and address not in network.cidr:
        yield Violation(at, f"{address} is outside of network {network.name!r}: {network.cidr}")
    elif not network.is_onlink and address in network.cidr:
        yield Violation(
            at,
            f"{address} is inside {network.cidr}, whose addresses are behind nodes: a device's "
            "is on the link",
        )
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        yield Violation(at, f"{address} is no machine's")


def _probe(probe: Probe) -> Iterator[Violation]:
    if probe.kind in {ProbeKind.TCP, ProbeKind.HTTP}:
        if not 1 <= probe.port <= MAX_PORT:
            yield Violation("probe.port", f"{probe.port} is not a port: 1 to {MAX_PORT}")
    elif probe.port:
        yield Violation("probe.port", f"{probe.kind} has no ports")
    if not probe.path.startswith("/") or len(probe.path) > MAX_PATH or not probe.path.isprintable():
        yield Violation("probe.path", f"is not a path of at most {MAX_PATH} characters")
    elif probe.path != "/" and probe.kind is not ProbeKind.HTTP:
        yield Violation("probe.path", f"{probe.kind} has no paths")
    if not MIN_INTERVAL <= probe.interval <= MAX_INTERVAL:
        yield Violation(
            "probe.interval", f"{probe.interval} s is not between {MIN_INTERVAL} and {MAX_INTERVAL}"
        )
    if not 1 <= probe.threshold <= MAX_THRESHOLD:
        yield Violation(
            "probe.threshold", f"{probe.threshold} is not between 1 and {MAX_THRESHOLD}"
        )
    if probe.quorum < 0:
        yield Violation("probe.quorum", f"{probe.quorum} is not a number of nodes")


def _loop(group: DeviceGroup, groups: Mapping[DeviceGroupName, DeviceGroup]) -> Iterator[Violation]:
    """What comes next must exist, and must not come back to where it began."""
    if group.next is None:
        return
    if group.next not in groups and group.next != group.name:
        yield Violation("next", f"there is no group of devices {group.next[:80]!r}")
        return
    way = [group.name]
    following: DeviceGroupName | None = group.next
    while following is not None:
        if following in way:
            yield Violation("next", f"comes back: {' to '.join([*way, following])}")
            return
        way.append(following)
        other = groups.get(following)
        following = None if other is None else other.next
