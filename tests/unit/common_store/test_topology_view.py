"""What a view keeps of records that cannot be read, and when a node is gone."""

from __future__ import annotations

from services.common.etcd.keys import Keys
from services.common.etcd.types import Changes, Event, KeyValue, Snapshot
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.records.layout import encode_layout, encode_node
from services.common.store.topology_view import TopologyDifference, TopologyView
from services.common.store.unreadable import counts
from tests.support.topologies import layout, network, node

KEYS = Keys("/x")
H1, H2 = NodeName("h1"), NodeName("h2")
LAYOUT = layout([network("net", "10.0.0.0/24")])
BAD = b'{"name":"h1","address":"192.0.2.300"}'


def put(key: str, value: bytes, revision: int) -> KeyValue:
    return KeyValue(key, value, 1, revision)


def a_node(name: NodeName, revision: int, value: bytes | None = None) -> KeyValue:
    return put(KEYS.node(name), encode_node(node(name)) if value is None else value, revision)


def a_layout(revision: int, value: bytes | None = None) -> KeyValue:
    return put(KEYS.layout, encode_layout(LAYOUT) if value is None else value, revision)


def changed(*items: KeyValue) -> Changes:
    events = [Event(item.key, item, item.mod_revision) for item in items]
    return Changes(events, events[-1].revision)


def deleted(key: str, revision: int) -> Changes:
    return Changes((Event(key, None, revision),), revision)


def view_of(*items: KeyValue) -> TopologyView:
    view = TopologyView(KEYS)
    view.apply_batch(Snapshot(items, max((item.mod_revision for item in items), default=1)))
    return view


def names(*found: NodeName) -> frozenset[NodeName]:
    return frozenset(found)


def test_a_snapshot_tells_all_there_is() -> None:
    view = TopologyView(KEYS)
    assert not view.in_sync
    generation = put(KEYS.generation, b"1", 4)
    difference = view.apply_batch(Snapshot((a_layout(2), a_node(H1, 3), generation), 5))
    assert difference == TopologyDifference(
        layout=True, nodes=names(H1), gone=names(), appeared=names(H1)
    )
    assert (view.layout, view.layout_revision, view.generation) == (LAYOUT, 2, 4)
    assert view.nodes == {H1: node("h1")}
    assert view.node_revisions == {H1: 3}
    assert view.revision == 5
    assert view.in_sync


def test_what_is_as_it_was_is_no_difference() -> None:
    view = view_of(a_layout(2), a_node(H1, 3))
    assert not view.apply_batch(Snapshot((a_layout(2), a_node(H1, 3)), 9))
    assert not view.apply_batch(Changes((), 10))
    assert view.revision == 10


def test_a_node_that_a_snapshot_lacks_is_not_gone() -> None:
    view = view_of(a_node(H1, 2), a_node(H2, 3))
    assert not view.apply_batch(Snapshot((a_node(H2, 3),), 9))
    assert view.exists(H1)
    assert set(view.nodes) == {H1, H2}


def test_a_node_of_which_the_absence_was_proved_is_gone() -> None:
    view = view_of(a_node(H1, 2), a_node(H2, 3))
    difference = view.apply_batch(Snapshot((a_node(H2, 3),), 9, gone=(KEYS.node(H1),)))
    assert difference == TopologyDifference(gone=names(H1))
    assert not view.exists(H1)


def test_a_node_of_which_the_deletion_was_seen_is_gone() -> None:
    view = view_of(a_node(H1, 2))
    assert view.apply_batch(deleted(KEYS.node(H1), 3)) == TopologyDifference(gone=names(H1))
    assert not view.exists(H1)
    assert view.node_revisions == {}


def test_a_node_that_came_back_in_the_same_batch_has_not_gone() -> None:
    view = view_of(a_node(H1, 2))
    back = a_node(H1, 4)
    difference = view.apply_batch(
        Changes((Event(back.key, None, 3), Event(back.key, back, 4)), 4),
    )
    assert difference == TopologyDifference(nodes=names(H1))


