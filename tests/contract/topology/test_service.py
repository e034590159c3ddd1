"""The topology service over gRPC on a real etcd: what it is told and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from romana.topology.v1 import topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.etcd.types import Delete
from services.common.process.version import version
from services.topology.forms.initial import read_initial
from services.topology.store.apply import ApplyOptions
from tests.contract.topology.asking import EXAMPLE, RACKS, apply, failing, racks, register
from tests.contract.topology.replicas import Replica


async def test_apply_answers_the_plan_and_again_changes_nothing(replica: Replica) -> None:
    first = await apply(replica, EXAMPLE)
    assert first.changed
    assert len(first.plan.networks) == 4
    again = await apply(replica, EXAMPLE)
    assert not again.changed
    assert again.plan == topology_pb2.TopologyPlan()
    assert again.etag == first.etag


async def test_validate_only_changes_nothing(
    replica: Replica, dump: Callable[[], Awaitable[list[tuple[str, bytes, int]]]]
) -> None:
    answer = await apply(replica, EXAMPLE, validate_only=True)
    assert len(answer.plan.groups) == 8
    assert not answer.changed
    assert await dump() == []


async def test_what_is_read_back_can_be_applied_again(replica: Replica) -> None:
    await apply(replica, EXAMPLE)
    got = await replica.stub.GetTopology(api.GetTopologyRequest())
    rack = got.spec.topologies[0].groups[1]
    assert rack.path == "datacenter/rack-2"
    assert rack.carved_prefixes["admin"] == "10.50.8.0/21"
    assert not (await replica.stub.ApplyTopology(api.ApplyTopologyRequest(spec=got.spec))).changed


async def test_export_with_nodes_makes_the_same_elsewhere(replica: Replica) -> None:
    await apply(replica, racks("a", "b", "c", "d", "e"))
    await apply(replica, racks("e", "b"))
    await register(replica, "x", "192.0.2.1", k="1e3")
    await register(replica, "y", "192.0.2.2")
    before = await replica.stub.GetTopology(api.GetTopologyRequest())
    for form in (topology_pb2.DOCUMENT_FORMAT_YAML, topology_pb2.DOCUMENT_FORMAT_JSON):
        request = api.ExportTopologyRequest(format=form, include_nodes=True)
        document = (await replica.stub.ExportTopology(request)).document
        await replica.store._client.transact(
            (), (Delete(replica.store.keys.topology, prefix=True),)
        )
        await replica.stub.ApplyTopology(api.ApplyTopologyRequest(document=document))
        after = await replica.stub.GetTopology(api.GetTopologyRequest())
        assert after.spec == before.spec
        node = (await replica.stub.GetNode(api.GetNodeRequest(name="x"))).node
        assert node.labels == {"k": "1e3"}
        assert node.pins == {"n": node.placements[0].group}


@pytest.mark.parametrize(
    "name", [topology_pb2.BUILTIN_NAME_FLAT, topology_pb2.BUILTIN_NAME_KUBEADM]
)
async def test_builtins_take_every_node(
    replica: Replica, name: topology_pb2.BuiltinName.ValueType
) -> None:
    builtin = topology_pb2.BuiltinTopology(name=name, cidr="10.64.0.0/13")
    await replica.stub.ApplyTopology(api.ApplyTopologyRequest(builtin=builtin))
    got = await replica.stub.ListNetworks(api.ListNetworksRequest())
    assert [network.cidr for network in got.networks] == ["10.64.0.0/13"]
    for number in range(1, 10):
        assert (await register(replica, f"n{number}", f"192.0.2.{number}")).placements


async def test_registering_again_returns_the_same_node(replica: Replica) -> None:
    await apply(replica, racks("a", "b"))
    first = await register(replica, "x", "192.0.2.1")
    assert await register(replica, "x", "192.0.2.1") == first
    assert first.networks == ["n"]
    assert first.create_time.seconds > 0


async def test_pages_go_on_after_a_name_that_has_gone(replica: Replica) -> None:
    await apply(replica, racks("a"))
    for number in range(1, 8):
        await register(replica, f"x{number}", f"192.0.2.{number}")
    first = await replica.stub.ListNodes(api.ListNodesRequest(page_size=3))
    await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x3"))
    await register(replica, "x0", "192.0.2.100")
    rest = await replica.stub.ListNodes(api.ListNodesRequest(page_token=first.next_page_token))
    assert [node.name for node in rest.nodes] == ["x4", "x5", "x6", "x7"]
    assert rest.next_page_token == ""


async def test_a_tenants_networks_come_in_the_order_they_are_tried(replica: Replica) -> None:
    await apply(
        replica,
        "networks: [{name: o, cidr: 10.1.0.0/16}, {name: t, cidr: 10.2.0.0/16, tenants: [x]},"
        " {name: u, cidr: 10.3.0.0/16, tenants: [y]}]\ntopologies: [{networks: [o, t, u]}]",
    )
    first = await replica.stub.ListNetworks(api.ListNetworksRequest(tenant="x", page_size=1))
    request = api.ListNetworksRequest(tenant="x", page_token=first.next_page_token)
    rest = await replica.stub.ListNetworks(request)
    assert [n.name for n in (*first.networks, *rest.networks)] == ["t", "o"]


async def test_nodes_are_listed_by_group_network_and_label(replica: Replica) -> None:
    await apply(replica, RACKS % "{name: z, groups: [{name: a}]}, {name: b, assignment: {r: b}}")
    await register(replica, "x", "192.0.2.1")
    await register(replica, "y", "192.0.2.2", r="b")

    async def listed(**by: object) -> list[str]:
        request = api.ListNodesRequest(**by)  # type: ignore[arg-type]
        return [node.name for node in (await replica.stub.ListNodes(request)).nodes]

    assert await listed(group="n/z") == ["x"]
    assert await listed(group="n", network="n") == ["x", "y"]
    assert await listed(labels={"r": "b"}) == ["y"]
    request = api.ListNodesRequest(group="n/q")
    assert (await failing(replica.stub.ListNodes(request))).reason == "GROUP_NOT_FOUND"


async def test_status_says_what_this_replica_knows(replica: Replica, other: Replica) -> None:
    await apply(replica, EXAMPLE)
    await register(replica, "x", "192.0.2.1", rack="rack-1")
    status = await replica.stub.GetStatus(api.GetStatusRequest())
    assert (status.networks, status.topologies, status.nodes) == (4, 1, 1)
    assert status.groups == len(list(replica.store.cache.layout.topologies[0].walk()))
    assert status.in_sync
    assert (status.version, status.epoch) == (version(), "epoch")
    assert status.revision == replica.store.cache.revision
    elsewhere = await other.stub.GetStatus(api.GetStatusRequest())
    assert elsewhere.replica != status.replica


async def test_a_watch_sends_everything_then_every_change_and_ends_with_the_server(
    replica: Replica, other: Replica
) -> None:
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    watch = replica.stub.WatchTopology(api.WatchTopologyRequest())
    stream = aiter(watch)
    first = await anext(stream)
    assert first.in_sync
    assert first.spec.networks[0].name == "n"
    assert [node.name for node in first.updated_nodes] == ["x"]
    await register(other, "y", "192.0.2.2")
    second = await anext(stream)
    assert [node.name for node in second.updated_nodes] == ["y"]
    assert not second.HasField("spec")
    assert second.revision > first.revision
    await other.stub.DeleteNode(api.DeleteNodeRequest(name="x"))
    assert (await anext(stream)).removed_nodes == ["x"]
    await apply(other, racks("a", "b"))
    assert (await anext(stream)).spec.topologies[0].groups[1].name == "b"
    await replica.server.drain()
    assert (await failing(anext(stream))).reason == "DRAINING"


async def test_metrics_say_what_there_is(replica: Replica) -> None:
    await apply(replica, EXAMPLE)
    text = generate_latest(replica.registry).decode()
    assert "romana_topology_networks 4.0" in text
    assert 'romana_topology_changes_total{operation="apply",outcome="changed"} 1.0' in text
    assert 'romana_topology_changes_total{operation="delete",outcome="refused"} 0.0' in text


async def test_the_initial_topology_is_applied_once_only(replica: Replica, tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(racks("a"))
    first = await replica.topology.apply(read_initial(str(path)), ApplyOptions(only_first=True))
    second = await replica.topology.apply(read_initial("kubeadm"), ApplyOptions(only_first=True))
    assert (first.changed, second.changed) == (True, False)
    assert [network.name for network in replica.store.cache.layout.networks] == ["n"]
