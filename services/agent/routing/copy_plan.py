"""The tables that send copies to devices, one per family: nf_tables copies in such alone. Pure.

Which packets, and to which arm of a device, is said by the table of policy in between
(`services.agent.rules.render_mirrors`): a packet that is to be copied bears the arm's number, and
in the place that says where it came from nothing, or FROM_OUTSIDE where it is itself on its way to
a device or from one. What else bears a number then has RETURNED there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from services.agent.kernel import marks
from services.agent.kernel.marking import COPIES
from services.agent.kernel.nftables.contents import Contents
from services.agent.kernel.nftables.table import (
    Base,
    Chain,
    Dispatch,
    Duplicate,
    Element,
    Hook,
    Image,
    Key,
    Rule,
    Shape,
)
from services.agent.model import DeviceWay

_MAP: Final = "copies"
_PRIORITIES: Final = {"first": 11, "second": 13}
"""Between those of the table of policy."""


def copy_tables(ways: Iterable[DeviceWay]) -> Mapping[str, Contents]:
    """By name; none of a family of which no device gets copies."""
    copied = [way for way in ways if way.is_copied]
    return {
        COPIES[version]: Contents.of(
            _table([way for way in copied if way.address.version == version])
        )
        for version in sorted({way.address.version for way in copied})
    }


def _table(ways: Iterable[DeviceWay]) -> Image:
    to_copy = Rule((Dispatch(Key.MARK, _MAP, marks.native(marks.STEERING)),))
    image = Image(
        {
            name: Chain((to_copy,), Base(Hook.FORWARD, priority))
            for name, priority in _PRIORITIES.items()
        },
        {_MAP: Shape(Element.MARK, is_map=True)},
        elements={_MAP: {}},
    )
    for way in ways:
        name = f"copy-{way.number}"
        image.chains[name] = Chain((Rule((Duplicate(way.address.packed),)),))
        for came in (0, marks.FROM_OUTSIDE):
            image.elements[_MAP][marks.native(marks.of_leg(way.number) | came)] = name
    return image
