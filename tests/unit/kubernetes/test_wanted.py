from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from services.common.model.names import NetworkName
from services.common.model.network import Isolation
from services.common.model.node import Attachment
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.objects.nodes import GROUP_LABEL, Node
from services.kubernetes.objects.pods import Pod
from services.kubernetes.wanted.endpoints import endpoint_of
from services.kubernetes.wanted.nodes import node_of
from services.kubernetes.wanted.sticky import is_sticky
from services.kubernetes.wanted.tenants import tenant_of
from services.kubernetes.wanted.values import AddressWish
from services.kubernetes.wanted.wishes import read_wishes

SEGMENT = "romana.io/segment"


def namespace(labels: dict[str, str] | None = None, **annotations: str) -> Namespace:
    return Namespace("shop", "u0", labels or {}, annotations)


def pod(labels: dict[str, str] | None = None, node: str = "n1", **annotations: str) -> Pod:
    return Pod(
        namespace="shop",
        name="web",
        uid="u1",
        object_uid="u1",
        labels=labels or {},
        annotations=annotations,
        node=node,
        host_network=False,
        is_ending=False,
        has_ended=False,
        ports=(),
        controller=None,
    )


@pytest.mark.parametrize(
    ("own", "of_namespace", "wishes"),
    [
        ({}, {}, ()),
        ({"network": "blue"}, {}, (AddressWish("blue"),)),
        ({"networks": "blue, blue-6"}, {}, (AddressWish("blue"), AddressWish("blue-6"))),
        ({}, {"network": "blue"}, (AddressWish("blue"),)),
        ({"networks": "green"}, {"network": "blue"}, (AddressWish("green"),)),
        ({"family": "6"}, {}, (AddressWish(family=6),)),
        ({"family": "dual"}, {}, (AddressWish(family=4), AddressWish(family=6))),
        ({"family": "4"}, {"network": "blue", "family": "6"}, (AddressWish("blue", 4),)),
        ({"addresses": "10.0.0.7"}, {}, (AddressWish(address="10.0.0.7"),)),
        (
            {"addresses": "10.0.0.7,fd00:0::7"},
            {},
            (AddressWish(address="10.0.0.7"), AddressWish(address="fd00::7")),
        ),
        ({"addresses": "10.0.0.7"}, {"network": "blue"}, (AddressWish("blue", 0, "10.0.0.7"),)),
    ],
)
def test_what_a_pod_wants(
    own: dict[str, str], of_namespace: dict[str, str], wishes: tuple[AddressWish, ...]
) -> None:
    read = read_wishes(own, of_namespace)
    assert read.problems == ()
    assert read.addresses == wishes


@pytest.mark.parametrize(
    ("own", "of_namespace", "path"),
    [
        ({"network": "Blue!"}, {}, "network"),
        ({"network": ""}, {}, "network"),
        ({"networks": " , "}, {}, "networks"),
        ({"networks": "a,a"}, {}, "networks"),
        ({"network": "a", "networks": "a"}, {}, "networks"),
        ({"family": "5"}, {}, "family"),
        ({"addresses": ""}, {}, "addresses"),
        ({"addresses": "10.0.0.256"}, {}, "addresses"),
        ({"addresses": "10.0.0.1,10.0.0.1"}, {}, "addresses"),
        ({"addresses": "10.0.0.1", "networks": "a,b"}, {}, "networks"),
        ({}, {"addresses": "10.0.0.1"}, "addresses"),
        ({"networks": ",".join(f"n{number}" for number in range(17))}, {}, "networks"),
    ],
)
def test_what_is_wrong_is_said_with_its_annotation(
    own: dict[str, str], of_namespace: dict[str, str], path: str
) -> None:
    read = read_wishes(own, of_namespace)
    assert read.addresses == ()
    assert {one.path for one in read.problems} == {f"metadata.annotations[romana.io/{path}]"}


def test_the_segment_is_a_label_of_the_pod_or_of_its_namespace() -> None:
    def segment(own: dict[str, str], of_namespace: dict[str, str]) -> str:
        return endpoint_of(pod(own), namespace(of_namespace))[0].segment

    assert segment({}, {}) == ""
    assert segment({}, {SEGMENT: "back"}) == "back"
    assert segment({SEGMENT: "front"}, {SEGMENT: "back"}) == "front"


