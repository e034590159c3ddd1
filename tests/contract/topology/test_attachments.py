"""On which networks a node is, and what becomes of that when nodes and networks change."""

from __future__ import annotations

from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.errors import InvalidInput
from tests.contract.topology.asking import EXAMPLE, apply, failing
from tests.contract.topology.replicas import Replica


async def test_a_node_may_be_attached_to_some_networks_only(replica: Replica) -> None:
    await apply(replica, EXAMPLE)
    shared = node_pb2.Node(
        name="shared",
        labels={"rack": "rack-1"},
        attachments=[
            node_pb2.Attachment(
                network="qa",
                interface="eth0.30",
                address="10.30.0.2",
                vlan_id=30,
                parent_interface="eth0",
            ),
            node_pb2.Attachment(network="test", interface="eth1", address="10.20.0.2"),
        ],
    )
    answer = await replica.stub.RegisterNode(api.RegisterNodeRequest(node=shared))
    assert answer.node.networks == ["test", "qa"]
    assert answer.node.attachments == shared.attachments


async def dedicated(replica: Replica) -> node_pb2.Node:
    """A node whose only network is qa."""
    await apply(replica, EXAMPLE)
    wanted = node_pb2.Node(
        name="n",
        address="192.0.2.1",
        labels={"rack": "rack-1"},
        attachments=[node_pb2.Attachment(network="qa", interface="eth1", address="10.30.0.2")],
    )
    answer = await replica.stub.RegisterNode(api.RegisterNodeRequest(node=wanted))
    assert answer.node.empty_attachments == node_pb2.EMPTY_ATTACHMENTS_UNSPECIFIED
    return answer.node


async def update(replica: Replica, node: node_pb2.Node) -> node_pb2.Node:
    return (await replica.stub.UpdateNode(api.UpdateNodeRequest(node=node))).node


async def test_a_node_does_not_land_on_every_network_unasked(replica: Replica) -> None:
    node = await dedicated(replica)
    without = node_pb2.Node()
    without.CopyFrom(node)
    del without.attachments[:]
    found = await failing(update(replica, without))
    assert isinstance(found, InvalidInput)
    assert [violation.path for violation in found.violations] == ["node.empty_attachments"]
    assert (await replica.stub.GetNode(api.GetNodeRequest(name="n"))).node == node


async def test_a_node_may_be_on_no_network(replica: Replica) -> None:
    node = await dedicated(replica)
    del node.attachments[:]
    node.empty_attachments = node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK
    nowhere = await update(replica, node)
    assert (list(nowhere.networks), list(nowhere.placements)) == ([], [])
    assert nowhere.empty_attachments == node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK

    # what was read is sent back with another label, as by whoever does not know of the field
    nowhere.labels["colour"] = "blue"
    nowhere = await update(replica, nowhere)
    assert list(nowhere.networks) == []

    # and whoever makes it up leaves it where it is, too
    made_up = node_pb2.Node(name="n", address="192.0.2.1", labels={"rack": "rack-1"})
    assert isinstance(await failing(update(replica, made_up)), InvalidInput)

    nowhere.attachments.add(network="test", interface="eth1")
    assert list((await update(replica, nowhere)).networks) == ["test"]


async def test_a_node_is_put_on_every_network_when_that_is_said(replica: Replica) -> None:
    node = await dedicated(replica)
    del node.attachments[:]
    node.empty_attachments = node_pb2.EMPTY_ATTACHMENTS_EVERY_NETWORK
    everywhere = await update(replica, node)
    assert list(everywhere.networks) == ["test", "qa", "production", "admin"]
    assert everywhere.empty_attachments == node_pb2.EMPTY_ATTACHMENTS_EVERY_NETWORK
    everywhere.attachments.add(network="test", interface="eth1")
    assert list((await update(replica, everywhere)).networks) == ["test"]


