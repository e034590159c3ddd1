"""Everything that two states of ipam can differ in, in a form that compares and reads well."""

from __future__ import annotations

import copy
import itertools
from collections import Counter

from services.common.errors import RomanaError
from services.common.model.names import Segment, Tenant
from services.ipam.deciding.commands import Allocated, CloseRested
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.pages import write_page
from tests.support.ipam_world import allocate, carry_out


def dump(ledger: Ledger) -> dict[str, object]:
    """Blocks with their pages, names, counters, areas."""
    index = ledger.index
    names = {name for block in index.blocks.values() for _, name in block.in_use()}
    return {
        "blocks": {
            str(block): (
                *(block.network, block.node, block.tenant, block.segment, block.born),
                *(f"{block.free:b}", f"{block.reserved:b}", block.used, block.resting),
                block.area.path if block.area is not None else None,
                ledger.is_stranded(block),
                [write_page(block, page) for page in range(block.pages)],
            )
            for _, block in sorted(index.blocks.items())
        },
        "names": {
            name: [(str(block), offset) for block, offset in index.places(name)]
            for name in sorted(names)
        },
        "used": index.used,
        "by_node": {
            node: sorted(places) for node, places in sorted(index.by_node.items()) if places
        },
        "visited": sorted(index.visited),
        "strays": sorted(ledger.strays),
        "returned": [
            (place, length)
            for place, (length, _) in sorted(
                ledger.returned.items(), key=lambda item: (item[1][1], item[0])
            )
        ],
        "areas": {
            (area.network.name, area.path): (
                *(area.used, area.resting, area.blocks, area.free(), area.pool.free),
                area.reserved_addresses(),
                {
                    owner: sorted(str(block) for block in holding.blocks)
                    for owner, holding in sorted(area.holdings.items())
                    if holding.blocks
                },
                {node: area.pool.choose(node) for node in sorted(ledger.nodes)},
            )
            for net in ledger.networks.values()
            for area in net.areas.values()
        },
    }


def choices(ledger: Ledger, now: int, most: int = 10) -> dict[str, list[list[str]]]:
    """What every owner would get next at three times, if nobody else came; changes nothing."""
    owners = sorted({(block.tenant, block.segment) for block in ledger.index.blocks.values()})
    owners.append((Tenant("stranger"), Segment("")))
    found = {}
    for later, node, owner in itertools.product((0, 3000, 60_000), sorted(ledger.nodes), owners):
        trial = copy.deepcopy(ledger)
        given = []
        for number in range(most):
            command = allocate(f"trial {number}", node, *owner)
            try:
                result = carry_out(trial, command, now + later)
            except RomanaError as error:
                given.append([error.reason])
                break
            assert isinstance(result, Allocated)
            given.append([item.text for item in result.addresses])
        found[f"{node} {owner} {later}"] = given
    return found


def after_closing(ledger: Ledger, now: int) -> dict[str, object]:
    """What would be left long after now, if nobody came; changes nothing."""
    trial = copy.deepcopy(ledger)
    carry_out(trial, CloseRested(100_000), now + 3_600_000)
    trial.saved(1)
    return dump(trial)


def recount(ledger: Ledger) -> None:
    """Asserts that what is counted as it changes equals a count of what is there."""
    used: Counter[object] = Counter()
    resting: Counter[object] = Counter()
    blocks: Counter[object] = Counter()
    addresses: Counter[tuple[int, int]] = Counter()
    for block in ledger.index.blocks.values():
        assert block.live
        assert block.used == sum(1 for _ in block.in_use()), str(block)
        rest = {item.offset for item in block.rest or ()}
        taken = {offset for offset, _ in block.in_use()}
        free = {offset for offset in range(block.size) if block.free >> offset & 1}
        reserved = {offset for offset in range(block.size) if block.reserved >> offset & 1}
        assert len(rest) == block.resting, str(block)
        assert {*(block.visits or ())} <= taken, str(block)
        assert bool(block.visits) is (block.place in ledger.index.visited), str(block)
        assert len(rest | taken | free) == len(rest) + len(taken) + len(free), str(block)
        assert not free & reserved, str(block)
        if block.area is not None:
            assert rest | taken | free | reserved == set(range(block.size)), str(block)
            assert block.area.pool.holder(block.area.slot(block.base)) == block.node
        key = id(block.area) if block.area is not None else None
        used[key] += block.used
        resting[key] += block.resting
        blocks[key] += 1
        addresses.update((block.bits, block.base + offset) for offset in range(block.size))
    assert ledger.index.used == used.total()
    for net in ledger.networks.values():
        for area in net.areas.values():
            key = id(area)
            assert (area.used, area.resting, area.blocks) == (used[key], resting[key], blocks[key])
            assert sum(len(holding.blocks) for holding in area.holdings.values()) == area.blocks
    assert addresses.total() == len(addresses), "blocks overlap"
