"""The chains of `inet romana` that lead connections through devices. Pure.

A node leads through a device what rules of its own endpoints say, both directions, and needs no
other node for it: the device that a connection has is in the connection's mark. What the node sends
to a device comes back to it, or goes on to another node, and the answer comes to this node again,
by the device or not; not by it, it goes there first.

    steer (prerouting)     after connection tracking, and after destinations were translated
      from a device        by interface and MAC address: it goes on, and is not led anywhere again
      replies              of what is led: to the connection's device
      led until now        what comes back by another way than from the device goes on, too
      beginnings           egress rules of the endpoint that it comes from, then ingress rules of
                           the one that it is for, as in the hooks that decide; by the rule that
                           allows it, to a device or directly
    steer_guard            at the head of `forward`: what is marked for a device leaves for that
                           device, or not at all

Each packet of the direction in which a connection began is judged anew, so a change of rules holds
from the next packet on. The device stays that of the connection as long as it is up. A node that
sees packets come from a device which another node leads there learns it, and sends answers to it
without a detour.

Marks: `services.agent.kernel.marks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import Element, Shape
from services.agent.rules.device_chains import Devices
from services.agent.rules.device_legs import GroupHere
from services.agent.rules.render_device_groups import GroupRenderer
from services.agent.rules.render_device_legs import render_legs
from services.agent.rules.render_led_rules import render_led_rules
from services.agent.rules.render_steering import render_steering
from services.common.model.devices import DeviceGroupName
from services.common.model.rules import Profile, RuleSet, RuleSetId

DEVICE_SETS: Final[Mapping[str, Shape]] = {
    table_names.STEERED_FROM: Shape(Element.INTERFACE, is_map=True),
    table_names.STEERED_TO_4: Shape(Element.ADDRESS_4, is_map=True),
    table_names.STEERED_TO_6: Shape(Element.ADDRESS_6, is_map=True),
}
"""In which endpoints are that have rules by way of devices."""


def render_devices(
    groups: Mapping[DeviceGroupName, GroupHere],
    profiles: Iterable[Profile],
    sets: Mapping[RuleSetId, RuleSet],
) -> Devices:
    """All of it; nothing where no group is known and no rule names one."""
    made = Devices()
    leading, named = render_led_rules(made, profiles, sets)
    if leading or groups:
        interfaces = {arm.interface for group in groups.values() for arm in group.arms}
        render_steering(made.chains, interfaces, leading)
        GroupRenderer(made, groups).render(named)
        render_legs(made, groups.values())
    return made
