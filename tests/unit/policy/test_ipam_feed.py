"""Who has an address, as ipam's blocks say."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue, Put, Snapshot
from services.policy.store.ipam_feed import IpamFeed
from tests.support.ipam_records import allocation

KEYS = Keys("/r")
HELD = {"10.0.0.1": "four", "fd00::1": "six"}


@pytest.mark.parametrize("known", [("10.0.0.1",), ("fd00::1",), ("10.0.0.1", "fd00::1")])
def test_an_address_is_looked_up_among_blocks_of_its_family(known: tuple[str, ...]) -> None:
    feed = IpamFeed(KEYS)
    items = []
    for address in known:
        made = allocation(KEYS, address, HELD[address], "n1")
        assert isinstance(made, Put)
        items.append(KeyValue(made.key, made.value, 0, 2))
    feed.apply_batch(Snapshot(tuple(items), 2))
    for address, name in HELD.items():
        holder = feed.holder(ip_address(address))
        assert (holder.name if holder is not None else None) == (name if address in known else None)
        assert feed.holder(ip_address(address) + 1) is None
