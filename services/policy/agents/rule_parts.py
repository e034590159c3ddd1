"""Ports and prefixes as messages: what policies and the rules of nodes have in common."""

from __future__ import annotations

from romana.policy.v1 import policy_pb2

from services.common.model.rules import CidrBlock, PortMatch
from services.common.rpc import enums


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
    """A prefix with exceptions."""
    message = policy_pb2.CidrBlock(cidr=str(value.cidr))
    # the field is called as a word of Python
    getattr(message, "except").extend(map(str, value.exceptions))
    return message
