"""Names in the table `inet romana`.

    forward, input, ...     base chains, and what they share
    e-HASH, i-HASH          how an endpoint's egress or ingress is judged; shared where equal
    e-HASH-t, i-HASH-t      the part after ADMIN, where that has a PASS
    r-HASH                  a rule set
    d-HASH, a-HASH          the log of a rule that denies, or of one that is only audited
    g4-HASH, g6-HASH        an address group
    o4-HASH, o6-HASH        owners' blocks
    b4-HASH, b6-HASH        prefixes; p-HASH: ports
    c-HASH                  counter of a rule of a policy
    ve-HASH, vi-HASH        which device egress or ingress leads to; vr-HASH: of a rule set
    via-e-HASH, via-i-HASH  a group of devices
    via-, lost-e-HASH, ...  the same for one network; lost: for replies whose device is down
    pinned-, shares-e-HASH  maps of these
    from-, to-, guard-leg-N of a device's arm; pin-leg-N-e, -i: where connections begin
    leg-N                   counter of a device
    led-HASH                a rule that leads through devices, and its counter
    me-HASH, mi-HASH        who gets copies by egress or ingress rules; mr-HASH: of a rule set
    be-, bi-, br-HASH       the same of answers
    copy-e-HASH, ...        a group of devices that gets them; copies-HASH: map of its devices
    copy-to-N, copied-HASH  its arm, and the counter of a rule

Nothing depends on the order in which things came: an agent that starts finds what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from services.common.model.devices import DeviceGroupName
from services.common.model.names import NetworkName
from services.common.model.rules import Direction, GroupId, PolicyName, RuleSetId

FORWARD: Final = "forward"
INPUT: Final = "input"
SOURCES: Final = "sources"
STRANGE: Final = "strange_source"
OUTPUT: Final = "output"
MID_STREAM: Final = "mid_stream"
TO_ENDPOINT: Final = "to_endpoint"
NODE_INPUT: Final = "node_input"
NODE_OUTPUT: Final = "node_output"
MASQUERADE: Final = "masquerade"

STEER: Final = "steer"
STEER_RETURNED: Final = "steer_returned"
STEER_LED: Final = "steer_led"
STEER_TO: Final = "steer_to"
STEER_REPLIES: Final = "steer_replies"
STEER_GUARD: Final = "steer_guard"
STEER_OUTPUT: Final = "steer_output"
UNSTEERED: Final = "unsteered"
NOT_LED: Final = {Direction.EGRESS: "not_led_from", Direction.INGRESS: "not_led_to"}
LOST: Final = "lost"

COPY_EGRESS: Final = "copy_egress"
COPY_INGRESS: Final = "copy_ingress"
COPIED: Final = "copied"

INTERFACES: Final = "interfaces"
SOURCES_4: Final = "sources4"
SOURCES_6: Final = "sources6"
FROM_ENDPOINT: Final = "from_endpoint"
TO_4: Final = "to4"
TO_6: Final = "to6"
ITSELF: Final = "itself"
SPEAKS_6: Final = "speaks6"
LINK_6: Final = "link6"
ANY_LINK_6: Final = "any_link6"
GUESTS: Final = "guests"
ANSWERING: Final = "answering"
ASKING: Final = "asking"
ENDED_4: Final = "ended4"
ENDED_6: Final = "ended6"
STEERED_FROM: Final = "steered_from"
STEERED_TO_4: Final = "steered_to4"
STEERED_TO_6: Final = "steered_to6"
FROM_DEVICE: Final = "from_device"
LED: Final = "led"
GUARDED: Final = "guarded"
COPIED_FROM: Final = "copied_from"
COPIED_BACK: Final = "copied_back"
COPIED_TO: Final = "copied_to"
COPIED_BACK_FROM: Final = "copied_back_from"

SPOOFED: Final = "spoofed"
CLOSED: Final = "closed"
CUT: Final = "cut"
DENIED: Final = {Direction.INGRESS: "denied_ingress", Direction.EGRESS: "denied_egress"}
"""Counters of what is dropped for no rule of anybody's."""
NO_DEVICE: Final = "no_device"
ASTRAY: Final = "astray"
DROPS: Final = (SPOOFED, CLOSED, CUT, *DENIED.values(), NO_DEVICE, ASTRAY)


