from __future__ import annotations

import json
import re
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from services.agent.cni import asked, delegated, protocol, told
from services.agent.cni.protocol import CniError, Request
from services.agent.endpoints.spec import local_endpoint
from services.agent.kernel.wiring import DefaultRoute
from services.agent.model import AddressWant, EndpointAddress, WantedEndpoint
from services.common import errors
from services.common.model.names import EndpointName, NetworkName, Segment, Tenant
from services.common.model.network import Dns
from tests.support.topologies import network

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web",
}


def parse(config: dict[str, Any] | None = None, **environment: str) -> Request:
    document = {"cniVersion": "1.0.0", "name": "pods", "type": "romana-cni", **(config or {})}
    return protocol.parse({**ENVIRONMENT, **environment}, json.dumps(document).encode())


def code_of(config: dict[str, Any] | None = None, **environment: str) -> int:
    with pytest.raises(CniError) as caught:
        asked.spec_of(parse(config, **environment))
    assert caught.value.message
    return caught.value.code


def test_an_endpoint_is_named_by_network_container_and_interface() -> None:
    spec = asked.spec_of(parse())
    assert (spec.name, spec.tenant, spec.segment) == ("pods/c1/eth0", "shop", "")
    assert (spec.namespace, spec.interface, spec.origin) == ("/run/netns/x", "eth0", "cni/pods")
    assert spec.addresses == ()


def test_the_configuration_precedes_the_arguments() -> None:
    spec = asked.spec_of(parse({"tenant": "admin", "segment": "s"}))
    assert (spec.tenant, spec.segment) == ("admin", "s")


def test_whoever_starts_a_container_may_choose_what_the_configuration_leaves_open() -> None:
    chosen = {"args": {"cni": {"tenant": "own", "segment": "t", "mac": "02-AB-00-00-00-01"}}}
    spec = asked.spec_of(parse(chosen))
    assert (spec.tenant, spec.segment, spec.mac) == ("own", "t", "02:ab:00:00:00:01")
    spec = asked.spec_of(parse({"tenant": "admin", "segment": "s", **chosen}))
    assert (spec.tenant, spec.segment) == ("admin", "s")


def test_routes_and_the_default_route_are_the_configurations() -> None:
    routes = [{"dst": "10.0.0.0/8"}, {"dst": "fd00::/8"}, {"dst": "10.0.0.0/8"}]
    spec = asked.spec_of(parse({"defaultRoute": "never", "routes": routes}))
    assert spec.default_route is DefaultRoute.NEVER
    assert spec.routes == ("10.0.0.0/8", "fd00::/8")


def test_the_segment_is_a_label_of_the_pod() -> None:
    labels = {"args": {"cni": {"labels": [{"key": "tier", "value": "front"}]}}}
    spec = asked.spec_of(parse({"segmentLabel": "tier", **labels}))
    assert (spec.segment, spec.labels) == ("front", {"tier": "front"})


POD_ARGS = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=1234"
POD_WANTED = WantedEndpoint(
    EndpointName("pod/shop/web-0/1234"),
    Tenant("shop"),
    Segment("front"),
    {"app": "web"},
    (AddressWant(NetworkName("blue"), 4),),
    "pod/shop/web-0",
)


def test_an_orchestrated_pod_is_named_by_its_uid_and_is_what_was_said_of_it() -> None:
    request = parse({"orchestrator": "kubernetes", "network": "ignored"}, CNI_ARGS=POD_ARGS)
    spec = asked.spec_of_pod(request, POD_WANTED)
    assert (spec.name, spec.container) == ("pod/shop/web-0/1234", "c1")
    assert (spec.tenant, spec.segment, spec.labels) == ("shop", "front", {"app": "web"})
    assert spec.addresses == POD_WANTED.addresses
    assert spec.allocation_name == "pod/shop/web-0"
    assert protocol.key_of(spec) == "pods/c1/eth0"


def test_kubernetes_is_told_one_address_of_each_family() -> None:
    request = parse({"orchestrator": "kubernetes"}, CNI_ARGS=POD_ARGS)
    texts = ("10.0.0.1", "fd00::1", "10.1.0.1")
    addresses = tuple(EndpointAddress(ip_address(text), NetworkName("n")) for text in texts)
    endpoint = local_endpoint(
        asked.spec_of_pod(request, POD_WANTED),
        addresses,
        host_interface="rom1",
        mac="",
        mtu=1500,
        create_time=0,
        instance="",
    )
    ips: Any = told.result(request, endpoint)["ips"]
    assert [one["address"] for one in ips] == ["10.0.0.1/32", "fd00::1/128"]


def test_a_pod_that_must_not_be_attached_is_refused_with_the_reason() -> None:
    request = parse({"orchestrator": "kubernetes"}, CNI_ARGS=POD_ARGS)
    with pytest.raises(CniError, match=r"pod shop/web-0 \(1234\): no such family") as caught:
        asked.spec_of_pod(request, replace(POD_WANTED, refusal="no such family"))
    assert caught.value.code == protocol.BAD_CONFIGURATION