async def test_a_node_without_any_address_may_be_on_no_network_only(replica: Replica) -> None:
    await apply(replica, EXAMPLE)
    bare = node_pb2.Node(name="n", labels={"rack": "rack-1"})
    found = await failing(replica.stub.RegisterNode(api.RegisterNodeRequest(node=bare)))
    assert isinstance(found, InvalidInput)
    bare.empty_attachments = node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK
    answer = await replica.stub.RegisterNode(api.RegisterNodeRequest(node=bare))
    assert list(answer.node.networks) == []


async def test_a_listed_node_keeps_its_attachments_unless_they_are_said(replica: Replica) -> None:
    await dedicated(replica)
    await apply(
        replica,
        EXAMPLE.replace("- name: rack-1", "- name: rack-1\n        nodes: [{name: n}]", 1),
    )
    node = (await replica.stub.GetNode(api.GetNodeRequest(name="n"))).node
    assert list(node.networks) == ["qa"]
    await apply(
        replica,
        EXAMPLE.replace(
            "- name: rack-1",
            "- name: rack-1\n        nodes: [{name: n, empty_attachments: every_network}]",
            1,
        ),
    )
    node = (await replica.stub.GetNode(api.GetNodeRequest(name="n"))).node
    assert list(node.networks) == ["test", "qa", "production", "admin"]
    found = await failing(
        apply(
            replica,
            EXAMPLE.replace(
                "- name: rack-1",
                "- name: rack-1\n        nodes: [{name: n, empty_attachments: no_network}]",
                1,
            ),
        )
    )
    assert isinstance(found, InvalidInput)


async def test_a_vlan_is_renumbered_in_one_step_and_attachments_go_along(replica: Replica) -> None:
    def document(vlan: int) -> api.ApplyTopologyRequest:
        text = (
            f"networks: [{{name: qa, cidr: 10.0.0.0/16, vlan: {vlan}}}]\n"
            "topologies: [{networks: [qa], groups: [{name: g}]}]"
        )
        return api.ApplyTopologyRequest(document=topology_pb2.TopologyDocument(text=text))

    await replica.stub.ApplyTopology(document(30))
    attachment = node_pb2.Attachment(
        network="qa", interface="eth1.30", address="10.0.127.2", vlan_id=30, parent_interface="eth1"
    )
    await replica.stub.RegisterNode(
        api.RegisterNodeRequest(
            node=node_pb2.Node(name="x", address="192.0.2.1", attachments=[attachment])
        )
    )
    asked = document(31)
    asked.validate_only = True
    plan = (await replica.stub.ApplyTopology(asked)).plan
    (network,) = plan.networks
    assert [(one.field, one.before, one.after) for one in network.values] == [
        ("vlan_id", "30", "31")
    ]
    (change,) = plan.attachments
    assert (change.node, change.before, change.after.interface) == ("x", attachment, "eth1.31")
    asked.validate_only = False
    await replica.stub.ApplyTopology(asked)
    node = (await replica.stub.GetNode(api.GetNodeRequest(name="x"))).node
    assert list(node.attachments) == [change.after]
    assert not (await replica.stub.ApplyTopology(asked)).changed


async def test_what_a_change_of_networks_left_behind_keeps_no_node_from_being_cordoned(
    replica: Replica,
) -> None:
    node = await dedicated(replica)
    moved = EXAMPLE.replace("10.30.0.0/16", "10.31.0.0/16").replace("10.30.0.1", "10.31.0.1")
    await apply(replica, moved)
    node = (await replica.stub.GetNode(api.GetNodeRequest(name="n"))).node
    node.cordoned = True
    node.labels["colour"] = "blue"
    node = await update(replica, node)
    assert node.cordoned
    await replica.stub.RegisterNode(api.RegisterNodeRequest(node=node))

    node.attachments[0].address = "10.30.0.3"
    found = await failing(update(replica, node))
    assert isinstance(found, InvalidInput)
    assert [violation.path for violation in found.violations] == ["node.attachments[0].address"]
    node.attachments[0].address = "10.31.0.2"
    assert (await update(replica, node)).attachments[0].address == "10.31.0.2"
