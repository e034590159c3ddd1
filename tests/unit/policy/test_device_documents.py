from __future__ import annotations

from ipaddress import ip_network

import pytest

from services.common.errors import InvalidInput
from services.common.model.devices import Arm, DeviceGroupName, OnLoss, ProbeKind, WhenDown
from services.common.model.names import NetworkName
from services.policy.checks.devices import check_device_references, check_via
from services.policy.devices.health import legs_of
from services.policy.forms.devices import read_device_document
from services.policy.forms.documents import read_document
from services.policy.model import DeviceGroup, PolicyNetwork
from services.policy.store.codec_devices import StoredGroup, decode_group, encode_group

TEXT = """
name: firewalls
networks: [a]
devices:
  - name: one
    addresses: [{network: a, address: 10.0.0.1, macs: ["02:00:00:00:00:0A"]}]
    weight: 2
  - {name: two, addresses: [{network: a, address: 10.0.0.2}], drain: true}
probe: {kind: http, port: 8080, path: /up, interval: 200ms, threshold: 2, quorum: 3}
when_down: next
next: others
threshold_percent: 50
on_loss: cut
"""
NETWORKS = {
    NetworkName("a"): PolicyNetwork(NetworkName("a"), ip_network("10.0.0.0/24"), is_onlink=True),
    NetworkName("r"): PolicyNetwork(NetworkName("r"), ip_network("10.1.0.0/24")),
}


def read(text: str) -> DeviceGroup:
    return read_device_document(text, "file")[0]


def group(name: str, following: str = "") -> DeviceGroup:
    rest = f"when_down: next\nnext: {following}\n" if following else ""
    number = ord(name[0])
    return read(
        f"name: {name}\nnetworks: [a]\n{rest}"
        f"devices: [{{name: x, addresses: [{{network: a, address: 10.0.0.{number}}}]}}]"
    )


