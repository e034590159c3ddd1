"""The chain that gives the node's address to what leaves all networks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.intervals import as_elements, bounds, union
from services.agent.kernel.nftables.table import (
    Base,
    Chain,
    Element,
    Hook,
    In,
    Key,
    Masquerade,
    Rule,
    Shape,
    Verdict,
    noted,
)
from services.agent.rules.device_chains import HAS_ARM
from services.agent.rules.render_rules import FAMILY
from services.agent.rules.resources import NetworkRules
from services.agent.rules.structure import Structure

_SOURCE_NAT: Final = 100


def render_masquerade(made: Structure, networks: Iterable[NetworkRules]) -> None:
    """What leaves all networks of those that ask for it has the node's address."""
    rules: list[Rule] = []
    known = list(networks)
    for version, source, destination, element in (
        (4, Key.SOURCE_4, Key.DESTINATION_4, Element.ADDRESS_4),
        (6, Key.SOURCE_6, Key.DESTINATION_6, Element.ADDRESS_6),
    ):
        length = 4 if version == 4 else 16
        ours = [network for network in known if network.cidr.version == version]
        from_ranges = union(bounds(network.cidr) for network in ours if network.masquerade)
        if not from_ranges:
            continue
        to_ranges = union(bounds(network.cidr) for network in ours)
        inside = f"b{version}-{table_names.digest(repr(to_ranges))}"
        asking = f"b{version}-{table_names.digest(repr(from_ranges))}"
        for name, ranges in ((inside, to_ranges), (asking, from_ranges)):
            made.sets[name] = Shape(element, is_interval=True)
            made.elements[name] = as_elements(ranges, length)
        family = FAMILY[version]
        rules += [
            noted("inside", family, In(destination, inside), Verdict.ACCEPT),
            noted("leaves all networks", family, In(source, asking), Masquerade()),
        ]
    if rules:
        # a device sees, and knows again, whose it really is; what leaves from there is its own
        made.chains[table_names.MASQUERADE] = Chain(
            (noted("to a device", *HAS_ARM, Verdict.ACCEPT), *rules),
            Base(Hook.POSTROUTING, _SOURCE_NAT, "nat"),
        )
