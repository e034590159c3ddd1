"""No address is an endpoint's and a node's, a gateway's or a subnet's at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1.allocation_pb2 import AddressSpec, AllocationSpec
from romana.topology.v1 import node_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.errors import InvalidInput
from services.common.etcd.types import Compare, Operation, Outcome, Put
from services.common.rpc.status import error_of
from tests.conftest import Store
from tests.contract.ipam.asking import findings
from tests.contract.topology.asking import allocate, apply, failing, register
from tests.contract.topology.replicas import Replica
from tests.support.ipam_process import IpamProcess

NETWORK = """
networks: [{name: n, cidr: 10.0.0.0/16, gateway: %s, mode: %s}]
topologies: [{networks: [n], groups: [%s]}]
"""


def network(gateway: str = "10.0.255.1", mode: str = "onlink", groups: str = "{name: a}") -> str:
    return NETWORK % (gateway, mode, groups)


async def attach(replica: Replica, name: str, address: str) -> node_pb2.Node:
    attachment = node_pb2.Attachment(network="n", address=address)
    node = node_pb2.Node(name=name, attachments=[attachment])
    return (await replica.stub.RegisterNode(api.RegisterNodeRequest(node=node))).node


@pytest.fixture
async def in_use(replica: Replica, store: Store) -> None:
    """10.0.0.8 and 10.0.0.9 are in use on node x, by e0 and e1."""
    await apply(replica, network())
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.8", "n/a", used=2)


@pytest.mark.usefixtures("in_use")
async def test_a_nodes_address_that_an_endpoint_has_is_refused_with_its_name(
    replica: Replica, store: Store
) -> None:
    before = await store.client.range(store.keys.root)
    refused = [
        await failing(register(replica, "y", "10.0.0.9")),
        await failing(attach(replica, "y", "10.0.0.9")),
    ]
    assert [error.reason for error in refused] == ["ADDRESS_IN_USE"] * 2
    assert all("'e1'" in error.message for error in refused)
    assert refused[0].metadata["field"] == "node.address"
    assert refused[1].metadata == {
        "field": "node.attachments[0].address",
        "address": "10.0.0.9",
        "name": "e1",
        "node": "x",
        "network": "n",
    }
    assert (await store.client.range(store.keys.root)).items == before.items
    assert (await attach(replica, "y", "10.0.0.10")).name == "y"


@pytest.mark.usefixtures("in_use")
async def test_an_update_may_keep_what_the_node_has_and_take_nothing_that_is_in_use(
    replica: Replica,
) -> None:
    node = await register(replica, "y", "10.0.1.1")
    node.labels["some"] = "label"
    node = (await replica.stub.UpdateNode(api.UpdateNodeRequest(node=node))).node
    node.address = "10.0.0.8"
    refused = await failing(replica.stub.UpdateNode(api.UpdateNodeRequest(node=node)))
    assert (refused.reason, refused.metadata["name"]) == ("ADDRESS_IN_USE", "e0")
    node.address, node.other_address = "fd00::1", "10.0.0.8"
    refused = await failing(replica.stub.UpdateNode(api.UpdateNodeRequest(node=node)))
    assert (refused.metadata["field"], refused.metadata["name"]) == ("node.other_address", "e0")


@pytest.mark.usefixtures("in_use")
@pytest.mark.parametrize("validate_only", [False, True])
async def test_a_gateway_that_an_endpoint_has_is_refused_with_its_name(
    replica: Replica,
    validate_only: bool,  # noqa: FBT001 - a parameter
) -> None:
    refused = await failing(apply(replica, network("10.0.0.9"), validate_only=validate_only))
    assert (refused.reason, refused.metadata["name"]) == ("ADDRESS_IN_USE", "e1")
    assert "gateway of network 'n'" in refused.message
    assert (await apply(replica, network("10.0.0.10"), validate_only=validate_only)).changed == (
        not validate_only
    )


@pytest.mark.usefixtures("in_use")
async def test_a_node_in_a_file_with_an_address_that_an_endpoint_has_is_refused(
    replica: Replica,
) -> None:
    listed = "{name: a, nodes: [{name: z, address: 10.0.0.8}]}"
    refused = await failing(apply(replica, network(groups=listed)))
    assert (refused.reason, refused.metadata["name"]) == ("ADDRESS_IN_USE", "e0")


async def test_a_subnet_takes_no_edge_from_who_has_it(replica: Replica, store: Store) -> None:
    await apply(replica, network(mode="routed"))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/a")
    refused = await failing(apply(replica, network()))
    assert (refused.reason, refused.metadata["name"]) == ("ADDRESS_IN_USE", "e0")


@pytest.mark.parametrize(
    ("gateway", "node", "field"),
    [("fd62::", "fd62::2", "gateway"), ("fd62::1", "fd62::", "address")],
)
async def test_the_address_that_every_router_answers_for_is_nobodys(
    replica: Replica, gateway: str, node: str, field: str
) -> None:
    attachment = f"{{network: n, address: '{node}'}}"
    text = f"""