@pytest.mark.parametrize(
    ("config", "args", "code"),
    [
        ({"orchestrator": "nomad"}, POD_ARGS, protocol.BAD_CONFIGURATION),
        ({"orchestrator": "kubernetes"}, "K8S_POD_NAMESPACE=a", protocol.BAD_ENVIRONMENT),
    ],
)
def test_an_orchestrators_pod_has_to_be_known_by_name(
    config: dict[str, Any], args: str, code: int
) -> None:
    with pytest.raises(CniError) as caught:
        _ = parse(config, CNI_ARGS=args).name
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("config", "wants"),
    [
        ({"network": "a"}, [("a", 0, "")]),
        ({"networks": ["a", "b"]}, [("a", 0, ""), ("b", 0, "")]),
        ({"family": 6}, [(None, 6, "")]),
        ({"runtimeConfig": {"ips": ["10.0.0.5/24"]}}, [(None, 0, "10.0.0.5")]),
        ({"args": {"cni": {"ips": ["fd00::5"]}}, "network": "a"}, [("a", 0, "fd00::5")]),
        ({"args": {"cni": {"addresses": ["10.0.0.5"]}}}, [(None, 0, "10.0.0.5")]),
        ({"args": {"cni": {"network": "b"}}}, [("b", 0, "")]),
        ({"args": {"cni": {"network": "b"}}, "network": "a"}, [("a", 0, "")]),
    ],
)
def test_addresses_that_are_wanted(config: dict[str, Any], wants: list[Any]) -> None:
    found = asked.spec_of(parse(config)).addresses
    assert found == tuple(
        AddressWant(NetworkName(name) if name else None, family, address)
        for name, family, address in wants
    )


def test_what_is_wrong_has_the_specifications_code() -> None:
    assert code_of(CNI_COMMAND="NIX") == 4
    assert code_of(CNI_CONTAINERID="") == 4
    assert code_of(CNI_CONTAINERID="-x") == 4
    assert code_of(CNI_IFNAME="a/b") == 4
    assert code_of(CNI_IFNAME="x" * 16) == 4
    assert code_of(CNI_IFNAME="eth%d") == 4  # the kernel would make another name of it
    assert code_of(CNI_NETNS="") == 4
    assert code_of(CNI_ARGS="x") == 4
    assert code_of(CNI_ARGS="") == 7
    assert code_of({"cniVersion": "0.2.0"}) == 1
    assert code_of({"cniVersion": "0.3.1"}, CNI_COMMAND="CHECK") == 1
    assert code_of({"cniVersion": "1.0.0"}, CNI_COMMAND="GC") == 1
    assert code_of({"name": ""}) == 7
    assert code_of({"mtu": True}) == 7
    for family in (5, "4", 4.0, True, None, [4], {"of": 4}):
        assert code_of({"family": family}) == 7
    assert code_of({"networks": "a"}) == 7
    assert code_of({"runtimeConfig": {"ips": ["x"]}}) == 7
    assert code_of({"labels": [1]}) == 7
    assert code_of({"tenant": 1}) == 7
    assert code_of({"args": 1}) == 7
    assert code_of({"args": {"cni": {"tenant": 1}}}) == 7
    assert code_of({"defaultRoute": "perhaps"}) == 7
    assert code_of({"routes": "10.0.0.0/8"}) == 7
    assert code_of({"routes": [{"dst": "10.0.0.1/8"}]}) == 7
    assert code_of({"routes": [{"dst": "0.0.0.0/0"}]}) == 7
    assert code_of({"routes": [{"dst": "10.0.0.0/8", "gw": "10.1.0.1"}]}) == 7
    assert code_of({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}) == 7
    assert code_of(CNI_ARGS="K8S_POD_NAMESPACE=a;MAC=x") == 7
    with pytest.raises(CniError) as caught:
        protocol.parse(ENVIRONMENT, b"{")
    assert caught.value.code == 6


def test_del_needs_no_namespace() -> None:
    assert parse(CNI_COMMAND="DEL", CNI_NETNS="").name == "pods/c1/eth0"


