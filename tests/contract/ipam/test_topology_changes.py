"""The topology changes while addresses are in use and while they are being given."""

from __future__ import annotations

import asyncio

from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.etcd.types import Put
from services.common.records.layout import encode_layout
from tests.contract.ipam.asking import addresses_of, allocate, findings, one, refused, release
from tests.contract.ipam.conftest import NODES, Pair, usual_layout
from tests.support.ipam_process import drop_nodes, poll, seed
from tests.support.topologies import layout, network, node


async def test_addresses_of_a_node_that_is_gone_are_released_and_its_names_with_them(
    pair: Pair,
) -> None:
    for name in "abc":
        await one(pair.stub, name, "h2")
    await drop_nodes(pair.client, pair.keys, ["h2"])

    async def gone() -> bool:
        return not any([await addresses_of(pair.stub, name) for name in "abc"])

    await poll(gone, 60)
    assert await one(pair.stub, "a", "h1") == "10.0.0.0"
    with refused() as said:
        await one(pair.stub, "d", "h2")
    assert said.reasons == ["NODE_NOT_FOUND"]
    assert await release(pair.stub, "b") == []
    assert await findings(pair.stub) == []


async def test_a_network_that_is_gone_keeps_its_addresses_as_stranded(pair: Pair) -> None:
    await one(pair.stub, "a")
    shifted = network("new", "10.0.0.0/24", 30)
    await seed(pair.client, pair.keys, layout([shifted]))

    async def known() -> bool:
        answer = await pair.stub.GetUtilization(pb.GetUtilizationRequest())
        return [item.network for item in answer.networks] == ["new"]

    await poll(known, 60)
    blocks = await pair.stub.ListBlocks(pb.ListBlocksRequest())
    found = {item.prefix: (item.network, item.stranded, item.group) for item in blocks.blocks}
    assert found["10.0.0.0/29"] == ("net", True, "")
    taken = {await one(pair.stub, f"n{number}") for number in range(248)}
    assert len(taken) == 248
    assert taken.isdisjoint(f"10.0.0.{number}" for number in range(8))
    with refused() as said:
        await one(pair.stub, "more")
    assert said.reasons == ["ADDRESSES_EXHAUSTED"]
    assert set(await findings(pair.stub)) <= {"STRANDED"}
    assert await release(pair.stub, "a") == ["10.0.0.0"]
    assert await one(pair.stub, "more") in {f"10.0.0.{number}" for number in range(8)}


async def test_a_decision_on_an_old_layout_is_not_written(pair: Pair) -> None:
    """Layouts come one after the other while new blocks are being opened: every answer must be
    right by the layout that was in force when it was written."""
    other = layout([network("net", "10.5.0.0/24", 29)])
    stop = asyncio.Event()

    async def change() -> None:
        turn = 0
        while not stop.is_set():
            made = (other, usual_layout())[turn % 2]
            await pair.client.transact(
                (),
                (Put(pair.keys.generation, b"test"), Put(pair.keys.layout, encode_layout(made))),
            )
            turn += 1
            await asyncio.sleep(0.01)

    changing = asyncio.create_task(change())
    try:
        given = await asyncio.gather(
            *(one(pair.stub, f"n{number}", "h1", f"t{number}") for number in range(25))
        )
    finally:
        stop.set()
        await changing
    assert len(set(given)) == 25
    layouts = await _history(pair)
    for number in range(25):
        found = await pair.stub.GetAddress(pb.GetAddressRequest(name=f"n{number}"))
        item = found.allocations[0]
        base = int.from_bytes(bytes(map(int, item.block.partition("/")[0].split("."))), "big")
        stored = await pair.client.get(pair.keys.block(item.network, base, 0, 32))  # type: ignore[arg-type]
        assert stored is not None
        in_force = max(revision for revision in layouts if revision < stored.create_revision)
        assert (item.address.startswith("10.5.")) == (b"10.5.0.0" in layouts[in_force])


async def _history(pair: Pair) -> dict[int, bytes]:
    """Every layout that there was, by revision."""
    found: dict[int, bytes] = {}
    last = await pair.client.get(pair.keys.layout)
    assert last is not None
    async with pair.client.watch(pair.keys.layout, last.create_revision) as watch:
        while not found or max(found) < last.mod_revision:
            changes = await watch.next()
            for event in changes.events:
                assert event.item is not None
                found[event.revision] = event.item.value
    return found


async def test_a_node_that_moved_takes_from_its_new_group_only(pair: Pair) -> None:
    groups = {"one": {"net": "10.0.0.0/25"}, "two": {"net": "10.0.0.128/25"}}
    made = layout([network("net", "10.0.0.0/24", 29)], groups)
    await seed(pair.client, pair.keys, made, [node("h1", "one")])

    async def settled() -> bool:
        found = await pair.stub.EvaluateNodes(pb.EvaluateNodesRequest(tenant="t", nodes=["h1"]))
        return found.evaluations[0].group == "dc/one"

    await poll(settled, 60)
    assert await one(pair.stub, "a") == "10.0.0.0"
    await seed(pair.client, pair.keys, nodes=[node("h1", "two")])

    async def moved() -> bool:
        found = await pair.stub.EvaluateNodes(pb.EvaluateNodesRequest(tenant="t", nodes=["h1"]))
        return found.evaluations[0].group == "dc/two"

    await poll(moved, 60)
    assert await one(pair.stub, "b") == "10.0.0.128"
    assert await one(pair.stub, "a") == "10.0.0.0"
    assert await findings(pair.stub) == ["STRANDED"]


async def test_a_node_that_joins_may_allocate_at_once(pair: Pair) -> None:
    for number in range(5):
        await seed(pair.client, pair.keys, nodes=[node(f"new{number}")])

        async def there(name: str = f"new{number}") -> bool:
            try:
                await allocate(pair.stub, f"on {name}", name)
            except Exception as error:  # noqa: BLE001 - the feed may be a moment behind
                return "NODE" not in str(error) and "not registered" not in str(error)
            return True

        await poll(there, 60)
        assert await addresses_of(pair.stub, f"on new{number}")
    await drop_nodes(pair.client, pair.keys, [f"new{number}" for number in range(5)])
    await seed(pair.client, pair.keys, nodes=NODES)
