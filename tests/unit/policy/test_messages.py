"""Messages of the API are read as documents in our own form are."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from romana.ipam.v1 import allocation_pb2
from romana.policy.v1 import endpoint_pb2, policy_pb2

from services.common.document.fields import Findings
from services.common.errors import InvalidInput
from services.common.model.names import NodeName
from services.common.rpc.models import to_tree
from services.policy.api import messages_in, messages_out
from services.policy.forms.documents import read_document
from services.policy.forms.own import read_endpoint, read_policy, read_tenant
from services.policy.store.codec import Stored
from services.policy.store.entry import Entry

POLICY = {
    "name": "shop/web",
    "tier": "POLICY_TIER_ADMIN",
    "priority": 7,
    "mode": "POLICY_MODE_AUDIT",
    "labels": {"set": "shop"},
    "targets": [
        {
            "endpoints": {
                "tenants": ["shop"],
                "tenant_labels": {"match_labels": {"team": "web"}},
                "labels": {
                    "match_labels": {"app": "web"},
                    "match_expressions": [{"key": "x", "operator": "LABEL_OPERATOR_EXISTS"}],
                },
            }
        },
        {"nodes": {"names": ["n1"]}},
    ],
    "directions": ["POLICY_DIRECTION_INGRESS"],
    "ingress": [
        {
            "action": "RULE_ACTION_PASS",
            "peers": [
                {"cidr": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                {"network": "prod"},
                {"any": {}},
            ],
            "ports": [
                {"protocol": "PROTOCOL_UDP", "port": 1000, "end_port": 2000},
                {"protocol": "PROTOCOL_ICMP", "icmp_type": 0},
            ],
        }
    ],
}


@pytest.mark.parametrize("by_proto_name", [True, False])
def test_a_message_and_its_json_are_the_same_policy(*, by_proto_name: bool) -> None:
    message = json_format.ParseDict(POLICY, policy_pb2.Policy())
    text = json_format.MessageToJson(message, preserving_proto_field_name=by_proto_name)
    (policy,) = read_document(text.encode()).policies
    assert messages_in.policy(message, "policy") == policy


@pytest.mark.parametrize(
    ("message", "read"),
    [
        (policy_pb2.Policy(), read_policy),
        (endpoint_pb2.Tenant(), read_tenant),
        (endpoint_pb2.PolicyEndpoint(), read_endpoint),
    ],
)
def test_every_field_of_a_message_is_read_or_ignored(message: Message, read: object) -> None:
    findings = Findings()
    _fill(message)
    read(to_tree(message), "", findings)  # type: ignore[operator]  # one of the readers
    assert [one for one in findings.problems if "no such field" in one.message] == []


def test_what_a_message_says_wrong_is_refused_with_its_path() -> None:
    message = json_format.ParseDict(POLICY, policy_pb2.Policy())
    message.tier = 9  # type: ignore[assignment]  # no tier
    message.targets[0].endpoints.labels.match_expressions[0].operator = 0  # type: ignore[assignment]  # none
    message.ingress[0].peers.add()
    message.ingress[0].peers[0].cidr.cidr = "10.0.0.1/8"
    with pytest.raises(InvalidInput) as caught:
        messages_in.policy(message, "policies[2]")
    assert {one.path for one in caught.value.violations} >= {
        "policies[2].tier",
        "policies[2].targets[0].endpoints.labels.match_expressions[0].operator",
        "policies[2].ingress[0].peers[0].cidr.cidr",
        "policies[2].ingress[0].peers[3]",
    }


def test_of_an_endpoint_each_says_what_is_theirs() -> None:
    message = endpoint_pb2.PolicyEndpoint(
        name="a", tenant="t", addresses=["nonsense"], labels_follow=True
    )
    message.wanted.node = "n1"
    said = messages_in.endpoint(message, "endpoints[0]")
    assert (said.node, said.addresses, said.labels_follow) == (None, (), False)
    assert said.wanted is not None
    with pytest.raises(InvalidInput, match=r"attached\[0\]\.addresses\[0\]"):
        messages_in.endpoint(message, "attached[0]", NodeName("n1"))


def _fill(message: Message) -> None:
    """Sets every field; of a oneof the last."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value["a"] = "b"
        elif field.message_type is not None:
            inner = value.add() if field.is_repeated else value
            _fill(inner)
        elif field.is_repeated:
            value.append(_scalar(field))
        else:
            setattr(message, field.name, _scalar(field))


def _scalar(field: FieldDescriptor) -> object:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    return {FieldDescriptor.CPPTYPE_STRING: "a", FieldDescriptor.CPPTYPE_BOOL: True}.get(
        field.cpp_type, 1
    )


def test_what_is_sent_is_read_as_it_was() -> None:
    policy = messages_in.policy(json_format.ParseDict(POLICY, policy_pb2.Policy()), "policy")
    sent = messages_out.policy(Entry(Stored(policy, 1500, 2500), 7))
    assert (sent.etag, sent.create_time.ToMilliseconds()) == ("7", 1500)
    assert sent.update_time.ToMilliseconds() == 2500
    assert messages_in.policy(sent, "policy") == policy


def test_an_endpoint_is_sent_as_it_was_read() -> None:
    message = endpoint_pb2.PolicyEndpoint(name="a", tenant="t", labels={"k": "v"})
    message.ports.add(name="web", protocol="TCP", port=80)
    message.wanted.node = "n1"
    message.wanted.ending = True
    message.wanted.addresses.add(network="blue", family=allocation_pb2.FAMILY_IPV6)
    said = messages_in.endpoint(message, "endpoints[0]")
    assert messages_out.endpoint(said, 0) == message
