"""Pods get addresses, reach each other, and leave nothing."""

from __future__ import annotations

import ipaddress

from tests.kubernetes.objects import PORT, Pods, deployment, namespace, pod, service
from tests.kubernetes.romana import PODS, WIRES, Romana
from tests.kubernetes.shell import until


def test_pods_reach_each_other_on_their_node_and_on_others(pods: Pods) -> None:
    pods.run(pod("one", node="node-1"), pod("two", node="node-1"), pod("three", node="node-2"))
    for name in ("two", "three"):
        address = pods.address(name)
        assert ipaddress.IPv4Address(address) in PODS
        answer = f"{name} {pods.address('one')}"
        assert pods.ask("one", address) == answer
        assert pods.ask("one", address, 53, kind="udp") == answer


def test_a_service_is_answered_by_its_pods(pods: Pods) -> None:
    pods.run(pod("web", node="node-1"), pod("client", node="node-2"), service("web", "web"))
    address = pods.cluster.get("service", "web")["spec"]["clusterIP"]
    pods.until_asked("client", address, f"web {pods.address('client')}")


def test_an_endpoint_is_its_pod_and_a_tenant_its_namespace(pods: Pods, romana: Romana) -> None:
    labels = {"team": "shop"}
    pods.run(namespace("shop", labels), pod("web", space="shop", labels={"tier": "front"}))
    found = romana.allocations()[pods.address("web", "shop")]
    assert found["name"] == pods.endpoint("web", "shop")
    assert found["tenant"] == "shop"
    assert found["node"] == pods.get("web", "shop")["spec"]["nodeName"]
    known = romana.endpoint(pods.endpoint("web", "shop"))
    assert known["labels"] == {"app": "web", "tier": "front"}
    assert romana.tenants()["shop"] == {"kubernetes.io/metadata.name": "shop", **labels}
    pods.delete(namespace("shop"))
    until("the tenant to be gone", lambda: "shop" not in romana.tenants())
    until("the endpoint to be gone", lambda: not romana.endpoints())


def test_a_pod_is_on_the_network_that_it_names(pods: Pods, romana: Romana) -> None:
    pods.run(
        namespace("verde", network="green"),
        pod("blue", network="blue"),
        pod("green", space="verde"),
        pod("both", space="verde", networks="blue,pods"),
    )
    for name, space in (("blue", "default"), ("green", "verde")):
        address = ipaddress.IPv4Address(pods.address(name, space))
        assert address in ipaddress.IPv4Network(WIRES[name])
    endpoint = pods.endpoint("both", "verde")
    networks = {one["network"] for one in romana.allocations().values() if one["name"] == endpoint}
    assert networks == {"blue", "pods"}
    assert pods.ask("blue", pods.address("green", "verde")).startswith("green ")


def test_a_pod_gets_the_address_that_it_names(pods: Pods) -> None:
    pods.run(pod("fixed", addresses="10.20.0.77", network="blue"))
    assert pods.address("fixed") == "10.20.0.77"


def test_the_next_sandbox_of_a_pod_has_the_address_of_the_one_before(
    pods: Pods, romana: Romana
) -> None:
    pods.run(pod("web", node="node-1"), pod("client", node="node-2"))
    address = pods.address("web")
    sandbox = romana.sandbox("node-1", pods.endpoint("web"))
    romana.kill_sandbox("node-1", sandbox)
    until("another sandbox", lambda: romana.sandbox("node-1", pods.endpoint("web")) != sandbox)
    pods.wait(("default", "web"))
    assert pods.address("web") == address
    pods.until_asked("client", address, f"web {pods.address('client')}")


def test_a_deployment_comes_and_goes(pods: Pods, romana: Romana) -> None:
    many = deployment("many", 12)
    pods.cluster.apply(many)
    pods.cluster.kubectl("rollout", "status", "deployment/many", "--timeout=240s")
    assert len(romana.addresses()) == 12
    assert romana.run("ipam", "check")
    pods.delete(many)
    until("addresses to be given back", lambda: not romana.addresses())
    assert romana.run("ipam", "check")


def test_ports_are_open(pods: Pods) -> None:
    pods.run(pod("web"))
    assert pods.ask("web", "127.0.0.1", PORT)