@pytest.mark.parametrize("version", protocol.VERSIONS)
def test_a_result_has_the_form_of_its_version(version: str) -> None:
    request = parse({"cniVersion": version, "dns": {"nameservers": ["10.0.0.2"]}})
    endpoint = local_endpoint(
        asked.spec_of(request),
        tuple(
            EndpointAddress(ip_address(text), NetworkName("n")) for text in ("10.0.0.7", "fd00::7")
        ),
        host_interface="romx",
        mac="02:00:00:00:00:01",
        mtu=1500,
        create_time=0,
        instance="",
    )
    result: Any = told.result(request, endpoint)
    assert result["cniVersion"] == version
    assert [item["address"] for item in result["ips"]] == ["10.0.0.7/32", "fd00::7/128"]
    assert all(("version" in item) == version.startswith("0.") for item in result["ips"])
    assert result["interfaces"][1]["sandbox"] == "/run/netns/x"
    assert ("mtu" in result["interfaces"][1]) == (version == "1.1.0")
    assert result["dns"] == {"nameservers": ["10.0.0.2"]}
    checked = parse({"cniVersion": "1.0.0", "prevResult": result}, CNI_COMMAND="CHECK")
    assert told.differences(checked, endpoint) == []
    del result["ips"][0]
    checked = parse({"cniVersion": "1.0.0", "prevResult": result}, CNI_COMMAND="CHECK")
    assert told.differences(checked, endpoint) == ["prevResult lacks 10.0.0.7"]
    result["interfaces"] = [{"name": ["eth0"], "sandbox": "/x"}]
    checked = parse({"cniVersion": "1.0.0", "prevResult": result}, CNI_COMMAND="CHECK")
    assert "prevResult has no interface eth0" in told.differences(checked, endpoint)


def test_what_is_nested_too_deeply_cannot_be_decoded() -> None:
    deep = b'{"cniVersion": "1.1.0", "x": ' + b"[" * 100_000
    with pytest.raises(CniError) as caught:
        protocol.parse(ENVIRONMENT, deep)
    assert caught.value.code == protocol.DECODING_FAILED
    assert protocol.version_answer(deep)["cniVersion"] == "1.1.0"


def test_gc_keeps_what_is_named() -> None:
    attachments = [{"containerID": "a", "ifname": "eth0"}]
    request = parse(
        {"cniVersion": "1.1.0", protocol.VALID_ATTACHMENTS: attachments}, CNI_COMMAND="GC"
    )
    assert protocol.valid_attachments(request) == {"pods/a/eth0"}


def test_gc_without_a_list_is_refused() -> None:
    for config in (
        {},
        {"cni.dev/attachments": [{"containerID": "a", "ifname": "eth0"}]},
        {protocol.VALID_ATTACHMENTS: "a"},
    ):
        request = parse({"cniVersion": "1.1.0", **config}, CNI_COMMAND="GC")
        with pytest.raises(CniError) as caught:
            protocol.valid_attachments(request)
        assert caught.value.code == 7


def test_gc_takes_null_for_an_empty_list() -> None:
    request = parse({"cniVersion": "1.1.0", protocol.VALID_ATTACHMENTS: None}, CNI_COMMAND="GC")
    assert protocol.valid_attachments(request) == frozenset()


def test_errors_of_the_agent_have_codes() -> None:
    assert protocol.of_error(errors.NotFound("x", "NAMESPACE_NOT_FOUND")).code == 3
    assert protocol.of_error(errors.InvalidInput.at("spec.target.namespace.path", "x")).code == 4
    assert protocol.of_error(errors.InvalidInput.at("spec.mtu", "x")).code == 7
    assert protocol.of_error(errors.Unavailable("x")).code == 11
    assert protocol.of_error(errors.RomanaError("x")).code == 199


def test_the_example_is_a_configuration() -> None:
    root = Path(__file__).parents[3]
    document = json.loads((root / "examples" / "10-romana.conflist").read_text())
    plugin, *chained = document["plugins"]
    assert [one["type"] for one in chained] == ["portmap", "bandwidth"]
    request = parse({**plugin, "cniVersion": document["cniVersion"], "name": document["name"]})
    assert asked.spec_of(request).tenant == "shop"


def test_the_executable_imports_nothing_that_takes_time() -> None:
    source = (Path(protocol.__file__).parent / "plugin.py").read_text()
    assert set(re.findall(r"^import (\S+)", source, re.MULTILINE)) == {"_socket", "posix", "sys"}
    assert all(f'"{version}"' in source for version in protocol.VERSIONS)


@pytest.mark.parametrize(
    ("own", "dns"),
    [
        ({}, {"nameservers": ["10.0.0.53", "fd00::53"], "search": ["a.example", "b.example"]}),
        ({"dns": {"domain": "x"}}, {"domain": "x"}),
    ],
)
def test_a_delegated_result_tells_of_resolvers(own: dict[str, Any], dns: object) -> None:
    four, six = ip_address("10.0.0.53"), ip_address("fd00::53")
    networks = [
        network("a", "10.1.0.0/24", dns=Dns((four,), ("a.example",))),
        network("b", "10.2.0.0/24"),
        network("c", "10.3.0.0/24", dns=Dns((six, four), ("a.example", "b.example"))),
    ]
    given = [(EndpointAddress(one.cidr[7], one.name), one) for one in networks]
    request = parse({"ipam": {"type": "romana-ipam", "tenant": "t", **own}})
    spec = delegated.spec_of(request)
    assert delegated.result(request, spec, given, frozenset())["dns"] == dns
