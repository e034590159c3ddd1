"""Groups that are made of owners' blocks, as ipam says.

A block has its owner before the first address of it is in use. So a rule that denies by labels, or
keeps owners apart, names blocks beside endpoints, and no node lets pass an endpoint that it has not
been told of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network

from services.common.model.names import NetworkName, Segment, Tenant
from services.common.model.network import Prefix
from services.common.model.rules import GroupBlock, GroupId
from services.policy.engine.addresses import V6
from services.policy.engine.groups import GroupSpec, content_hash
from services.policy.engine.selector import NOTHING, passes, tests
from services.policy.model import EndpointSelector, LabelSelector


@dataclass(frozen=True, slots=True)
class OwnedBlock:
    cidr: Prefix
    network: NetworkName
    tenant: Tenant
    segment: Segment


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """Which blocks a group is made of: those in which endpoints may be that are selected."""

    selector: EndpointSelector
    """In canonical form, and nothing said of endpoints' labels."""

    @property
    def id(self) -> GroupId:
        """Equal for equal specs only, and for no other kind of group."""
        return GroupId(content_hash(("blocks", GroupSpec(self.selector).id)))


def where(selector: EndpointSelector) -> EndpointSelector | None:
    """What a selector says of where endpoints may be, without their labels; None: nowhere."""
    if selector.labels == NOTHING:
        return None
    return replace(selector, labels=LabelSelector())


class BlockGroup:
    """A group in use: as `services.policy.engine.groups.Group`."""

    __slots__ = (
        "_changed",
        "_lengths",
        "_networks",
        "_published",
        "_segments",
        "_tenant_tests",
        "_touched",
        "blocks",
        "id",
        "spec",
        "tenants",
        "topic",
        "uses",
    )  # fmt: skip

    def __init__(self, spec: BlockSpec, touched: set[BlockGroup]) -> None:
        """`touched`: where it says that `take` has something."""
        self.id = spec.id
        self.spec = spec
        self.topic = f"group/{self.id}"
        self.uses = 0
        """Rule sets that have it."""
        self.tenants = frozenset(spec.selector.tenants)
        """Empty: any."""
        self.blocks: set[Prefix] = set()
        self._segments = frozenset(spec.selector.segments)
        self._networks = frozenset(spec.selector.networks)
        self._tenant_tests = tests(spec.selector.tenant_labels)
        self._lengths: Counter[tuple[int, int]] = Counter()
        self._changed: set[Prefix] = set()
        self._published: set[Prefix] = set()
        self._touched = touched
        touched.add(self)

    @property
    def asks_labels(self) -> bool:
        """Says whether it depends on what is known of tenants."""
        return bool(self._tenant_tests)

    def holds(self, block: OwnedBlock, labels: Mapping[str, str]) -> bool:
        """Says whether a block of a tenant with these labels is one of it."""
        return (
            (not self.tenants or block.tenant in self.tenants)
            and (not self._segments or block.segment in self._segments)
            and (not self._networks or block.network in self._networks)
            and passes(self._tenant_tests, labels)
        )

    def put(self, block: Prefix, *, there: bool) -> None:
        """Adds a block, or takes it out."""
        if (block in self.blocks) is there:
            return
        if there:
            self.blocks.add(block)
        else:
            self.blocks.remove(block)
        self._lengths[block.max_prefixlen, block.prefixlen] += 1 if there else -1
        self._changed.add(block)
        self._touched.add(self)

    def __contains__(self, key: int) -> bool:
        return _is_in(self.blocks, self._lengths, key)

    def as_it_is(self) -> Callable[[int], bool]:
        """Says which keys are in it now, whatever comes."""
        return partial(_is_in, frozenset(self.blocks), dict(self._lengths))

    def changed_parts(self) -> Iterator[tuple[str, GroupBlock | None]]:
        """Ids and values of blocks that changed since the last time; None: it is gone."""
        changed, self._changed = self._changed, set()
        for block in changed:
            if block in self.blocks:
                self._published.add(block)
                yield self._resource_id(block), GroupBlock(self.id, block)
            elif block in self._published:
                self._published.remove(block)
                yield self._resource_id(block), None

    def published_parts(self) -> Iterator[str]:
        """Ids of the blocks that were published last."""
        return map(self._resource_id, self._published)

    def _resource_id(self, block: Prefix) -> str:
        return f"block/{self.id}/{block}"


def _is_in(blocks: Set[Prefix], lengths: Mapping[tuple[int, int], int], key: int) -> bool:
    bits = 128 if key & V6 else 32
    kind = IPv6Network if key & V6 else IPv4Network
    return any(
        count and kind((key & ~V6, length), strict=False) in blocks
        for (family, length), count in lengths.items()
        if family == bits
    )


class BlockBook:
    """Blocks, and the groups in use that are made of them."""

    def __init__(self, labels: Callable[[Tenant], Mapping[str, str]]) -> None:
        """`labels`: of a tenant, as is known now."""
        self._labels = labels
        self._blocks: dict[Prefix, OwnedBlock] = {}
        self._of_tenant: dict[Tenant, dict[Prefix, OwnedBlock]] = {}
        self._by_tenant: dict[Tenant | None, dict[GroupId, BlockGroup]] = {}
        """Groups by the tenants that they name; None: those that name none."""

    def put(self, block: OwnedBlock) -> None:
        """A block has an owner, perhaps another one than before."""
        if self._blocks.get(block.cidr) == block:
            return
        self.drop(block.cidr)
        self._blocks[block.cidr] = block
        self._of_tenant.setdefault(block.tenant, {})[block.cidr] = block
        self._place(block, self._groups_of(block.tenant))

    def drop(self, cidr: Prefix) -> None:
        """A block has no owner any more, if it had one."""
        block = self._blocks.pop(cidr, None)
        if block is None:
            return
        theirs = self._of_tenant[block.tenant]
        del theirs[cidr]
        if not theirs:
            del self._of_tenant[block.tenant]
        for group in self._groups_of(block.tenant):
            group.put(cidr, there=False)

    def tenant_changed(self, tenant: Tenant) -> None:
        """Other labels of it are known."""
        asking = [group for group in self._groups_of(tenant) if group.asks_labels]
        if asking:
            for block in self._of_tenant.get(tenant, {}).values():
                self._place(block, asking)

    def attach(self, group: BlockGroup) -> None:
        """Fills a new group, and keeps it up to date."""
        for tenant in group.tenants or (None,):
            self._by_tenant.setdefault(tenant, {})[group.id] = group
        tenants = group.tenants or self._of_tenant
        for tenant in tenants:
            for block in self._of_tenant.get(tenant, {}).values():
                self._place(block, (group,))

    def detach(self, group: BlockGroup) -> None:
        """Nobody needs it any more."""
        for tenant in group.tenants or (None,):
            groups = self._by_tenant[tenant]
            del groups[group.id]
            if not groups:
                del self._by_tenant[tenant]

    def _place(self, block: OwnedBlock, groups: Iterable[BlockGroup]) -> None:
        labels = self._labels(block.tenant)
        for group in groups:
            group.put(block.cidr, there=group.holds(block, labels))

    def _groups_of(self, tenant: Tenant) -> list[BlockGroup]:
        return [
            *self._by_tenant.get(tenant, {}).values(),
            *self._by_tenant.get(None, {}).values(),
        ]
