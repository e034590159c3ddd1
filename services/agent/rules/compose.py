"""What the table shall hold, kept up to date as endpoints, rules and groups come and go. Pure.

    composer.put_local(...), composer.update(...)    what is new
    composer.refresh()                               what has to change in the kernel for it
    composer.image()                                 all of it, to compare with the kernel

The image depends on what is put and not on how it came about. A change of a group's members costs
as much as it has members that change, an endpoint as much as it has addresses; other rules have the
structure rendered anew, of which only what is different goes to the kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from services.agent.kernel.nftables.table import Changes, Elements, Image, interface_key
from services.agent.rules import block_sets, page_sets
from services.agent.rules.block_sets import BlockSets
from services.agent.rules.concern import Users, effect_on, users_of
from services.agent.rules.device_chains import Devices, LegCounted, RuleCopied, RuleLed
from services.agent.rules.device_legs import Around, groups_here
from services.agent.rules.diff import restructure
from services.agent.rules.endpoint_sets import EndpointSets, local_elements
from services.agent.rules.judge import Judge, Opened, members_of
from services.agent.rules.page_sets import PageSets
from services.agent.rules.render import render
from services.agent.rules.render_devices import render_devices
from services.agent.rules.render_led_rules import led_elements
from services.agent.rules.render_mirrors import copies_of, mirrored_elements, render_mirrors
from services.agent.rules.render_rules import Counted, Logging, RenderedRuleSet, render_rules
from services.agent.rules.resources import NetworkRules, Resource, Unreadable
from services.agent.rules.structure import Structure
from services.common.model.devices import DeviceGroupName, DeviceRules
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName
from services.common.model.network import Address
from services.common.model.rules import (
    Direction,
    EndpointRules,
    GroupBlock,
    GroupPage,
    Mode,
    NodeRules,
    Profile,
    RuleSet,
    RuleSetId,
)


@dataclass(frozen=True, slots=True)
class LocalInterface:
    """An endpoint that is here."""

    interface: str
    addresses: tuple[Address, ...] = ()
    mac: str = ""
    """Its own; empty: it is not known."""
    instance: str = ""
    """Of its attach; empty: it is not known."""
    dhcp: bool = False
    """A VM's guest asks the node who it is."""


@dataclass(frozen=True, slots=True)
class _Open:
    """An endpoint that has its rules."""

    profile: Profile
    addresses: tuple[Address, ...]


@dataclass(slots=True)
class TableChange:
    """What a refresh came to."""

    changes: Changes = field(default_factory=Changes)
    restricted: set[Address] = field(default_factory=set)
    """Whose connections may be denied now: of endpoints here, and of peers."""
    relaxed: set[Address] = field(default_factory=set)
    """Whose connections may be allowed now."""
    gone: set[Address] = field(default_factory=set)
    """Addresses that no endpoint of this node has any more."""


