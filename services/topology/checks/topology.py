"""Makes a spec of a draft and says everything that is wrong with it.

Whatever is wrong is left out or replaced by its default, so that the rest can be checked and carved
without the same mistake being reported twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from services.common.document.values import parse_prefix
from services.common.errors import Violation
from services.common.model.names import (
    GroupPath,
    NetworkName,
    NodeName,
    TopologyName,
    group_name,
    labels,
    resource_name,
)
from services.common.model.network import Network, Prefix
from services.common.model.node import NodeAllowance
from services.topology.checks.networks import check_networks
from services.topology.checks.nodes import addresses, check_node
from services.topology.model.draft import EmptyAttachments, GroupDraft, SpecDraft, TopologyDraft
from services.topology.model.spec import GroupSpec, NodeSpec, Spec, TopologySpec, is_power_of_two

MAX_DEPTH = 32
MAX_GROUPS = 20_000
MAX_SLOTS = 1 << 16
"""At one level. Carving keeps a byte for each."""
MAX_TEXT = 1024
"""Characters of a routing hint."""
DEFAULT_GROUP = "all"


def check(draft: SpecDraft) -> tuple[Spec, list[Violation]]:
    """The spec as far as it is sound, and what is wrong. Do not use it if anything is."""
    checker = _Checker(draft)
    return checker.spec(), checker.problems


def _said(allowance: NodeAllowance) -> NodeAllowance | None:
    return allowance if allowance != NodeAllowance() else None


class _Checker:
    """Collects problems while it walks a draft."""

    def __init__(self, draft: SpecDraft) -> None:
        self.problems: list[Violation] = []
        self._draft = draft
        self._networks: dict[str, Network | None] = {}
        self._used: dict[str, str] = {}
        """The topology of each network that is in one."""
        self._nodes: dict[NodeName, NodeSpec] = {}
        self._count = 0

    def spec(self) -> Spec:
        sound = check_networks(self._draft, self.problems)
        self._networks = {network.name: None for network in self._draft.networks}
        self._networks.update({network.name: network for network in sound})
        topologies: list[TopologySpec] = []
        seen: set[str] = set()
        for topology in self._draft.topologies:
            checked = self._topology(topology)
            if checked.name in seen:
                self._wrong(topology.at, "name", f"there is another topology {checked.name!r}")
            else:
                topologies.append(checked)
            seen.add(checked.name)
        for network in self._draft.networks:
            if network.name and network.name not in self._used:
                self._used[network.name] = ""
                self._wrong(network.at, "name", f"network {network.name[:80]!r} is in no topology")
        if self._count > MAX_GROUPS:
            self._wrong(self._draft.at, "topologies", f"there are more than {MAX_GROUPS} groups")
        self._unique_addresses()
        return Spec(sound, tuple(topologies), tuple(self._nodes.values()))

    def _wrong(self, at: str, name: str, message: str) -> None:
        self.problems.append(Violation(self._draft.field(at, name), message))

    def _topology(self, draft: TopologyDraft) -> TopologySpec:
        at = self._draft.field(draft.at, "name")
        name = draft.name or (draft.networks[0] if draft.networks else "")
        if draft.name:
            self.problems.extend(resource_name(name, at))
        networks: list[NetworkName] = []
        if not draft.networks:
            self._wrong(draft.at, "networks", "there is no network in it")
        for number, network in enumerate(draft.networks):
            place = f"networks[{number}]"
            if network not in self._networks:
                self._wrong(draft.at, place, f"there is no network {network[:80]!r}")
            elif network in self._used:
                self._wrong(
                    draft.at,
                    place,
                    f"network {network!r} is in topology {self._used[network]!r} already",
                )
            else:
                self._used[network] = name
                if self._networks[network] is not None:
                    networks.append(NetworkName(network))
        self._slots(draft.at, draft.slots)
        drafts = draft.groups or (GroupDraft(at=draft.at, name=DEFAULT_GROUP),)
        return TopologySpec(
            name=TopologyName(name),
            networks=tuple(networks),
            groups=self._groups(drafts, name, TopologyName(name), tuple(networks), {}, 1),
            at=draft.at,
            groups_at=self._draft.field(draft.at, "groups"),
            slots=draft.slots if is_power_of_two(draft.slots) else 0,
        )

    def _groups(
        self,
        drafts: tuple[GroupDraft, ...],
        parent: str,
        topology: TopologyName,
        networks: tuple[NetworkName, ...],
        inherited: Mapping[str, str],
        depth: int,
    ) -> tuple[GroupSpec, ...]:
        if depth > MAX_DEPTH:
            self._wrong(drafts[0].at, "", f"groups are nested more than {MAX_DEPTH} deep")
            return ()
        groups: list[GroupSpec] = []
        seen: set[str] = set()
        for number, draft in enumerate(drafts, 1):
            self._count += 1
            name = draft.name or f"group-{number}"
            at = self._draft.field(draft.at, "name")
            wrong = list(group_name(name, at))
            if name in seen:
                wrong.append(Violation(at, f"there is another group {name!r} beside it"))
            seen.add(name)
            self.problems.extend(wrong)
            path = GroupPath(f"{parent}/{name}")
            assignment = self._assignment(draft, inherited)
            children = self._groups(
                draft.groups, path, topology, networks, {**inherited, **assignment}, depth + 1
            )
            self._listed(draft, topology, path)
            group = GroupSpec(
                path=path,
                name=name,
                at=draft.at,
                assignment=assignment,
                routing=draft.routing,
                weight=self._weight(draft),
                prefixes=self._prefixes(draft, networks),
                groups=children,
                slots=self._slots(draft.at, draft.slots),
                slot=draft.slot,
            )
            if draft.slots and not draft.groups:
                self._wrong(draft.at, "slots", "there are no groups below to divide it for")
            if draft.slot is not None and not 0 <= draft.slot < MAX_SLOTS:
                self._wrong(draft.at, "slot", f"{draft.slot} is not between 0 and {MAX_SLOTS - 1}")
                group = replace(group, slot=None)
            if len(draft.routing) > MAX_TEXT:
                self._wrong(draft.at, "routing", f"has more than {MAX_TEXT} characters")
            if not wrong:
                groups.append(group)
        return tuple(groups)

    def _assignment(self, draft: GroupDraft, inherited: Mapping[str, str]) -> dict[str, str]:
        at = self._draft.field(draft.at, "assignment")
        self.problems.extend(labels(draft.assignment, at))
        for key, value in draft.assignment.items():
            if inherited.get(key, value) != value:
                self.problems.append(
                    Violation(
                        f"{at}[{key[:80]!r}]",
                        f"{value[:80]!r} contradicts {inherited[key][:80]!r} of a group above: no "
                        "node can carry both",
                    )
                )
        return dict(draft.assignment)

    def _weight(self, draft: GroupDraft) -> int:
        if 0 <= draft.weight <= MAX_SLOTS:
            return draft.weight or 1
        self._wrong(draft.at, "weight", f"{draft.weight} is not between 0 and {MAX_SLOTS}")
        return 1

    def _slots(self, at: str, slots: int) -> int:
        if slots == 0:
            return 0
        if not is_power_of_two(slots) or slots > MAX_SLOTS:
            self._wrong(at, "slots", f"{slots} is not a power of two up to {MAX_SLOTS}")
            return 0
        return slots

    def _prefixes(
        self, draft: GroupDraft, networks: tuple[NetworkName, ...]
    ) -> dict[NetworkName, Prefix]:
        found: dict[NetworkName, Prefix] = {}
        for name, text in draft.prefixes.items():
            at = f"{self._draft.field(draft.at, 'prefixes')}[{name[:80]!r}]"
            prefix = parse_prefix(text, at, self.problems)
            network = self._networks.get(name)
            if name not in self._networks:
                self.problems.append(Violation(at, f"there is no network {name[:80]!r}"))
            elif network is not None and name not in networks:
                self.problems.append(Violation(at, f"network {name!r} is not in this topology"))
            elif network is not None and prefix is not None:
                if prefix.version == network.cidr.version:
                    found[network.name] = prefix
                else:
                    self.problems.append(
                        Violation(at, f"{prefix} is not of the family of network {name!r}")
                    )
        return found

    def _listed(self, draft: GroupDraft, topology: TopologyName, path: GroupPath) -> None:
        if draft.nodes and draft.groups:
            self._wrong(draft.at, "nodes", "a group with groups below takes no nodes itself")
            return
        for part in draft.nodes:
            node = check_node(part, self._networks, self._draft.field, self.problems, listed=True)
            at = self._draft.field(part.at, "name")
            if node.pins.get(topology, path) != path:
                self._wrong(
                    part.at, "pins", f"pins the node elsewhere, but it is listed in {path!r}"
                )
            node = replace(node, pins={**node.pins, topology: path})
            listed = NodeSpec(
                node,
                part.at,
                self._draft.field(part.at, "address"),
                bool(part.attachments) or part.empty_attachments is not EmptyAttachments.NOT_SAID,
            )
            other = self._nodes.get(node.name)
            if other is None:
                self._nodes[node.name] = listed
            elif topology in other.node.pins and other.node.pins[topology] != path:
                self.problems.append(
                    Violation(
                        at,
                        f"node {node.name!r} is in group {other.node.pins[topology]!r} already",
                    )
                )
            elif topology in other.node.pins:
                self.problems.append(Violation(at, f"there is another node {node.name!r}"))
            else:
                self._nodes[node.name] = self._merge(other, listed)

    def _merge(self, one: NodeSpec, other: NodeSpec) -> NodeSpec:
        """A node that is listed in several topologies; what is left out there counts here."""
        for name, mine, theirs in (
            ("address", one.node.address, other.node.address),
            ("labels", one.node.labels, other.node.labels),
            ("allowance", _said(one.node.allowance), _said(other.node.allowance)),
        ):
            if mine and theirs and mine != theirs:
                self._wrong(
                    other.at, name, f"node {one.node.name!r} is listed with another value before"
                )
        both = one.attachments_said and other.attachments_said
        if both and one.node.attachments != other.node.attachments:
            self._wrong(
                other.at,
                "attachments",
                f"node {one.node.name!r} is listed with another value before",
            )
        return NodeSpec(
            replace(
                one.node,
                address=one.node.address or other.node.address,
                labels=one.node.labels or other.node.labels,
                attachments=(one if one.attachments_said else other).node.attachments,
                pins={**other.node.pins, **one.node.pins},
                allowance=_said(one.node.allowance) or other.node.allowance,
            ),
            one.at,
            one.address_at,
            one.attachments_said or other.attachments_said,
        )

    def _unique_addresses(self) -> None:
        holders: dict[object, NodeSpec] = {}
        for listed in self._nodes.values():
            for address in sorted(addresses(listed.node), key=str):
                other = holders.setdefault(address, listed)
                if other is not listed:
                    self._wrong(
                        listed.at,
                        "address",
                        f"{address} is the address of node {other.node.name!r} already",
                    )