networks: [{{name: n, cidr: "fd62::/64", gateway: "{gateway}", mode: onlink}}]
topologies:
  - networks: [n]
    groups: [{{name: a, nodes: [{{name: x, address: 192.0.2.1, attachments: [{attachment}]}}]}}]
"""
    refused = await failing(apply(replica, text))
    assert "subnet-router anycast" in refused.message
    assert isinstance(refused, InvalidInput)
    assert [item.path.rpartition(".")[2] for item in refused.violations] == [field]


# Both at once.


@pytest.mark.parametrize("block_there", [False, True])
@pytest.mark.parametrize("change", ["node", "gateway"])
async def test_an_address_that_is_taken_between_look_and_transaction_is_not_overlooked(
    replica: Replica,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    block_there: bool,  # noqa: FBT001 - a parameter
) -> None:
    await apply(replica, network())
    await register(replica, "x", "192.0.2.1")
    if block_there:
        await allocate(store, "x", "10.0.0.8", "n/a", used=1)
    transact = store.client.transact

    async def interrupted(demands: list[Compare], *operations: list[Operation]) -> Outcome:
        if len(demands) > 1:
            monkeypatch.setattr(store.client, "transact", transact)
            await allocate(store, "x", "10.0.0.8", "n/a", used=2)
        return await transact(demands, *operations)

    monkeypatch.setattr(store.client, "transact", interrupted)
    asked = apply(replica, network("10.0.0.9")) if change == "gateway" else None
    refused = await failing(asked or register(replica, "y", "10.0.0.9"))
    assert (refused.reason, refused.metadata["name"]) == ("ADDRESS_IN_USE", "e1")


async def test_only_what_sets_an_address_aside_says_so(replica: Replica, store: Store) -> None:
    """Each time that it is said, an allocation that is on its way is decided anew."""

    async def revision() -> int:
        item = await store.client.get(store.keys.aside)
        return item.mod_revision if item is not None else 0

    await apply(replica, network())
    await register(replica, "x", "192.0.2.1")
    assert await revision() == 0
    node = await attach(replica, "y", "10.0.0.1")
    said = await revision()
    assert said
    node.labels["some"] = "label"
    await replica.stub.UpdateNode(api.UpdateNodeRequest(node=node))
    assert await revision() == said
    await apply(replica, network("10.0.0.2"))
    assert await revision() > said


async def test_more_nodes_than_can_be_compared_are_written_in_several_transactions(
    replica: Replica, store: Store
) -> None:
    """Their addresses are in as many pages; somebody goes on allocating in others."""
    await apply(replica, network())
    await register(replica, "x", "192.0.2.1")
    nodes = ", ".join(
        f"{{name: n{number}, address: 10.0.{number // 32}.{number % 32 * 8}}}"
        for number in range(1, 300)
    )
    going_on = asyncio.create_task(_write_for_ever(store))
    try:
        done = await apply(replica, network(groups=f"{{name: a, nodes: [{nodes}]}}"))
    finally:
        going_on.cancel()
    assert done.changed
    stored = await store.client.range(store.keys.nodes)
    assert len(stored.items) == 300


async def _write_for_ever(store: Store) -> None:
    while True:
        await allocate(store, "x", "10.0.128.0", "n/a")
        await store.client.transact((), (Put(store.keys.commit, b"1"),))


async def test_an_address_that_both_want_at_once_is_given_to_one(
    replica: Replica, store: Store, tmp_path: Path
) -> None:
    await apply(replica, network())
    for number in (1, 2):
        await register(replica, f"h{number}", f"192.0.2.{number}")
    with IpamProcess.started(store.endpoint, store.keys.root, tmp_path) as ipam:
        await ipam.wait_until_active()
        async with ipam.connect() as stub:

            async def take(number: int) -> str:
                wanted = AddressSpec(address=f"10.0.0.{number}")
                asked = AllocationSpec(name=f"e{number}", node="h1", tenant="t", addresses=[wanted])
                request = ipam_api.AllocateAddressRequest(spec=asked)
                try:
                    await stub.AllocateAddress(request, timeout=20)
                except grpc.aio.AioRpcError as error:
                    return error_of(error).reason
                return "taken"

            async def set_aside(number: int) -> str:
                try:
                    await attach(replica, f"n{number}", f"10.0.0.{number}")
                except grpc.aio.AioRpcError as error:
                    return error_of(error).reason
                return "set aside"

            seen: set[tuple[str, str]] = set()
            for number in range(1, 41):
                calls = [take(number), set_aside(number)]
                order = 1 if number % 2 else -1
                answers = await asyncio.gather(*calls[::order])
                one, two = answers[::order]
                seen.add((one, two))
            assert seen <= {("taken", "ADDRESS_IN_USE"), ("ADDRESSES_EXHAUSTED", "set aside")}
            assert await findings(stub) == []
