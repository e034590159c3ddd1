"""Values as messages: what the API and the streams to agents have in common."""

from __future__ import annotations

from romana.ipam.v1 import allocation_pb2
from romana.policy.v1 import endpoint_pb2, policy_pb2

from services.common.model.rules import CidrBlock, PortMatch
from services.common.rpc import enums
from services.policy.model import WantedAttachment


def port(value: PortMatch) -> policy_pb2.PortMatch:
    """What is spoken to."""
    message = policy_pb2.PortMatch(port=value.first, port_name=value.name)
    if value.last != value.first:
        message.end_port = value.last
    if value.protocol is not None:
        message.protocol = enums.PROTOCOLS[value.protocol]
    if value.icmp_type is not None:
        message.icmp_type = value.icmp_type
    if value.icmp_code is not None:
        message.icmp_code = value.icmp_code
    return message


def block(value: CidrBlock) -> policy_pb2.CidrBlock:
    message = policy_pb2.CidrBlock(cidr=str(value.cidr))
    # `except` is a keyword of Python
    getattr(message, "except").extend(map(str, value.exceptions))
    return message


def wanted(value: WantedAttachment) -> endpoint_pb2.WantedAttachment:
    """How an endpoint is to be attached."""
    return endpoint_pb2.WantedAttachment(
        node=value.node,
        addresses=[
            allocation_pb2.AddressSpec(
                network=one.network or "",
                family=enums.FAMILIES[one.family],
                address="" if one.address is None else str(one.address),
            )
            for one in value.addresses
        ],
        allocation=value.allocation,
        ending=value.is_ending,
        refusal=value.refusal,
        gone=value.is_gone,
    )
