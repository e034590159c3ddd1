"""Records in whatever order: what is known depends on what is stored, not on how it came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from services.common.etcd.keys import Keys
from services.common.etcd.types import Changes, Event, KeyValue, Operation, Put, Snapshot
from services.common.model.names import EndpointName, NodeName, Segment, Tenant
from services.common.model.rules import Direction, PolicyName, Tier
from services.policy.engine.engine import Engine
from services.policy.model import Endpoint, EndpointSelector, Policy, PolicyNode, TenantRecord
from services.policy.store import codec
from services.policy.store.codec import Stored
from services.policy.store.feed import PolicyFeed
from services.policy.store.ipam_feed import IpamFeed
from tests.support.ipam_records import allocation, release

KEYS = Keys("/r")
NODES = ("n1", "n2")
IPAM = "ipam"


def policy(name: str, target: str) -> bytes:
    written = Policy(
        PolicyName(name),
        Tier.TENANT,
        (EndpointSelector((Tenant(target),)),),
        {Direction.INGRESS: ()},
    )
    return codec.encode_policy(Stored(written, 1, 2))


def endpoint(name: str, tenant: str, *addresses: str) -> bytes:
    return codec.encode_endpoint(
        Endpoint(
            EndpointName(name), Tenant(tenant), Segment(""), {"of": tenant},
            addresses=tuple(map(ip_address, addresses)),
        )
    )  # fmt: skip


TENANTS = st.sampled_from("tu")
NAMES = st.sampled_from("ab")
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])
RECORDS = st.one_of(
    st.tuples(st.just(KEYS.policies), NAMES).flatmap(
        lambda at: st.tuples(st.just("".join(at)), TENANTS.map(lambda t: policy(at[1], t)))
    ),
    st.tuples(
        NAMES.map(lambda name: f"{KEYS.tenants}{name}"),
        st.sampled_from(
            [codec.encode_tenant(TenantRecord(Tenant("x"), {"k": value})) for value in "12"]
        ),
    ),
    st.tuples(
        NAMES.map(lambda name: f"{KEYS.policy_endpoints}{name}"),
        TENANTS.map(lambda tenant: endpoint("x", tenant)),
    ),
    st.tuples(
        st.tuples(st.sampled_from(NODES), NAMES).map(lambda at: KEYS.attached_to(*at)),
        st.tuples(TENANTS, ADDRESSES).map(lambda said: endpoint("x", *said)),
    ),
)
PAGES = st.tuples(ADDRESSES, NAMES, st.sampled_from(NODES), TENANTS)
STEPS = st.one_of(
    RECORDS,
    PAGES.map(lambda page: (IPAM, allocation(KEYS, *page))),
    PAGES.map(lambda page: (IPAM, release(KEYS, page[0]))),
    RECORDS.map(lambda record: (record[0], None)),
    RECORDS.map(lambda record: (record[0], b"{broken")),
    st.sampled_from(NODES).map(lambda name: ("node", name)),
    st.just(("relist", None)),
    st.lists(st.one_of(RECORDS, RECORDS.map(lambda record: (record[0], b""))), max_size=3).map(
        lambda parts: ("set", parts)
    ),
)


@dataclass
class World:
    """A store, and a replica that follows it."""

    store: dict[str, KeyValue] = field(default_factory=dict)
    revision: int = 1
    nodes: set[str] = field(default_factory=set)
    pages: dict[str, KeyValue] = field(default_factory=dict)
    """Of ipam."""

    def __post_init__(self) -> None:
        self.engine = Engine()
        self.ipam = IpamFeed(KEYS)
        self.feed = PolicyFeed(KEYS, self.engine, self.ipam.holder)
        self.ipam.on_names = self.feed.allocations_changed

    def write(self, *documents: tuple[str, bytes | None]) -> None:
        self.revision += 1
        events = []
        for key, document in documents:
            item = None
            if document is not None:
                item = self.store[key] = KeyValue(key, document, 0, self.revision)
            else:
                self.store.pop(key, None)
            events.append(Event(key, item, self.revision))
        self.feed.apply_batch(Changes(events, self.revision))

    def allocate(self, operation: Operation) -> None:
        self.revision += 1
        item = None
        if isinstance(operation, Put):
            item = KeyValue(operation.key, operation.value, 0, self.revision)
            self.pages[operation.key] = item
        else:
            self.pages.pop(operation.key, None)
        event = Event(operation.key, item, self.revision)
        self.ipam.apply_batch(Changes([event], self.revision))

    def toggle(self, name: str) -> None:
        node = NodeName(name)
        if name in self.nodes:
            self.nodes.remove(name)
            self.engine.drop_node(node)
        else:
            self.nodes.add(name)
            self.engine.put_node(PolicyNode(node))
        self.feed.nodes_changed([node])

    def apply(self, parts: list[tuple[str, bytes]]) -> None:
        """Stages a set, makes it count, and perhaps puts it into place."""
        wanted = {key.removeprefix(KEYS.policy): document for key, document in parts}
        for key, document in wanted.items():
            self.write((f"{KEYS.staged}s/{key}", document))
        self.write((KEYS.applying, b"s"))
        before = self.known()
        self.relist()
        assert self.known() == before
        for key, document in wanted.items():
            self.write((f"{KEYS.policy}{key}", document or None))
        after = self.known()
        assert [after[name] for name in ("policies", "tenants")] == [
            before[name] for name in ("policies", "tenants")
        ], "putting it into place changes nothing"
        gone = [f"{KEYS.staged}s/{key}" for key in wanted]
        self.write((KEYS.applying, None), *((key, None) for key in gone))

    def snapshot(self) -> Snapshot:
        return Snapshot([self.store[key] for key in sorted(self.store)], self.revision)

    def relist(self) -> None:
        self.ipam.apply_batch(
            Snapshot([self.pages[key] for key in sorted(self.pages)], self.revision)
        )
        self.feed.apply_batch(self.snapshot())

    def known(self) -> dict[str, Any]:
        return {
            "policies": dict(self.engine.policies),
            "tenants": dict(self.engine.tenants),
            "endpoints": dict(self.engine.endpoints),
            "unreadable": dict(self.feed.unreadable),
            "disputed": dict(self.feed.disputed),
        }

    def anew(self) -> World:
        """A replica that has just started."""
        fresh = World(self.store, self.revision, pages=self.pages)
        for name in self.nodes:
            fresh.toggle(name)
        fresh.relist()
        return fresh


@example(
    [
        (KEYS.attached_to("n1", "b"), endpoint("x", "t", "10.0.0.2")),
        ("node", "n1"),
        (IPAM, allocation(KEYS, "10.0.0.2", "a", "n1", "t")),
    ]
)
@given(st.lists(STEPS, max_size=25))
def test_what_is_known_depends_on_what_is_stored(steps: list[tuple[str, Any]]) -> None:
    world = World()
    for key, value in steps:
        if key == "node":
            world.toggle(value)
        elif key == "relist":
            world.relist()
        elif key == IPAM:
            world.allocate(value)
        elif key == "set":
            world.apply(value)
        else:
            world.write((key, value))
    fresh = world.anew()
    assert world.known() == fresh.known()
    revisions = {name: entry.revision for name, entry in world.feed.policies.items()}
    assert revisions == {name: entry.revision for name, entry in fresh.feed.policies.items()}
    believed = [one for one in world.engine.endpoints.values() if one.node is not None]
    for one in believed:
        for address in one.addresses:
            holder = world.ipam.holder(address)
            assert holder is not None
            assert (holder.name, holder.node) == (one.name, one.node)
