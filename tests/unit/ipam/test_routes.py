from __future__ import annotations

from ipaddress import ip_network

import pytest

from services.ipam.routes.ortc import RouteTable
from services.ipam.routes.trie import Prefix


def at(text: str) -> Prefix:
    network = ip_network(text)
    return int(network.network_address), network.prefixlen


class Table:
    """A route table that speaks text."""

    def __init__(self, cidr: str) -> None:
        self.bits = ip_network(cidr).max_prefixlen
        self.table = RouteTable(*at(cidr), self.bits)

    def hold(self, **blocks: str) -> Table:
        for node, prefixes in blocks.items():
            for prefix in prefixes.split():
                self.table.set(*at(prefix), node)
        return self

    def clear(self, prefix: str) -> None:
        self.table.clear(*at(prefix))

    def routes(self) -> dict[str, str]:
        self.table.flush()
        return {self.text(prefix): node for prefix, node in sorted(self.table.routes.items())}

    def flush(self) -> tuple[dict[str, str], set[str]]:
        changes = self.table.flush()
        updated = {self.text(prefix): node for prefix, node in changes.updated.items()}
        return updated, {self.text(prefix) for prefix in changes.removed}

    def text(self, prefix: Prefix) -> str:
        base = prefix[0].to_bytes(self.bits // 8)
        return str(ip_network((base, prefix[1])))


def test_a_network_without_blocks_has_no_routes() -> None:
    table = Table("10.0.0.0/24")
    assert table.routes() == {}
    assert not table.table.flush()


def test_one_node_gets_the_free_space_up_to_the_network() -> None:
    assert Table("10.0.0.0/24").hold(a="10.0.0.16/29").routes() == {"10.0.0.0/24": "a"}


def test_a_nodes_blocks_share_a_route_across_another_nodes_block() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/29 10.0.0.24/29", b="10.0.0.8/29")
    assert table.routes() == {"10.0.0.0/24": "a", "10.0.0.8/29": "b"}


def test_neighbours_with_a_node_in_common_share_its_route() -> None:
    table = RouteTable(0, 0, 2)
    for base, node in enumerate("abac"):
        table.set(base, 2, node)
    table.flush()
    assert table.routes == {(0, 0): "a", (1, 2): "b", (3, 2): "c"}


def test_no_route_covers_a_forbidden_address() -> None:
    table = Table("10.0.0.0/28").hold(a="10.0.0.8/29")
    table.table.forbid(*at("10.0.0.1/32"))
    assert table.routes() == {"10.0.0.8/29": "a"}


def test_a_forbidden_address_is_cut_out_of_a_block() -> None:
    table = Table("10.0.0.0/28").hold(a="10.0.0.0/29")
    table.table.forbid(*at("10.0.0.0/31"))
    assert table.routes() == {"10.0.0.2/31": "a", "10.0.0.4/30": "a"}


def test_a_block_inside_a_forbidden_range_has_no_route_until_it_is_allowed() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/29")
    table.table.forbid(*at("10.0.0.0/25"))
    assert table.routes() == {}
    table.table.allow(*at("10.0.0.0/25"))
    assert table.routes() == {"10.0.0.0/24": "a"}


def test_what_is_forbidden_twice_needs_two_allows() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.128/29")
    for _ in range(2):
        table.table.forbid(*at("10.0.0.0/25"))
    table.table.allow(*at("10.0.0.0/25"))
    assert table.routes() == {"10.0.0.128/25": "a"}
    table.table.allow(*at("10.0.0.0/25"))
    assert table.routes() == {"10.0.0.0/24": "a"}
    with pytest.raises(ValueError, match="was not forbidden"):
        table.table.allow(*at("10.0.0.0/25"))


def test_a_node_that_grows_into_its_free_space_moves_no_route() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/29", b="10.0.0.128/29")
    table.flush()
    table.hold(a="10.0.0.8/29 10.0.0.16/29", b="10.0.0.136/29")
    assert table.flush() == ({}, set())


def test_a_node_that_starts_in_free_space_adds_one_route() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/29", b="10.0.0.128/29")
    assert table.flush() == ({"10.0.0.0/24": "a", "10.0.0.128/25": "b"}, set())
    table.hold(c="10.0.0.192/29")
    assert table.flush() == ({"10.0.0.192/26": "c"}, set())
    table.clear("10.0.0.192/29")
    assert table.flush() == ({}, {"10.0.0.192/26"})


def test_a_block_that_changes_hands_updates_its_route() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/29", b="10.0.0.128/29")
    table.flush()
    table.hold(c="10.0.0.128/29")
    assert table.flush() == ({"10.0.0.128/25": "c"}, set())


def test_what_was_undone_before_a_flush_is_not_seen() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/29", b="10.0.0.128/29")
    table.flush()
    table.hold(c="10.0.0.64/29")
    table.clear("10.0.0.64/29")
    assert table.flush() == ({}, set())


def test_prefixes_of_a_node() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/29 10.0.0.24/29", b="10.0.0.128/29 10.0.0.8/29")
    table.flush()
    assert table.table.prefixes_of("b") == {at("10.0.0.8/29"), at("10.0.0.128/25")}
    assert table.table.prefixes_of("nobody") == frozenset()


@pytest.mark.parametrize("prefix", ["10.0.0.0/29", "10.0.0.0/24", "10.0.0.16/30"])
def test_blocks_must_not_overlap(prefix: str) -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/30 10.0.0.16/28")
    before = table.routes()
    with pytest.raises(ValueError, match="overlaps another block"):
        table.hold(b=prefix)
    assert table.flush() == ({}, set())
    assert table.routes() == before


@pytest.mark.parametrize(
    ("base", "length", "message"),
    [
        (at("10.0.1.0/29")[0], 29, "is not within"),
        (at("10.0.0.0/16")[0], 16, "is not within"),
        (at("10.0.0.0/29")[0], 33, "is not within"),
        (at("10.0.0.4/30")[0], 29, "has host bits"),
    ],
)
def test_a_prefix_that_does_not_fit_is_refused(base: int, length: int, message: str) -> None:
    table = Table("10.0.0.0/24")
    with pytest.raises(ValueError, match=message):
        table.table.set(base, length, "a")
    assert table.routes() == {}


@pytest.mark.parametrize(("base", "length", "bits"), [(1, 24, 32), (1 << 32, 32, 32), (0, 33, 32)])
def test_a_network_that_is_no_prefix_is_refused(base: int, length: int, bits: int) -> None:
    with pytest.raises(ValueError, match=r"host bits|not a prefix"):
        RouteTable(base, length, bits)


def test_clearing_what_is_not_there_does_nothing() -> None:
    table = Table("10.0.0.0/24").hold(a="10.0.0.0/29")
    table.flush()
    table.clear("10.0.0.8/29")
    table.clear("10.0.0.0/28")
    assert table.flush() == ({}, set())


def test_ipv6_goes_the_same_way() -> None:
    table = Table("fd00:1::/48").hold(
        a="fd00:1::/122 fd00:1::80/122", b="fd00:1:0:8000::/122 fd00:1::40/122"
    )
    assert table.routes() == {
        "fd00:1::/48": "a",
        "fd00:1::40/122": "b",
        "fd00:1:0:8000::/49": "b",
    }


def test_a_history_of_nodes_leaves_nothing_behind() -> None:
    table = Table("10.0.0.0/24")
    for number in range(100):
        table.hold(**{f"node-{number}": "10.0.0.0/29"})
        table.flush()
    table.clear("10.0.0.0/29")
    table.flush()
    assert table.table.routes == {}
    assert len(table.table._nodes._spare) <= 2
    assert not list(table.table._trie.root.below())