def test_a_node_that_was_and_went_within_a_batch_never_was() -> None:
    view = view_of()
    it = a_node(H1, 3)
    assert not view.apply_batch(Changes((Event(it.key, it, 3), Event(it.key, None, 4)), 4))


def test_what_cannot_be_read_stays_as_it_was_known() -> None:
    view = view_of(a_layout(2), a_node(H1, 3))
    assert not view.apply_batch(changed(a_layout(4, b"["), a_node(H1, 5, BAD)))
    assert view.layout == LAYOUT
    assert view.layout_known
    assert view.nodes == {H1: node("h1")}
    assert (view.layout_revision, view.node_revisions) == (4, {H1: 5})
    assert not view.is_readable(H1)
    assert counts(view.unreadable) == {"layout": 1, "node": 1}
    assert view.unreadable[KEYS.node(H1)].revision == 5


def test_what_never_could_be_read_is_there_all_the_same() -> None:
    view = TopologyView(KEYS)
    difference = view.apply_batch(Snapshot((a_layout(2, b"["), a_node(H1, 3, BAD)), 3))
    assert difference == TopologyDifference(appeared=names(H1))
    assert view.exists(H1)
    assert view.blank() == names(H1)
    assert view.nodes == {}
    assert view.layout == Layout()
    assert not view.layout_known
    assert not view.in_sync
    assert set(view.unreadable) == {KEYS.layout, KEYS.node(H1)}


def test_what_can_be_read_again_is_taken() -> None:
    view = view_of(a_layout(2, b"["), a_node(H1, 3, BAD))
    difference = view.apply_batch(changed(a_layout(4), a_node(H1, 5)))
    assert difference == TopologyDifference(layout=True, nodes=names(H1))
    assert view.layout_known
    assert view.blank() == names()
    assert not view.unreadable


def test_a_record_that_cannot_be_read_and_is_deleted_is_gone() -> None:
    view = view_of(a_node(H1, 3, BAD))
    assert view.apply_batch(deleted(KEYS.node(H1), 4)) == TopologyDifference(gone=names(H1))
    assert not view.unreadable


def test_a_record_that_names_another_node_cannot_be_read() -> None:
    view = view_of(a_node(H1, 3, encode_node(node("h2"))))
    assert "it says 'h2'" in view.unreadable[KEYS.node(H1)].why
    assert view.nodes == {}


def test_a_layout_that_is_deleted_is_an_empty_one() -> None:
    view = view_of(a_layout(2))
    assert view.apply_batch(deleted(KEYS.layout, 3)) == TopologyDifference(layout=True)
    assert (view.layout, view.layout_revision) == (Layout(), 0)
    assert view.layout_known


def test_foreign_keys_are_none_of_its_business() -> None:
    view = view_of()
    assert not view.apply_batch(changed(put("/x/topology/else", b"{", 3)))
    assert not view.unreadable


def test_a_node_that_was_removed_by_force_is_noted_until_it_is_forgotten() -> None:
    view = view_of(a_node(H1, 2))
    mark = put(KEYS.removed_node(H1), b"{}", 3)
    difference = view.apply_batch(
        Changes((Event(KEYS.node(H1), None, 3), Event(mark.key, mark, 3)), 3),
    )
    assert difference == TopologyDifference(gone=names(H1), removed=names(H1))
    assert view.removed.keys() == {H1}
    assert not view.apply_batch(Snapshot((mark,), 4))
    assert not view.apply_batch(Snapshot((), 5, gone=(mark.key,)))
    assert not view.removed


def test_what_could_be_read_last_is_known_to_who_starts() -> None:
    view = TopologyView(KEYS)
    earlier = (a_layout(2), a_node(H1, 3))
    difference = view.apply_batch(
        Snapshot((a_layout(5, b"["), a_node(H1, 6, BAD)), 7, earlier=earlier),
    )
    assert difference == TopologyDifference(layout=True, nodes=names(H1), appeared=names(H1))
    assert (view.layout, view.nodes) == (LAYOUT, {H1: node("h1")})
    assert (view.layout_revision, view.node_revisions) == (5, {H1: 6})
    assert view.in_sync
    assert view.blank() == names()
    assert set(view.unreadable) == {KEYS.layout, KEYS.node(H1)}