class Composer:
    """The table of one node."""

    def __init__(self, failsafe: Failsafe, logging: Logging | None) -> None:
        self._failsafe = failsafe
        self._logging = logging
        self._resources: dict[str, Resource] = {}
        self._locals: dict[EndpointName, LocalInterface] = {}
        self._fresh: set[EndpointName] = set()
        self._rewritten: set[RuleSetId] = set()
        self._rules: dict[EndpointName, EndpointRules] = {}
        self._sets: dict[RuleSetId, RuleSet] = {}
        self._pages = PageSets()
        self._blocks = BlockSets()
        self._networks: dict[str, NetworkRules] = {}
        self._devices: dict[DeviceGroupName, DeviceRules] = {}
        self._around = Around()
        self._node: NodeRules | None = None

        self._pieces: dict[RuleSetId, RenderedRuleSet] = {}
        self._structure = Structure()
        self._profiles: Counter[Profile] = Counter()
        self._open: dict[EndpointName, _Open] = {}
        self._sets_in_force: Mapping[RuleSetId, RuleSet] = {}
        self._endpoints = EndpointSets()
        self._users: Users = {}
        self._copied: frozenset[DeviceGroupName] = frozenset()

        self._stale = True
        self._touched: dict[EndpointName, LocalInterface | None] = {}

    def anew(self, resources: Mapping[str, Resource]) -> Composer:
        """One that was told the same endpoints, and these resources, and remembers nothing else:
        only its `image` counts."""
        made = Composer(self._failsafe, self._logging)
        for name, local in self._locals.items():
            made.put_local(name, local)
        made.set_around(self._around)
        made.update(resources, ())
        return made

    # What is new ----------------------------------------------------------------------------------

    def put_local(self, name: EndpointName, local: LocalInterface) -> None:
        """An endpoint is here, or is about to be: without addresses it is only closed."""
        before = self._locals.get(name)
        if before == local:
            return
        if before is None and not local.addresses:
            self._fresh.add(name)
        self._touched.setdefault(name, before)
        self._locals[name] = local

    def shut_local(self, name: EndpointName) -> None:
        """An endpoint is not here any more, but its interface may be: it is closed."""
        before = self._locals.get(name)
        if before is not None:
            self.put_local(name, LocalInterface(before.interface))

    def drop_local(self, name: EndpointName) -> None:
        """An endpoint's interface is not here any more."""
        before = self._locals.pop(name, None)
        self._fresh.discard(name)
        if before is not None:
            self._touched.setdefault(name, before)

    def set_around(self, around: Around) -> None:
        """What is known of networks' links, and of the devices there."""
        if self._around != around:
            self._around = around
            self._stale = True

    def update(self, updated: Mapping[str, Resource], removed: Collection[str]) -> None:
        """Takes in what the policy service says."""
        for name in removed:
            before = self._resources.pop(name, None)
            if before is not None:
                self._replace(before, None)
        for name, value in updated.items():
            before = self._resources.get(name)
            self._resources[name] = value
            self._replace(before, value)

    def _replace(self, before: Resource | None, after: Resource | None) -> None:
        if before is not None and (after is None or not isinstance(after, type(before))):
            self._forget(before)
        match after:
            case EndpointRules():
                self._rules[after.name] = after
                self._touched.setdefault(after.name, self._locals.get(after.name))
            case RuleSet():
                if after.id in self._sets:
                    self._rewritten.add(after.id)
                self._sets[after.id] = after
                self._pieces.pop(after.id, None)
                self._stale = True
            case GroupPage():
                self._pages.put(after)
            case GroupBlock():
                self._blocks.put(after)
            case NetworkRules():
                self._networks[after.name] = after
                self._stale = True
            case DeviceRules():
                self._devices[after.name] = after
                self._stale = True
            case NodeRules():
                self._node = after
                self._stale = True

    def _forget(self, gone: Resource) -> None:
        match gone:
            case EndpointRules():
                self._rules.pop(gone.name, None)
                self._touched.setdefault(gone.name, self._locals.get(gone.name))
            case RuleSet():
                self._sets.pop(gone.id, None)
                self._pieces.pop(gone.id, None)
                self._stale = True
            case GroupPage():
                self._pages.drop(gone)
            case GroupBlock():
                self._blocks.drop(gone)
            case NetworkRules():
                self._networks.pop(gone.name, None)
                self._stale = True
            case DeviceRules():
                self._devices.pop(gone.name, None)
                self._stale = True
            case NodeRules():
                self._node = None
                self._stale = True
            case Unreadable():
                pass

    # What is asked --------------------------------------------------------------------------------

    @property
    def counters(self) -> Mapping[str, Counted | LegCounted | RuleLed | RuleCopied | None]:
        """What the table's counters count; None: see `table_names.DROPS`."""
        return self._structure.counters

    @property
    def resources(self) -> Mapping[str, Resource]:
        """What the policy service said, by id."""
        return self._resources

    @property
    def devices(self) -> Sequence[DeviceRules]:
        """Groups of devices that are known, by name."""
        return [self._devices[name] for name in sorted(self._devices)]

    @property
    def copied_groups(self) -> Collection[DeviceGroupName]:
        """Those that get copies by rules in force."""
        return self._copied

    @property
    def unknown_devices(self) -> int:
        """How many devices on networks of this node have never answered."""
        around = self._around
        return sum(
            any(
                one.network in around.interfaces and (one.network, one.address) not in around.macs
                for one in leg.arms
            )
            for group in self._devices.values()
            for leg in group.legs
        )

    @property
    def rule_sets(self) -> int:
        """How many rule sets there are."""
        return len(self._sets)

    @property
    def groups(self) -> int:
        """How many address groups there are."""
        return len(self._pages)

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Messages by id of the resources that are not understood."""
        return {
            name: value.message
            for name, value in self._resources.items()
            if isinstance(value, Unreadable)
        }

    @property
    def opened(self) -> int:
        """How many endpoints are open, as of the last refresh."""
        return len(self._open)

    def is_open(self, name: EndpointName) -> bool:
        """Says whether an endpoint has its rules, as of the last refresh."""
        return name in self._open

    def interfaces(self) -> tuple[bytes, ...]:
        """Keys of all endpoints' interfaces."""
        return tuple(interface_key(local.interface) for local in self._locals.values())

    def judge(self) -> Judge:
        """What connections are judged by, as of the last refresh."""
        return Judge(
            {
                address: Opened(name, opened.profile)
                for name, opened in self._open.items()
                for address in opened.addresses
            },
            self._sets_in_force,
            self._pages.in_force,
            self._blocks.in_force,
        )

    def image(self) -> Image:
        """All that the table shall hold, as of the last refresh."""
        structure = self._structure
        elements = {name: dict(items) for name, items in structure.elements.items()}
        for name, items in self._endpoints.elements():
            elements.setdefault(name, {}).update(items)
        elements.update(self._pages.elements())
        elements.update(self._blocks.elements())
        return Image(
            dict(structure.chains), dict(structure.sets), set(structure.counters), elements
        )

    # Refreshing -----------------------------------------------------------------------------------

    def refresh(self) -> TableChange:
        """Brings everything up to date; says what is different since the refresh before."""
        done = TableChange()
        touched, self._touched = self._touched, {}
        self._judge_locals(self._locals if self._stale else touched, touched, done)
        if self._stale:
            self._render(done)
            self._stale = False
            self._rewritten.clear()
            self._sets_in_force = dict(self._sets)
        self._move_endpoints(touched, done)
        self._move_groups(done)
        return done

    def _judge_locals(
        self,
        candidates: Collection[EndpointName],
        touched: dict[EndpointName, LocalInterface | None],
        done: TableChange,
    ) -> None:
        """Says which endpoints are open and by which profile; `touched` gets those that differ."""
        for name in {*candidates, *touched}:
            opened = self._opened_as(name)
            before = self._open.get(name)
            if opened == before:
                if opened is None or self._rewritten.isdisjoint(opened.profile.all):
                    continue
                touched.setdefault(name, self._locals.get(name))
                done.restricted.update(opened.addresses)
                done.relaxed.update(opened.addresses)
                continue
            touched.setdefault(name, self._locals.get(name))
            if before is not None:
                self._profiles[before.profile] -= 1
                if not self._profiles[before.profile]:
                    del self._profiles[before.profile]
                    self._stale = True
                del self._open[name]
            if opened is not None:
                if not self._profiles[opened.profile]:
                    self._stale = True
                self._profiles[opened.profile] += 1
                self._open[name] = opened
                done.relaxed.update(opened.addresses)
                if name not in self._fresh:  # what it was before we knew of it may be denied now
                    done.restricted.update(opened.addresses)
                self._fresh.discard(name)

    def _opened_as(self, name: EndpointName) -> _Open | None:
        """How an endpoint is judged; None: it is not here, or closed.

        Rules for other addresses, or of another attach, are those of an endpoint that had the name
        before.
        """
        local, rules = self._locals.get(name), self._rules.get(name)
        if local is None or not local.addresses or rules is None:
            return None
        if not set(rules.addresses).issuperset(local.addresses):
            return None
        if local.instance not in {"", rules.instance}:
            return None
        return _Open(rules.profile, local.addresses) if self._is_known(rules.profile) else None

    def _render(self, done: TableChange) -> None:
        node = self._node_profile()
        for profile in (*self._profiles, *([node] if node is not None else ())):
            for one in (*profile.ingress, *profile.egress):
                if one not in self._pieces:
                    self._pieces[one] = render_rules(self._sets[one], self._logging)
        before = self._structure
        self._structure = render(
            self._pieces,
            self._profiles,
            node,
            [self._networks[name] for name in sorted(self._networks)],
            self._failsafe,
            self._logging,
            self._render_devices(),
        )
        self._users = users_of(self._sets.values())
        self._copied = copies_of(self._sets.values())
        restructure(done.changes, before, self._structure)

    def _render_devices(self) -> Sequence[Devices]:
        cidrs = {network.name: network.cidr for network in self._networks.values()}
        here = groups_here(self._devices.values(), cidrs, self._around)
        return (
            render_devices(here, self._profiles, self._sets),
            render_mirrors(here, self._profiles, self._sets),
        )

    def _node_profile(self) -> Profile | None:
        """How the node itself is judged; None: no policy is on it. Rule sets of which it is not
        known what they say fail alone: nothing at all would open it, and all closed end it."""
        if self._node is None:
            return None
        profile = self._node.profile
        known = Profile(
            tuple(one for one in profile.ingress if one in self._sets),
            tuple(one for one in profile.egress if one in self._sets),
        )
        return known if known.all else None

    def _is_known(self, profile: Profile) -> bool:
        return all(one in self._sets for one in (*profile.ingress, *profile.egress))

    def _move_endpoints(
        self, touched: Mapping[EndpointName, LocalInterface | None], done: TableChange
    ) -> None:
        """What endpoints have in sets and maps, and which addresses none has any more."""
        now = {name: self._elements_of(name) for name in touched}
        self._endpoints.refresh(now, self._structure.sets, done.changes)
        for name, before in touched.items():
            if before is not None:
                local = self._locals.get(name)
                done.gone.update(set(before.addresses) - set(local.addresses if local else ()))

    def _elements_of(self, name: EndpointName) -> Mapping[str, Elements]:
        local = self._locals.get(name)
        if local is None:
            return {}
        packed = [address.packed for address in local.addresses]
        opened = self._open.get(name)
        profile = opened.profile if opened else None
        has = local_elements(
            local.interface, packed, local.mac, profile, self._guarded(profile), dhcp=local.dhcp
        )
        if profile is None:
            return has
        return {
            **has,
            **led_elements(local.interface, packed, profile, self._sets),
            **mirrored_elements(local.interface, profile, self._sets),
        }

    def _guarded(self, profile: Profile | None) -> list[Direction]:
        """Directions in which rules are in force."""
        return [
            direction
            for direction in Direction
            if profile is not None
            and any(self._sets[one].mode is Mode.ENFORCE for one in profile.of(direction))
        ]

    def _move_groups(self, done: TableChange) -> None:
        """Who is in groups, and whose connections that concerns."""
        before = members_of(self._pages.in_force, self._blocks.in_force)
        pages = self._pages.refresh(self._structure.groups, done.changes)
        blocks = self._blocks.refresh(self._structure.blocks, done.changes)
        after = members_of(self._pages.in_force, self._blocks.in_force)
        both: list[page_sets.Moved | block_sets.Moved] = [*pages, *blocks]
        for moved in both:
            rules = self._users.get(moved.group, ())
            for address in moved.addresses() if rules else ():
                effect = effect_on(rules, address, before, after)
                if effect.restricts:
                    done.restricted.add(address)
                if effect.relaxes:
                    done.relaxed.add(address)
        if any(block.is_large for block in blocks):
            done.restricted.update(self._addresses())
            done.relaxed.update(self._addresses())

    def _addresses(self) -> Iterator[Address]:
        """All that open endpoints here have."""
        for opened in self._open.values():
            yield from opened.addresses
