"""What agents said of nodes that are gone."""

from __future__ import annotations

from ipaddress import ip_address

from services.common.etcd.types import Put
from services.common.model.devices import Arm, DeviceGroupName, DeviceName
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.rules import Direction, PolicyName, Tier
from services.common.process.metrics import new_registry
from services.common.sync.metrics import SyncMetrics
from services.policy.agents.streams import RuleStreams
from services.policy.devices.health import Observed, Seen
from services.policy.model import Endpoint, EndpointSelector, Policy
from services.policy.store import codec
from services.policy.store.codec_devices import encode_observed
from services.policy.store.gone_nodes import KEPT_SECONDS, GoneNodes
from services.policy.store.store import PolicyStore
from tests.conftest import Store
from tests.support.ipam_process import drop_nodes
from tests.support.ipam_records import allocation, release, written

LEG = (DeviceGroupName("g"), DeviceName("d"), NetworkName("net"), Arm.INSIDE)
NODES = [NodeName(name) for name in ("h1", "h2")]


async def said(store: Store, replica: PolicyStore) -> None:
    """Each node has an endpoint, as ipam says too, and sees a device."""
    keys = store.keys
    operations = [Put(keys.policy_generation, b"1")]
    for number, node in enumerate(NODES, 1):
        name, address = EndpointName(f"e{number}"), f"10.0.0.{number}"
        one = Endpoint(name, Tenant("t"), Segment(""), addresses=(ip_address(address),))
        operations += [
            Put(keys.attached_to(node, name), codec.encode_endpoint(one)),
            Put(keys.observed_by(node), encode_observed(Observed(1.0, {LEG: Seen(is_up=True)}))),
        ]
        await written(store.client, keys, [allocation(keys, address, name, node)])
    await store.client.transact((), operations)
    await replica.confirm()


async def kept(store: Store, node: NodeName) -> int:
    """Records of a node."""
    keys = store.keys
    found = await store.client.range(keys.attached_to(node))
    return len(found.items) + (await store.client.get(keys.observed_by(node)) is not None)


async def test_what_was_said_of_a_node_goes_some_time_after_it(
    store: Store, replica: PolicyStore
) -> None:
    await said(store, replica)
    now = 0.0
    gone = GoneNodes(replica, lambda: now)
    await gone.look()
    await drop_nodes(store.client, store.keys, ["h1"])
    await written(store.client, store.keys, [release(store.keys, "10.0.0.1")])
    await replica.confirm()
    await gone.look()
    now = KEPT_SECONDS - 1
    await gone.look()
    assert [await kept(store, node) for node in NODES] == [2, 2]
    now = KEPT_SECONDS
    await gone.look()
    assert [await kept(store, node) for node in NODES] == [0, 2]
    assert list(replica.feed.attached) == ["h2"]
    assert list(replica.feed.devices.observed) == ["h2"]


async def test_what_ipam_still_gives_a_node_that_is_gone_is_kept(
    store: Store, replica: PolicyStore
) -> None:
    await said(store, replica)
    await drop_nodes(store.client, store.keys, ["h1"])
    await replica.confirm()
    now = 0.0
    gone = GoneNodes(replica, lambda: now)
    await gone.look()
    now = KEPT_SECONDS
    await gone.look()
    assert await store.client.get(store.keys.attached_to(NODES[0], "e1")) is not None


async def test_what_a_node_says_that_is_registered_again_stays(
    store: Store, replica: PolicyStore
) -> None:
    await said(store, replica)
    await drop_nodes(store.client, store.keys, ["h1"])
    await written(store.client, store.keys, [release(store.keys, "10.0.0.1")])
    await replica.confirm()
    now = 0.0
    gone = GoneNodes(replica, lambda: now)
    await gone.look()
    now = KEPT_SECONDS
    # it comes before this replica hears of it
    await store.client.put(store.keys.node(NODES[0]), b"{}")
    await gone.look()
    assert await kept(store, NODES[0]) == 2


async def test_nothing_is_kept_of_what_a_node_needed_that_is_gone(
    store: Store, replica: PolicyStore
) -> None:
    registry = new_registry("policy")
    streams = RuleStreams(replica, "epoch", SyncMetrics("policy", registry), lambda _: None)
    await said(store, replica)
    name = PolicyName("p")
    everybody = Policy(name, Tier.TENANT, (EndpointSelector(),), {Direction.INGRESS: ()})
    document = codec.encode_policy(codec.Stored(everybody, 1, 1))
    await store.client.put(f"{store.keys.policies}{name}", document)
    await replica.confirm()
    assert replica.engine.nodes_needing(name) == {"h1", "h2"}
    await drop_nodes(store.client, store.keys, ["h1"])
    await replica.confirm()
    assert replica.engine.nodes_needing(name) == {"h2"}
    assert "h1" not in streams._left
    assert "h1" not in streams.spans