def digest(*parts: str) -> str:
    """Sixteen digits that stand for some texts."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def rule_set(identity: RuleSetId) -> str:
    """Chain of a rule set."""
    return f"r-{digest(identity)}"


def profile(direction: Direction, identities: Iterable[RuleSetId]) -> str:
    """Chain of a profile."""
    return f"{direction.value[0]}-{digest(*identities)}"


def group(identity: GroupId, version: int) -> str:
    """Set of an address group's members of one family."""
    return f"g{version}-{digest(identity)}"


def blocks(identity: GroupId, version: int) -> str:
    """Set of the blocks of one family of a group that is made of them."""
    return f"o{version}-{digest(identity)}"


def counter(policy: PolicyName, direction: Direction, rule: str) -> str:
    """Counter of a policy's rule."""
    return f"c-{digest(policy, direction.value, rule)}"


def steered(direction: Direction, identities: Iterable[RuleSetId]) -> str:
    """Chain that says by which device a profile leads one direction."""
    return f"v{direction.value[0]}-{digest(*identities)}"


def steered_rules(identity: RuleSetId) -> str:
    """The same of a rule set."""
    return f"vr-{digest(identity)}"


def entry(group: DeviceGroupName, direction: Direction) -> str:
    """Chain of a group of devices, for rules of one direction."""
    return f"via-{direction.value[0]}-{digest(group)}"


def through(group: DeviceGroupName, network: NetworkName, direction: Direction) -> str:
    """Chain of a group for one network, and rules of one direction."""
    return f"via-{direction.value[0]}-{digest(group, network)}"


def lost(group: DeviceGroupName, network: NetworkName, direction: Direction) -> str:
    """Chain of replies whose device is down."""
    return f"lost-{direction.value[0]}-{digest(group, network)}"


def pinned(group: DeviceGroupName, network: NetworkName, direction: Direction) -> str:
    """Map from connections' marks to their devices."""
    return f"pinned-{direction.value[0]}-{digest(group, network)}"


def shares(group: DeviceGroupName, network: NetworkName, direction: Direction) -> str:
    """Map from shares to devices."""
    return f"shares-{direction.value[0]}-{digest(group, network)}"


def from_leg(number: int) -> str:
    """Chain of what comes from a device's arm."""
    return f"from-leg-{number}"


def to_leg(number: int) -> str:
    """Chain of what goes to it."""
    return f"to-leg-{number}"


def pin_leg(number: int, direction: Direction) -> str:
    """Chain of connections that get the device, by a rule of that direction."""
    return f"pin-leg-{number}-{direction.value[0]}"


def guard_leg(number: int) -> str:
    """Chain of what is to leave for it."""
    return f"guard-leg-{number}"


def leg_counter(number: int) -> str:
    """Counter of what goes to it."""
    return f"leg-{number}"


def led_rule(policy: PolicyName, direction: Direction, rule: str) -> str:
    """Chain of a rule that leads through devices, and its counter."""
    return f"led-{digest(policy, direction.value, rule)}"


def copied(direction: Direction, identities: Iterable[RuleSetId], *, back: bool) -> str:
    """Chain that says who gets copies by a profile's rules of a direction; `back`: of answers."""
    return f"{'b' if back else 'm'}{direction.value[0]}-{digest(*identities)}"


def copied_rules(identity: RuleSetId, *, back: bool) -> str:
    """The same of a rule set."""
    return f"{'br' if back else 'mr'}-{digest(identity)}"


def copy_entry(group: DeviceGroupName, direction: Direction, *, back: bool) -> str:
    """Chain of a group that gets copies."""
    return f"copy-{direction.value[0]}{'b' if back else ''}-{digest(group)}"


def copy_shares(group: DeviceGroupName, network: NetworkName) -> str:
    """Map from shares to the devices that get their copies."""
    return f"copies-{digest(group, network)}"


def copy_to(number: int) -> str:
    """Chain of what is copied to an arm."""
    return f"copy-to-{number}"


def copied_counter(policy: PolicyName, direction: Direction, rule: str) -> str:
    """Counter of what a rule has copied."""
    return f"copied-{digest(policy, direction.value, rule)}"