def test_a_group_is_read_whole() -> None:
    found = read(TEXT)
    one, two = found.devices
    assert (one.weight, one.is_draining, two.weight, two.is_draining) == (2, False, 1, True)
    assert one.addresses[0].macs == ("02:00:00:00:00:0A",)
    probe = found.probe
    assert (probe.kind, probe.port, probe.path) == (ProbeKind.HTTP, 8080, "/up")
    assert (probe.interval, probe.threshold, probe.quorum) == (0.2, 2, 3)
    assert (found.when_down, found.next, found.on_loss) == (
        WhenDown.NEXT,
        "others",
        OnLoss.CUT,
    )
    assert found.threshold_percent == 50


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("name: firewalls", "name: Fire/walls"), "name"),
        (("networks: [a]", "networks: []"), "networks"),
        (("name: two", "name: one"), "devices[1].name"),
        (("10.0.0.2", "10.0.0.1"), "devices[1].addresses[0].address"),
        (("10.0.0.2", "10.0.0"), "devices[1].addresses[0].address"),
        (("weight: 2", "weight: 200"), "devices[0].weight"),
        (("02:00:00:00:00:0A", "02:00"), "devices[0].addresses[0].macs[0]"),
        (("port: 8080", "port: 0"), "probe.port"),
        (("interval: 200ms", "interval: 1ms"), "probe.interval"),
        (("interval: 200ms", "interval: soon"), "probe.interval"),
        (("when_down: next", "when_down: closed"), "next"),
        (("next: others", ""), "next"),
        (("threshold_percent: 50", "threshold_percent: 101"), "threshold_percent"),
        (("on_loss: cut", "on_loss: cry"), "on_loss"),
        (("on_loss: cut", "mirror: true"), "mirror"),
        (("drain: true", "outside: 10.0.0.3"), "devices[1].outside"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(change: tuple[str, str], path: str) -> None:
    with pytest.raises(InvalidInput) as wrong:
        read(TEXT.replace(*change))
    assert path in {one.path for one in wrong.value.violations}


def test_a_device_has_one_address_on_a_network() -> None:
    text = TEXT.replace("address: 10.0.0.2}", "address: 10.0.0.2}, {network: a, address: 10.0.0.3}")
    with pytest.raises(InvalidInput, match="second arm"):
        read(text)


@pytest.mark.parametrize(
    ("network", "address", "is_right"),
    [
        ("a", "10.0.0.9", True),
        ("a", "10.9.0.9", False),
        ("a", "fd00::9", False),
        ("r", "192.168.0.9", True),
        ("r", "10.1.0.9", False),
        ("none", "10.0.0.9", False),
    ],
)
def test_a_device_is_on_its_network(network: str, address: str, *, is_right: bool) -> None:
    found = read(
        f"name: g\nnetworks: [{network}]\n"
        f"devices: [{{name: x, addresses: [{{network: {network}, address: '{address}'}}]}}]"
    )
    assert bool(list(check_device_references(found, NETWORKS, {}))) is not is_right


def two_armed(outside: str) -> DeviceGroup:
    return read(
        "name: g\nnetworks: [a]\ndevices:\n"
        "  - {name: one, addresses: [{network: a, address: 10.0.0.8}]}\n"
        f"  - {{name: x, addresses: [{{network: a, address: 10.0.0.9, outside: {outside}}}]}}"
    )


def test_a_device_may_have_two_arms() -> None:
    found = two_armed('{network: r, address: 192.168.0.9, macs: ["02:00:00:00:00:0a"]}')
    assert not list(check_device_references(found, NETWORKS, {}))
    inside, outside = found.devices[1].addresses[0].arms
    assert (inside.arm, inside.network, str(inside.address)) == (Arm.INSIDE, "a", "10.0.0.9")
    assert (outside.arm, outside.network, outside.macs) == (
        Arm.OUTSIDE,
        "r",
        ("02:00:00:00:00:0a",),
    )
    _, same = two_armed("{address: 10.0.0.10}").devices[1].addresses[0].arms
    assert same.network == "a"


@pytest.mark.parametrize(
    ("outside", "path"),
    [
        ("{network: r}", "address"),
        ("{address: 10.0.0.9}", "address"),
        ("{address: 10.0.0.8}", "address"),
        ("{address: 'fd00::9'}", "address"),
        ("{address: 10.0.0.300}", "address"),
        ("{address: 10.0.0.10, network: 'A b'}", "network"),
        ("{address: 10.0.0.10, macs: [x]}", "macs[0]"),
        ("{address: 10.0.0.10, weight: 2}", "weight"),
    ],
)
def test_a_second_arm_that_is_wrong_is_refused_with_its_place(outside: str, path: str) -> None:
    with pytest.raises(InvalidInput) as wrong:
        two_armed(outside)
    assert f"devices[1].addresses[0].outside.{path}" in {one.path for one in wrong.value.violations}


@pytest.mark.parametrize(
    ("outside", "path"),
    [
        ("{address: 10.9.0.9}", "address"),
        ("{address: 10.1.0.9, network: r}", "address"),
        ("{address: 10.9.0.9, network: none}", "network"),
    ],
)
def test_a_second_arm_is_on_its_network(outside: str, path: str) -> None:
    (problem,) = check_device_references(two_armed(outside), NETWORKS, {})
    assert problem.path == f"devices[1].addresses[0].outside.{path}"


def test_a_group_is_stored_whole() -> None:
    found = two_armed("{network: r, address: 192.168.0.9}")
    numbers = {key: number for number, key in enumerate(legs_of(found), 1)}
    stored = StoredGroup(found, numbers)
    assert len(numbers) == 3
    assert decode_group(found.name, encode_group(stored)) == stored


def test_what_comes_next_must_not_come_back() -> None:
    known = {one.name: one for one in (group("b", "c"), group("c", "d"), group("d"))}
    assert not list(check_device_references(group("e", "b"), NETWORKS, known))
    (problem,) = check_device_references(group("d", "b"), NETWORKS, known)
    assert (problem.path, problem.message) == ("next", "comes back: d to b to c to d")
    (problem,) = check_device_references(group("e", "z"), NETWORKS, known)
    assert "no group" in problem.message


def test_an_address_is_of_one_device() -> None:
    other = group("b")
    twice = read(
        "name: e\nnetworks: [a]\n"
        f"devices: [{{name: x, addresses: [{{network: a, address: 10.0.0.{ord('b')}}}]}}]"
    )
    (problem,) = check_device_references(twice, NETWORKS, {other.name: other})
    assert problem.path == "devices[0].addresses[0].address"


@pytest.mark.parametrize("field", ["via", "mirror"])
def test_via_and_mirror_are_read_and_refused_where_they_mean_nothing(field: str) -> None:
    text = b"""
name: p
tier: admin
targets: [{endpoints: {}}]
ingress: [{FIELD: firewalls}]
""".replace(b"FIELD", field.encode())
    (policy,) = read_document(text).policies
    (rule,) = (rule for rules in policy.rules.values() for rule in rules)
    assert getattr(rule, field) == DeviceGroupName("firewalls")
    assert not list(check_via(policy, {rule.via or rule.mirror: None}))
    (unknown,) = check_via(policy, {})
    assert unknown.path == f"ingress[0].{field}"
    for wrong in (
        text.replace(b"ingress: [{", b"ingress: [{action: deny, "),
        text.replace(b"endpoints: {}", b"nodes: {}"),
        text.replace(b"firewalls", b"Fire/walls"),
    ):
        with pytest.raises(InvalidInput) as refused:
            read_document(wrong)
        assert [one.path for one in refused.value.violations] == [f"ingress[0].{field}"]
