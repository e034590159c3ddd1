"""What this replica knows of policies, tenants and endpoints: fed by a watch, handed to the engine.

A record is read alone: one that cannot be read counts as one that is not there, on every replica
alike, is logged and counted, and affects no other.

Of an endpoint there may be two records. What an orchestrator said goes before what the agent said:
tenant, segment, labels and ports are the orchestrator's then; the node and the addresses are always
the agent's. What an agent says counts as far as ipam says the same: that this node's endpoint of
that name and owner has these addresses. So of several nodes that claim to have it at most one is
believed; and a node that is not registered has none. Of one whose labels an orchestrator says,
nothing is known before that. What somebody said who is limited to a tenant counts while the agent's
endpoint is of that tenant: so nobody makes another tenant's endpoint his by saying its name first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue, Revision, Snapshot, WatchBatch
from services.common.model.names import EndpointName, NodeName, Tenant
from services.common.model.network import Address
from services.common.model.rules import PolicyName
from services.common.records.errors import RecordError
from services.common.store.topology_view import KINDS as TOPOLOGY_KINDS
from services.common.store.unreadable import Unreadable, UnreadableRecords
from services.common.tracing import spans
from services.policy.engine.engine import Engine
from services.policy.model import Endpoint, TenantRecord
from services.policy.store import codec
from services.policy.store.claims import compare
from services.policy.store.codec import Stored
from services.policy.store.device_feed import DeviceFeed
from services.policy.store.entry import Entry
from services.policy.store.ipam_feed import PAGE, Holder

T = TypeVar("T")
K = TypeVar("K")
N = TypeVar("N")

KINDS: Final = ("policy", "tenant", "endpoint", "device", PAGE, *TOPOLOGY_KINDS)
"""Of records that may be unreadable."""


class PolicyFeed:
    """The records that policy owns."""

    def __init__(
        self, keys: Keys, engine: Engine, holder: Callable[[Address], Holder | None]
    ) -> None:
        """`holder`: who has an address, as ipam says."""
        self._keys = keys
        self._engine = engine
        self._holder = holder
        self.disputed: dict[tuple[NodeName, EndpointName], str] = {}
        """What agents say and ipam does not, and why."""
        self.policies: dict[PolicyName, Entry[Stored]] = {}
        self.tenants: dict[Tenant, Entry[TenantRecord]] = {}
        self.by_orchestrator: dict[EndpointName, Entry[Endpoint]] = {}
        """By orchestrators."""
        self.attached: dict[NodeName, dict[EndpointName, Entry[Endpoint]]] = {}
        """By agents."""
        self._nodes_of: dict[EndpointName, dict[NodeName, Entry[Endpoint]]] = {}
        self._by_allocation: dict[EndpointName, dict[EndpointName, None]] = {}
        """Endpoints whose addresses have another name in ipam, which their orchestrator said."""
        self.edition: Revision = 0
        """Of the last change of policies or tenants."""
        self.staging: Revision = 0
        """Somebody prepares a set since then; 0: nobody."""
        self.applying: Entry[str] | None = None
        """The set that counts, though its parts are not yet in their places."""
        self.devices = DeviceFeed(keys, engine)
        self.unreadable = UnreadableRecords()
        self._staged: dict[str, dict[str, bytes]] = {}
        self._keys_known: set[str] = set()
        self._takers: Mapping[str, tuple[str, Callable[[str, KeyValue | None], None]]] = {
            keys.policies: ("policy", self._take_policy),
            keys.tenants: ("tenant", self._take_tenant),
            keys.policy_endpoints: ("endpoint", self._take_said),
            keys.attached: ("endpoint", self._take_attached),
            **{prefix: ("device", taker) for prefix, taker in self.devices.takers.items()},
        }

    def apply_batch(self, batch: WatchBatch) -> None:
        if isinstance(batch, Snapshot):
            there = {item.key for item in batch.items}
            for key in self._keys_known - there:
                self._take(key, None, batch.revision)
            for item in batch.items:
                self._take(item.key, item, item.mod_revision)
            self._overlay()
        else:
            for event in batch.events:
                if event.key == self._keys.policy_generation and event.item is not None:
                    spans.heard(event.revision, event.item.value)
                self._take(event.key, event.item, event.revision)

    def staged(self, name: str) -> Mapping[str, bytes]:
        """The parts of a set, by key below the root of policy; an empty one is to be removed."""
        return self._staged.get(name, {})

    def unfounded(self, node: NodeName) -> list[EndpointName]:
        """What a node's agent said of which ipam says nothing."""
        return [
            name
            for name, claim in self.attached.get(node, {}).items()
            if compare(claim.value, self._allocation(name), self._holder).believed is None
        ]

    def nodes_changed(self, nodes: Iterable[NodeName]) -> None:
        """Nodes came or went."""
        for node in nodes:
            for name in self.attached.get(node, ()):
                self._merge(name)

    def allocations_changed(self, names: Iterable[EndpointName]) -> None:
        """What ipam says of these names changed."""
        for allocation in names:
            for name in (allocation, *self._by_allocation.get(allocation, ())):
                if name in self._nodes_of:
                    self._merge(name)

    def _take(self, key: str, item: KeyValue | None, revision: Revision) -> None:
        keys = self._keys
        if item is None:
            self._keys_known.discard(key)
        else:
            self._keys_known.add(key)
        if key == keys.policy_edition:
            self.edition = revision if item is not None else 0
        elif key == keys.staging:
            self.staging = revision if item is not None else 0
        elif key == keys.applying:
            self._take_applying(item)
        elif key.startswith(keys.staged):
            self._take_staged(key.removeprefix(keys.staged), item)
        else:
            self._take_record(key, item)

    def _take_record(self, key: str, item: KeyValue | None) -> None:
        for prefix, (kind, taker) in self._takers.items():
            if not key.startswith(prefix):
                continue
            try:
                taker(key.removeprefix(prefix), item)
            except RecordError as error:
                revision = item.mod_revision if item is not None else 0
                self.unreadable.add(key, Unreadable(kind, str(error), revision))
                taker(key.removeprefix(prefix), None)
            else:
                self.unreadable.discard(key)
            return

    def _take_policy(self, text: str, item: KeyValue | None) -> None:
        name = PolicyName(text)
        if item is None:
            if self.policies.pop(name, None) is not None:
                self._engine.drop_policy(name)
            return
        before = self.policies.get(name)
        stored = codec.decode_policy(name, item.value)
        self.policies[name] = Entry(stored, item.mod_revision)
        if before is None or before.value.policy != stored.policy:
            self._engine.put_policy(stored.policy)

    def _take_tenant(self, text: str, item: KeyValue | None) -> None:
        name = Tenant(text)
        if item is None:
            if self.tenants.pop(name, None) is not None:
                self._engine.drop_tenant(name)
            return
        tenant = codec.decode_tenant(name, item.value)
        self.tenants[name] = Entry(tenant, item.mod_revision)
        self._engine.put_tenant(tenant)

    def _take_said(self, text: str, item: KeyValue | None) -> None:
        name = EndpointName(text)
        _discard(self._by_allocation, self._allocation(name), name)
        if item is None:
            self.by_orchestrator.pop(name, None)
        else:
            self.by_orchestrator[name] = Entry(
                codec.decode_endpoint(name, item.value), item.mod_revision
            )
            if (allocation := self._allocation(name)) != name:
                self._by_allocation.setdefault(allocation, {})[name] = None
        self._merge(name)

    def _allocation(self, name: EndpointName) -> EndpointName:
        """The name under which ipam has an endpoint's addresses."""
        said = self.by_orchestrator.get(name)
        wanted = said.value.wanted if said is not None else None
        return EndpointName(wanted.allocation) if wanted is not None and wanted.allocation else name

    def _take_attached(self, text: str, item: KeyValue | None) -> None:
        first, _, second = text.partition("/")
        node, name = NodeName(first), EndpointName(second)
        if item is None:
            _discard(self.attached, node, name)
            _discard(self._nodes_of, name, node)
            self.disputed.pop((node, name), None)
        else:
            entry = Entry(codec.decode_endpoint(name, item.value, node), item.mod_revision)
            self.attached.setdefault(node, {})[name] = entry
            self._nodes_of.setdefault(name, {})[node] = entry
        self._merge(name)

    def _merge(self, name: EndpointName) -> None:
        attached, arriving = self._attached(name)
        said = self.by_orchestrator.get(name)
        if said is not None and _counts(said.value, attached):
            endpoint = replace(said.value, only_of_tenant=False)
            if attached is not None:
                endpoint = replace(
                    endpoint,
                    node=attached.node,
                    addresses=attached.addresses,
                    instance=attached.instance,
                    arriving=arriving,
                )
        elif attached is not None and not attached.labels_follow:
            endpoint = replace(attached, arriving=arriving)
        else:
            self._engine.drop_endpoint(name)
            return
        if self._engine.endpoints.get(name) != endpoint:
            self._engine.put_endpoint(endpoint)

    def _attached(
        self, name: EndpointName
    ) -> tuple[Endpoint | None, tuple[tuple[NodeName, str], ...]]:
        """What is believed of what agents say of an endpoint, and where else it arrives."""
        found, arriving = None, []
        for node, claim in self._nodes_of.get(name, {}).items():
            self.disputed.pop((node, name), None)
            if node not in self._engine.nodes:
                continue
            compared = compare(claim.value, self._allocation(name), self._holder)
            if compared.wrong:
                self.disputed[node, name] = compared.wrong
            if compared.believed is None:
                continue
            if compared.is_arriving:
                arriving.append(compared.believed)
            else:
                found = compared.believed
        if found is None and arriving:
            found = arriving.pop()  # the node that it is on has not said so yet
        return found, tuple((one.node, one.instance) for one in arriving if one.node is not None)

    def _take_applying(self, item: KeyValue | None) -> None:
        """From now on the set counts; its parts get into their places one after the other."""
        if item is None:
            self.applying = None
            return
        self.applying = Entry(item.value.decode(errors="replace"), item.mod_revision)
        self._overlay()

    def _take_staged(self, text: str, item: KeyValue | None) -> None:
        name, _, key = text.partition("/")
        if item is None:
            _discard(self._staged, name, key)
        else:
            self._staged.setdefault(name, {})[key] = item.value

    def _overlay(self) -> None:
        """Makes the parts of a set count that are not in their places yet."""
        if self.applying is None:
            return
        for part, document in self.staged(self.applying.value).items():
            key = f"{self._keys.policy}{part}"
            item = KeyValue(key, document, 0, self.applying.revision)
            self._take_record(key, item if document else None)


def _counts(said: Endpoint, attached: Endpoint | None) -> bool:
    """Whether what was said of a name holds for who has it now."""
    if not said.only_of_tenant:
        return True
    return attached is not None and attached.tenant == said.tenant


def _discard(items: dict[K, dict[N, T]], key: K, name: N) -> None:
    """Removes an item of a two-level mapping, and the upper level with the last."""
    inner = items.get(key)
    if inner is not None:
        inner.pop(name, None)
        if not inner:
            del items[key]
