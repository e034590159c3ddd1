"""What an agent may say of its own node, and what stays an operator's."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from services.common.errors import Forbidden, InvalidInput
from services.common.model.names import NetworkName, NodeName, Tenant, TopologyName
from services.common.model.node import Attachment, Node, NodeAllowance
from services.topology.checks.own_node import (
    FIELDS,
    MAY,
    check_own_addresses,
    declared,
    reported,
)
from tests.support.topologies import layout, network

ADDRESS = ip_address("192.168.0.1")
OTHER = ip_address("192.168.0.2")
QA = Attachment(NetworkName("qa"), "eth1", ip_address("10.2.0.5"))
BARE = Attachment(NetworkName("qa"), vlan_id=7, parent_interface="eth0")
PRODUCTION = Attachment(NetworkName("production"), "eth2")
PINS = {TopologyName("dc"): "dc/rack-2"}
EMPTY = Node(NodeName("n1"))
VALUES: dict[str, tuple[Any, Any]] = {
    "address": (ADDRESS, OTHER),
    "other_address": (ip_address("fd00::1"), ip_address("fd00::2")),
    "labels": ({"rack": "1"}, {"rack": "2"}),
    "attachments": ((QA,), (QA, PRODUCTION)),
    "pins": (PINS, {}),
}
"""Of each field what was declared, and what the agent would like."""


def refused(known: Node | None, node: Node, *may: str) -> str:
    with pytest.raises(Forbidden) as raised:
        reported(known, node, may)
    assert raised.value.reason == "NODE_MAY_NOT_SAY"
    return raised.value.metadata["field"]


def test_an_agent_registers_its_node_only_if_the_settings_say_so() -> None:
    node = replace(EMPTY, address=ADDRESS)
    assert refused(None, node, *FIELDS) == "register"
    assert reported(None, node, MAY).self_reported == ("address",)


@pytest.mark.parametrize("field", FIELDS)
def test_what_nobody_declared_is_said_as_far_as_the_settings_go(field: str) -> None:
    node = replace(EMPTY, **{field: VALUES[field][0]})
    assert refused(EMPTY, node, *(set(MAY) - {field})) == field
    first = reported(EMPTY, node, {field})
    assert first.self_reported == (field,)
    corrected = reported(first, replace(first, **{field: VALUES[field][1]}), {field})
    assert getattr(corrected, field) == VALUES[field][1]


@pytest.mark.parametrize("field", FIELDS)
def test_what_an_operator_declared_stays(field: str) -> None:
    known = declared(EMPTY, replace(EMPTY, **{field: VALUES[field][0]}))
    assert refused(known, replace(known, **{field: VALUES[field][1]}), *MAY) == field


@pytest.mark.parametrize("field", FIELDS)
def test_what_an_operator_changes_is_no_longer_the_agents(field: str) -> None:
    said = reported(EMPTY, replace(EMPTY, **{field: VALUES[field][0]}), MAY)
    elsewhere = "address" if field != "address" else "labels"
    kept = declared(said, replace(said, **{elsewhere: VALUES[elsewhere][0]}))
    assert field in kept.self_reported
    changed = declared(said, replace(said, **{field: VALUES[field][1]}))
    assert field not in changed.self_reported


def test_nobody_but_an_operator_says_what_a_certificate_may_take() -> None:
    more = replace(EMPTY, allowance=NodeAllowance(tenants=(Tenant("admin"),)))
    assert refused(EMPTY, more, *MAY) == "allowance"
    assert refused(None, more, *MAY) == "allowance"
    assert refused(more, EMPTY, *MAY) == "allowance"


def test_an_agent_completes_a_declared_attachment_and_corrects_what_it_said() -> None:
    known = replace(EMPTY, attachments=(BARE,))
    whole = replace(BARE, interface="eth0.7", address=ip_address("10.2.0.5"))
    completed = reported(known, replace(known, attachments=(whole,)), ("address",))
    assert completed.self_reported == ("attachments/qa/address", "attachments/qa/interface")
    moved = replace(whole, address=ip_address("10.2.0.9"))
    again = reported(completed, replace(completed, attachments=(moved,)), ("address",))
    assert again.attachments == (moved,)
    assert refused(known, replace(known, attachments=(whole,)), "labels").startswith("attachments/")


@pytest.mark.parametrize(
    "attachments",
    [
        (),
        (PRODUCTION,),
        (QA, PRODUCTION),
        (replace(QA, vlan_id=9),),
        (replace(QA, parent_interface="eth0"),),
        (replace(QA, interface="eth7"),),
        (replace(QA, address=ip_address("10.2.0.9")),),
    ],
)
def test_a_declared_attachment_is_not_changed(attachments: tuple[Attachment, ...]) -> None:
    known = replace(EMPTY, attachments=(QA,))
    assert refused(known, replace(known, attachments=attachments), *MAY).startswith("attachments")


def test_an_operator_who_writes_the_address_anew_declares_it() -> None:
    known = replace(EMPTY, attachments=(BARE,))
    whole = replace(BARE, address=ip_address("10.2.0.5"))
    completed = reported(known, replace(known, attachments=(whole,)), MAY)
    assert declared(completed, replace(completed, labels={"a": "b"})) == replace(
        completed, labels={"a": "b"}
    )
    moved = replace(completed, attachments=(replace(whole, address=ip_address("10.2.0.9")),))
    assert declared(completed, moved).self_reported == ()
    gone = replace(completed, attachments=())
    assert declared(completed, gone).self_reported == ()


def test_an_agent_takes_no_gateway_and_no_address_of_a_network_it_is_not_on() -> None:
    networks = [
        network("qa", "10.2.0.0/16", gateway="192.168.0.2"),
        network("production", "10.3.0.0/16"),
    ]
    there = layout(networks)

    def check(known: Node | None, address: str) -> None:
        check_own_addresses(known, replace(EMPTY, address=ip_address(address)), ("qa",), there)

    check(None, "192.168.0.1")
    check(None, "10.2.0.7")
    for taken in ("192.168.0.2", "10.3.0.7"):
        with pytest.raises(InvalidInput) as raised:
            check(None, taken)
        assert raised.value.violations[0].path == "node.address"
        check(replace(EMPTY, address=ip_address(taken)), taken)  # what it has is not looked at


def test_a_node_that_was_put_on_no_network_is_not_put_on_any_by_its_agent() -> None:
    nowhere = replace(EMPTY, attachments=())
    for attachments in (None, (QA,)):
        assert refused(nowhere, replace(nowhere, attachments=attachments), *MAY) == "attachments"