def test_a_pod_with_a_problem_is_an_endpoint_that_must_not_be_attached() -> None:
    endpoint, problems = endpoint_of(pod({"app": "web"}, family="5"), namespace())
    assert endpoint.labels == {"app": "web"}
    assert endpoint.refusal.startswith("metadata.annotations[romana.io/family]: ")
    assert len(problems) == 1


def test_a_pod_that_is_not_bound_is_wanted_nowhere() -> None:
    assert endpoint_of(pod(node=""), namespace())[0].node is None


def test_isolation_is_as_a_namespace_says() -> None:
    assert tenant_of(namespace())[0].isolation is None
    assert tenant_of(namespace(isolation="tenant"))[0].isolation is Isolation.TENANT
    tenant, problems = tenant_of(namespace(isolation="total"))
    assert tenant.isolation is None
    assert [one.path for one in problems] == ["metadata.annotations[romana.io/isolation]"]


def node(**annotations: str) -> Node:
    addresses = (ip_address("192.0.2.1"), ip_address("fd00::1"))
    return Node("n1", "u1", {"zone": "a"}, annotations, addresses)


@pytest.mark.parametrize(
    ("addresses", "main", "other"),
    [
        ("192.0.2.1", "192.0.2.1", None),
        ("192.0.2.1 192.0.2.2 fd00::1 fd00::2", "192.0.2.1", "fd00::1"),
        ("fd00::1 192.0.2.1", "fd00::1", "192.0.2.1"),
    ],
)
def test_a_node_has_its_first_address_of_each_family(
    addresses: str, main: str, other: str | None
) -> None:
    wanted, _ = node_of(replace(node(), addresses=tuple(map(ip_address, addresses.split()))))
    assert wanted.address == ip_address(main)
    assert wanted.other_address == (None if other is None else ip_address(other))


def test_a_node_has_what_is_annotated() -> None:
    wanted, problems = node_of(node())
    assert not problems
    assert wanted.attachments is None
    assert wanted.labels == {"zone": "a", "romana.io/followed-from": "kubernetes"}
    text = '[{"network": "blue", "interface": "eth1.20", "address": "10.0.0.1", "vlan": 20}]'
    wanted, problems = node_of(node(attachments=text))
    assert not problems
    expected = Attachment(NetworkName("blue"), "eth1.20", ip_address("10.0.0.1"), 20)
    assert wanted.attachments == (expected,)


def test_topology_is_not_told_what_comes_from_it() -> None:
    labels = {"zone": "a", GROUP_LABEL: "dc.rack-1"}
    wanted, _ = node_of(replace(node(), labels=labels))
    assert wanted.labels == {"zone": "a", "romana.io/followed-from": "kubernetes"}


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "{}",
        '[{"interface": "eth1"}]',
        '[{"network": "blue", "vlan": "x"}]',
        '[{"network": "blue", "vlna": 1}]',
        '[{"network": "blue", "address": "10.0.0"}]',
        '[{"network": "blue", "interface": "much too long a name"}]',
    ],
)
def test_attachments_that_cannot_be_read_are_as_if_not_said(text: str) -> None:
    wanted, problems = node_of(node(attachments=text))
    assert wanted.attachments is None
    assert problems
    assert all(one.path.startswith("metadata.annotations[romana.io/attach") for one in problems)


SET = ("StatefulSet", "web")


@pytest.mark.parametrize(
    ("controller", "annotation", "stays"),
    [
        (SET, None, True),
        (SET, "false", False),
        (("ReplicaSet", "web-1"), None, False),
        (None, "true", True),
        (None, None, False),
    ],
)
def test_addresses_stay_with_the_names_of_some_pods(
    controller: tuple[str, str] | None, annotation: str | None, *, stays: bool
) -> None:
    annotations = {} if annotation is None else {"sticky": annotation}
    one = replace(pod(**annotations), controller=controller)
    endpoint, problems = endpoint_of(one, namespace())
    assert not problems
    assert (endpoint.allocation != "") is stays
    assert is_sticky(endpoint.allocation) is stays
    assert not is_sticky(endpoint.name)
    later, _ = endpoint_of(replace(one, uid="u2", object_uid="u2"), namespace())
    assert later.allocation == endpoint.allocation
    elsewhere, _ = endpoint_of(one, Namespace("shop", "u9", {}, {}))
    assert (elsewhere.allocation == endpoint.allocation) is not stays


def test_sticky_is_true_or_false() -> None:
    endpoint, problems = endpoint_of(pod(sticky="yes"), namespace())
    assert [one.path for one in problems] == ["metadata.annotations[romana.io/sticky]"]
    assert endpoint.refusal
