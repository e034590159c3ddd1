"""Attach, detach and check over the agent's API, in real namespaces with a real ipam."""

from __future__ import annotations

import asyncio
import json
import os

import grpc
import pytest
from romana.agent.v1 import agent_service_pb2 as pb
from romana.agent.v1 import endpoint_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_pb

from services.agent.kernel.endpoint_names import host_interface
from services.common.model.names import EndpointName
from services.common.rpc.status import error_of
from tests.support.agent_node import Node
from tests.support.ipam_process import poll


async def refused(call: object) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    error = error_of(caught.value)
    return caught.value.code(), error.reason, error.message


async def test_an_endpoint_gets_all_that_it_needs(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    answer = await node_.attach("web-1", pod, network="net,six", mtu=1400)
    assert not answer.existed
    endpoint = answer.endpoint
    assert endpoint.state == endpoint_pb2.ENDPOINT_STATE_ATTACHED
    assert [item.address for item in endpoint.addresses] == ["10.1.0.0", "fd00:1::"]
    assert [item.gateway for item in endpoint.addresses] == ["169.254.1.1", "fe80::1"]
    (link,) = json.loads(pod.run("ip -j addr show dev eth0"))
    assert (link["address"], link["mtu"]) == (endpoint.mac, 1400)
    found = {(item["local"], item["prefixlen"]) for item in link["addr_info"]}
    assert found >= {("10.1.0.0", 32), ("fd00:1::", 128)}
    assert not [item for item in link["addr_info"] if item.get("tentative")]
    assert "default via 169.254.1.1 dev eth0" in pod.run("ip route")
    assert "default via fe80::1 dev eth0" in pod.run("ip -6 route")
    assert node_.links() == [endpoint.host_interface]
    (host,) = json.loads(node_.home.run(f"ip -j -d link show {endpoint.host_interface}"))
    assert host["ifalias"] == "romana endpoint web-1"
    checked = await node_.check("web-1")
    assert checked.problems == []
    assert checked.endpoint == endpoint


async def test_the_node_reaches_it_as_soon_as_it_has_a_route(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    node_.home.run("ip addr add 192.168.0.1/32 dev up0")
    endpoint = (await node_.attach("web-1", pod)).endpoint
    node_.home.run(f"ip route add 10.1.0.0/32 dev {endpoint.host_interface}")
    assert node_.home.pings("10.1.0.0")
    assert pod.pings("192.168.0.1")


async def test_the_same_request_again_changes_nothing(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    first = await node_.attach("web-1", pod)
    again = await node_.attach("web-1", pod)
    assert again.existed
    assert again.endpoint == first.endpoint
    other = await refused(node_.attach("web-1", pod, tenant="u"))
    assert other[:2] == (grpc.StatusCode.ALREADY_EXISTS, "ENDPOINT_EXISTS")
    assert len(node_.links()) == 1


async def test_detach_leaves_nothing_and_can_be_repeated(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    await node_.attach("web-1", pod)
    assert (await node_.detach("web-1")).addresses == ["10.1.0.0"]
    assert (await node_.detach("web-1")).addresses == []
    assert node_.links() == []
    assert await node_.addresses() == []
    assert node_.records() == []
    assert "eth0" not in pod.run("ip link")


async def test_endpoints_are_listed_by_name_in_pages(node_: Node) -> None:
    names = ["a", "b", "c"]
    pods = [node_.namespaces.new(name) for name in names]
    await asyncio.gather(*(node_.attach(name, pod) for name, pod in zip(names, pods, strict=True)))
    first = await node_.stub.ListEndpoints(pb.ListEndpointsRequest(page_size=2))
    rest = await node_.stub.ListEndpoints(
        pb.ListEndpointsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [item.name for item in (*first.endpoints, *rest.endpoints)] == names
    assert rest.next_page_token == ""
    status = await node_.stub.GetStatus(pb.GetStatusRequest())
    assert (status.node, status.endpoints, status.ready) == ("n1", 3, True)


async def test_concurrent_attaches_of_one_name_are_one(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    answers = await asyncio.gather(*(node_.attach("web-1", pod) for _ in range(8)))
    assert sorted(answer.existed for answer in answers) == [False] + [True] * 7
    assert len({answer.endpoint.mac for answer in answers}) == 1
    assert len(await node_.addresses()) == 1


async def test_what_is_wrong_is_said_and_leaves_nothing(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    taken = node_.namespaces.new("taken")
    taken.run("ip link add eth0 type veth peer name x0")
    code = grpc.StatusCode
    cases = [
        (node_.spec("e", "/run/netns/nowhere"), code.NOT_FOUND, "NAMESPACE_NOT_FOUND"),
        (node_.spec("e", "/etc/passwd"), code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (node_.spec("e", "relative"), code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (node_.spec("e", node_.home.path), code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (node_.spec("e", pod, interface="x" * 16), code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (node_.spec("e", taken), code.ALREADY_EXISTS, "INTERFACE_TAKEN"),
        (node_.spec("e", pod, mtu=9000), code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (node_.spec("e", pod, mtu=10), code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (node_.spec("e", pod, network="nix"), code.NOT_FOUND, "NETWORK_NOT_FOUND"),
        (node_.spec("e", pod, tenant="-"), code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (node_.spec("", pod), code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (endpoint_pb2.EndpointSpec(name="e", tenant="t"), code.INVALID_ARGUMENT, "INVALID_INPUT"),
    ]
    for spec, expected, reason in cases:
        call = node_.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=20)
        found = await refused(call)
        assert found[:2] == (expected, reason), (spec, found)
        assert await node_.addresses() == [], spec
        assert node_.links() == [], spec
        assert node_.records() == [], spec


async def test_a_tap_of_a_vm_is_prepared_and_left_as_it_is(node_: Node) -> None:
    node_.home.run("ip tuntap add tap0 mode tap")
    spec = node_.spec("vm-1", "/x")
    spec.target.interface.interface = "tap0"
    request = pb.AttachEndpointRequest(spec=spec)
    endpoint = (await node_.stub.AttachEndpoint(request)).endpoint
    assert endpoint.host_interface == "tap0"
    assert endpoint.mac == ""
    shown = node_.home.run("cat /proc/sys/net/ipv4/conf/tap0/proxy_arp")
    assert shown.strip() == "1"
    other = pb.AttachEndpointRequest(spec=spec)
    other.spec.name = "vm-2"
    found = await refused(node_.stub.AttachEndpoint(other))
    assert found[:2] == (grpc.StatusCode.ALREADY_EXISTS, "INTERFACE_TAKEN")
    assert (await node_.check("vm-1")).problems == []
    alike = "ee:ee:ee:ee:ee:ee"
    assert alike in node_.home.run("ip link show tap0")
    node_.home.run("ip link set tap0 address 02:00:00:00:00:01")

    async def is_again() -> bool:
        return alike in node_.home.run("ip link show tap0")

    await poll(is_again, 60)
    await node_.detach("vm-1")
    assert alike not in node_.home.run("ip link show tap0")
    assert await node_.addresses() == []


async def test_a_tap_that_was_made_anew_is_prepared_when_it_is_attached_again(node_: Node) -> None:
    spec = node_.spec("vm-1", "/x", network="net,six")
    spec.target.interface.interface = "tap0"
    for _ in range(2):
        node_.home.run("ip tuntap add tap0 mode tap")
        made = await node_.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=60)
        assert ",UP>" in node_.home.run("ip link show tap0")
        assert node_.home.run("cat /proc/sys/net/ipv4/conf/tap0/rp_filter").strip() == "1"
        assert "fe80::1/64" in node_.home.run("ip addr show dev tap0")
        assert (await node_.check("vm-1")).problems == []
        assert [item.address for item in made.endpoint.addresses] == ["10.1.0.0", "fd00:1::"]
        node_.home.run("ip link del tap0")


async def test_a_tap_is_nobody_elses_before_its_endpoint_is_detached(node_: Node) -> None:
    """Also of one that is undone: else its end would undo what another has made of the tap."""
    node_.home.run("ip tuntap add tap0 mode tap")
    node_.ipam.kill()
    spec = node_.spec("vm-1", "/x")
    spec.target.interface.interface = "tap0"
    call = node_.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=6)
    assert (await refused(call))[0] in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    await poll(lambda: len(node_.records()) == 1, 60)
    spec.name = "vm-2"
    call = node_.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=6)
    code, reason, _ = await refused(call)
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "INTERFACE_TAKEN")


@pytest.mark.parametrize("kind", ["attachment", "lo", "endpoint"])
async def test_the_nodes_own_interfaces_are_no_vms(node_: Node, kind: str) -> None:
    """One to a network would answer ARP for everybody there."""
    other = (await node_.attach("web-1", node_.namespaces.new("pod"))).endpoint
    interface = {"attachment": "up0", "lo": "lo", "endpoint": other.host_interface}[kind]
    arp = f"cat /proc/sys/net/ipv4/conf/{interface}/proxy_arp"
    before = node_.home.run(arp)
    spec = node_.spec("vm-1", "/x")
    spec.target.interface.interface = interface
    call = node_.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=60)
    code, _, message = await refused(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert interface in message
    assert node_.home.run(arp) == before
    assert len(await node_.addresses()) == 1


async def test_what_can_be_opened_for_ever_is_no_namespace(node_: Node) -> None:
    pipe = node_.folder / "pipe"
    os.mkfifo(pipe)
    for number in range(5):  # more than threads make links
        code, reason, _ = await refused(node_.attach(f"web-{number}", str(pipe)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT, reason


async def test_an_address_that_somebody_has_is_set_aside(node_: Node) -> None:
    outside = node_.namespaces._made[1]
    pod = node_.namespaces.new("pod")
    endpoint = (await node_.attach("web-0", pod, network="lan")).endpoint
    taken = endpoint.addresses[0].address
    await node_.detach("web-0")
    outside.run(f"ip addr add {taken}/24 dev up0")
    endpoint = (await node_.attach("web-1", pod, network="lan")).endpoint
    assert endpoint.addresses[0].address not in {"", taken}
    async with node_.ipam.connect() as stub:
        listed = await stub.ListReservations(ipam_pb.ListReservationsRequest())
    assert [item.name for item in listed.reservations] == [f"conflict-{taken}"]
    found = await refused(
        node_.attach("web-2", node_.namespaces.new("p2"), network="lan", address=taken)
    )
    assert found[0] in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION}


async def test_a_link_that_is_taken_away_is_made_anew(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    endpoint = (await node_.attach("web-1", pod)).endpoint
    pod.run("ip link del eth0")
    assert (await node_.check("web-1")).problems != []

    async def whole() -> bool:
        return not (await node_.check("web-1")).problems

    await poll(whole, 60)
    assert node_.links() == [endpoint.host_interface]


async def test_detach_gives_back_when_ipam_is_there_again(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    await node_.attach("web-1", pod)
    node_.ipam.kill()
    await node_.detach("web-1")
    assert node_.links() == []
    assert len(node_.records()) == 1
    node_.ipam.start()
    await node_.ipam.wait_until_active()
    await poll(lambda: node_.records() == [], 60)
    assert await node_.addresses() == []


async def test_attach_while_ipam_is_away_fails_in_time_and_leaves_nothing(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    node_.ipam.kill()
    spec = node_.spec("web-1", pod)
    call = node_.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=6)
    assert (await refused(call))[0] in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    assert node_.links() == []
    node_.ipam.start()
    await node_.ipam.wait_until_active()
    await poll(lambda: node_.records() == [], 60)
    assert await node_.addresses() == []


async def test_a_restart_keeps_endpoints_and_their_links(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    first = (await node_.attach("web-1", pod)).endpoint
    before = node_.home.run(f"cat /sys/class/net/{first.host_interface}/ifindex")
    assert node_.stop() == 0
    node_.start()
    again = await node_.attach("web-1", pod)
    assert again.existed
    assert again.endpoint == first
    assert node_.home.run(f"cat /sys/class/net/{first.host_interface}/ifindex") == before
    await node_.detach("web-1")
    assert await node_.addresses() == []


async def test_a_lost_journal_is_no_lost_link(node_: Node) -> None:
    pod = node_.namespaces.new("pod")
    await node_.attach("web-1", pod)
    gone = node_.namespaces.new("gone")
    node_.home.run(
        f"ip link add {host_interface(EndpointName('stray'))} type veth peer name s0"
        f" netns {gone.name}"
    )
    node_.kill()
    for path in (node_.folder / "state" / "endpoints").iterdir():
        path.unlink()
    node_.start()
    assert node_.links() == [host_interface(EndpointName("web-1"))]
    assert (await node_.detach("web-1")).addresses == ["10.1.0.0"]
    assert node_.links() == []
