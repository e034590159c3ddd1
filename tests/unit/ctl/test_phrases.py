from __future__ import annotations

import pytest
from romana.ipam.v1 import allocation_pb2
from romana.topology.v1 import node_pb2

from services.ctl.calls import option_syntax
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure


def test_a_label_may_have_an_empty_value_and_equals_signs() -> None:
    assert option_syntax.labels(["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}


@pytest.mark.parametrize("text", ["a", "=1", ""])
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="KEY=VALUE") as raised:
        option_syntax.labels([text])
    assert raised.value.exit_code is ExitCode.INVALID


def test_label_changes_set_and_remove() -> None:
    assert option_syntax.label_changes(["a=1", "b-", "c=x-"]) == (
        {"a": "1", "c": "x-"},
        frozenset({"b"}),
    )


def test_an_attachment_is_read_in_any_order() -> None:
    text = "interface=eth0.7,network=qa,vlan=7,parent=eth0,address=10.0.0.5"
    assert option_syntax.attachment(text) == node_pb2.Attachment(
        network="qa", interface="eth0.7", address="10.0.0.5", vlan_id=7, parent_interface="eth0"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("interface=eth0", "network=NAME is missing"),
        ("network=a,colour=red", "'colour=red' is not one of"),
        ("network=a,network=b", "network is there twice"),
        ("network=a,vlan=x", "vlan=x is not a number"),
        ("network=a,vlan=-1", "vlan=-1 is not a number"),
        ("network", "'network' is not one of"),
    ],
)
def test_what_is_no_attachment_is_refused(text: str, says: str) -> None:
    with pytest.raises(Failure, match=says):
        option_syntax.attachment(text)


def test_a_pin_is_for_the_topology_its_path_starts_with() -> None:
    assert option_syntax.pins(["dc/zone/rack-1", "adm/all"]) == {
        "dc": "dc/zone/rack-1",
        "adm": "adm/all",
    }


@pytest.mark.parametrize("paths", [["dc"], ["/x"], ["dc/a", "dc/b"]])
def test_a_pin_without_group_or_for_the_same_topology_is_refused(paths: list[str]) -> None:
    with pytest.raises(Failure, match="--pin"):
        option_syntax.pins(paths)


def test_nothing_wanted_in_particular_is_an_empty_request() -> None:
    assert option_syntax.wants([], network="", family="", address="") == []


def test_single_options_are_one_wanted_address() -> None:
    [spec] = option_syntax.wants([], network="prod", family="6", address="")
    assert spec == allocation_pb2.AddressSpec(network="prod", family=allocation_pb2.FAMILY_IPV6)


def test_each_want_is_one_address_in_order() -> None:
    specs = option_syntax.wants(
        ["family=4", "network=qa,address=10.2.0.9"], network="", family="", address=""
    )
    assert [(spec.network, spec.family, spec.address) for spec in specs] == [
        ("", allocation_pb2.FAMILY_IPV4, ""),
        ("qa", allocation_pb2.FAMILY_UNSPECIFIED, "10.2.0.9"),
    ]


def test_an_empty_want_is_any_address() -> None:
    assert option_syntax.wants(["", ""], network="", family="", address="") == [
        allocation_pb2.AddressSpec(),
        allocation_pb2.AddressSpec(),
    ]


def test_wants_and_single_options_exclude_each_other() -> None:
    with pytest.raises(Failure, match="cannot be mixed"):
        option_syntax.wants(["family=4"], network="prod", family="", address="")


def test_a_family_that_is_none_is_refused() -> None:
    with pytest.raises(Failure, match="no address family"):
        option_syntax.wants([], network="", family="5", address="")
