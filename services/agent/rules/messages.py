"""Messages of the policy service as values, and back.

The stream's resources stay packed until they are applied: so they are compared, and kept on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from google.protobuf.message import DecodeError
from romana.policy.v1 import endpoint_pb2, policy_pb2, policy_service_pb2, sync_rules_pb2

from services.agent.model import AddressWant, LocalEndpoint, WantedEndpoint
from services.agent.rules.device_messages import device_rules
from services.agent.rules.in_kernel import InKernel, RuleThere
from services.agent.rules.resources import NetworkRules, Resource, Unreadable
from services.agent.streams.answering import in_parts
from services.agent.streams.parsing import address, prefix
from services.common.errors import InvalidInput
from services.common.model.devices import DeviceGroupName
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.rules import (
    MAX_PORT,
    CidrBlock,
    CompiledRule,
    EndpointRules,
    GroupBlock,
    GroupId,
    GroupPage,
    NodeRules,
    OwnedPeers,
    PolicyName,
    PortMatch,
    Profile,
    RuleSet,
    RuleSetId,
)
from services.common.rpc import enums
from services.common.sync import wire
from services.common.sync.model import Ack, Hello, Response

_BITS: Final = {4: 32, 16: 128}
_BYTE: Final = 255


def hello(value: Hello, failsafe: Failsafe) -> sync_rules_pb2.SyncRulesRequest:
    """The first message; `failsafe`: what no policy on the node cuts off."""
    return sync_rules_pb2.SyncRulesRequest(hello=wire.hello(replace(value, failsafe=failsafe)))


def ack(value: Ack) -> sync_rules_pb2.SyncRulesRequest:
    """Every other."""
    return sync_rules_pb2.SyncRulesRequest(ack=wire.ack(value))


def parse_response(message: sync_rules_pb2.SyncRulesResponse) -> Response[bytes]:
    """Reads a response, its resources still packed; raises InvalidInput."""
    return Response(
        message.nonce,
        wire.parse_position(message.position),
        wire.parse_phase(message.phase),
        {item.id: item.SerializeToString(deterministic=True) for item in message.updated},
        tuple(message.removed),
        message.trace_parent,
    )


def kernel_parts(found: InKernel | None) -> Sequence[sync_rules_pb2.KernelRules]:
    """What the kernel has, in parts of a bounded size; None: it is not known what it shall have."""
    if found is None:
        return [sync_rules_pb2.KernelRules(waiting=True)]
    return in_parts(
        sync_rules_pb2.KernelRules,
        lambda part: sync_rules_pb2.KernelRules(rules=part),
        _kernel_rule,
        found.rules,
        found.differences,
    )


def _kernel_rule(found: RuleThere) -> sync_rules_pb2.KernelRule:
    return sync_rules_pb2.KernelRule(
        policy=found.rule.policy,
        direction=enums.DIRECTIONS[found.rule.direction],
        rule=found.rule.rule,
        wanted=found.wanted,
        there=found.there,
        packets=found.packets,
        bytes=found.size,
    )


def report(
    node: NodeName,
    attached: Iterable[LocalEndpoint],
    detached: Iterable[EndpointName],
    *,
    complete: bool,
) -> policy_service_pb2.ReportEndpointsRequest:
    return policy_service_pb2.ReportEndpointsRequest(
        node=node,
        attached=[
            endpoint_pb2.PolicyEndpoint(
                name=one.name,
                tenant=one.tenant,
                segment=one.segment,
                labels=dict(one.labels),
                node=node,
                addresses=[str(item.address) for item in one.addresses],
                instance=one.instance,
                labels_follow=one.labels_follow,
            )
            for one in attached
        ],
        detached=detached,
        complete=complete,
    )


def parse_resource(packed: bytes) -> Resource:
    """Reads a resource. One that is wrong is `Unreadable`, and fails alone."""
    try:
        return _parse(sync_rules_pb2.RuleResource.FromString(packed))
    except (InvalidInput, DecodeError) as error:
        return Unreadable(str(error))


def _parse(item: sync_rules_pb2.RuleResource) -> Resource:
    match item.WhichOneof("resource"):
        case "endpoint":
            return EndpointRules(
                EndpointName(item.endpoint.name),
                tuple(address(text, "endpoint.addresses") for text in item.endpoint.addresses),
                _profile(item.endpoint),
                item.endpoint.instance,
            )
        case "node":
            return NodeRules(NodeName(item.node.name), _profile(item.node))
        case "rules":
            return _rule_set(item.rules)
        case "page":
            return _page(item.page)
        case "block":
            return GroupBlock(GroupId(item.block.group), prefix(item.block.cidr, "block.cidr"))
        case "network":
            cidr = prefix(item.network.cidr, "network.cidr")
            return NetworkRules(NetworkName(item.network.name), cidr, item.network.masquerade)
        case "wanted":
            return _wanted(item.wanted)
        case "devices":
            return device_rules(item.devices)
        case _:
            raise InvalidInput(f"{item.id}: this agent does not know what it is")


def _wanted(message: sync_rules_pb2.WantedEndpoint) -> WantedEndpoint:
    attachment = message.attachment
    return WantedEndpoint(
        EndpointName(message.name),
        Tenant(message.tenant),
        Segment(message.segment),
        dict(message.labels),
        tuple(
            AddressWant(
                NetworkName(one.network) if one.network else None,
                enums.FAMILY_OF.get(one.family, 0),
                one.address,
            )
            for one in attachment.addresses
        ),
        attachment.allocation,
        attachment.ending,
        attachment.refusal,
        attachment.gone,
    )


def _profile(message: sync_rules_pb2.EndpointRules | sync_rules_pb2.NodeRules) -> Profile:
    return Profile(
        tuple(RuleSetId(one) for one in message.ingress.rule_sets),
        tuple(RuleSetId(one) for one in message.egress.rule_sets),
    )


def _page(message: sync_rules_pb2.GroupPage) -> GroupPage:
    bits = _BITS.get(len(message.base))
    if bits is None or message.base[-1] & 63:
        raise InvalidInput.at("page.base", "is not the first of 64 addresses")
    base = int.from_bytes(message.base, "big")
    return GroupPage(GroupId(message.group), base, bits, message.members)


def _rule_set(message: sync_rules_pb2.RuleSet) -> RuleSet:
    direction = enums.DIRECTION_OF.get(message.direction)
    # written rules may leave tiers and actions out, compiled ones may not
    tier = enums.TIER_OF.get(message.tier) if message.tier else None
    mode = enums.MODE_OF.get(message.mode)
    if direction is None or tier is None or mode is None:
        raise InvalidInput.at("rules", "direction, tier or mode is not known")
    return RuleSet(
        RuleSetId(message.id),
        PolicyName(message.policy),
        direction,
        tier,
        message.priority,
        mode,
        tuple(_rule(one, f"rules.rules[{index}]") for index, one in enumerate(message.rules)),
    )


def _rule(message: sync_rules_pb2.CompiledRule, path: str) -> CompiledRule:
    action = enums.ACTION_OF.get(message.action) if message.action else None
    if action is None:
        raise InvalidInput.at(f"{path}.action", f"{message.action} is not a RuleAction")
    return CompiledRule(
        message.number,
        action,
        message.any_peer,
        tuple(GroupId(one) for one in message.groups),
        tuple(
            CidrBlock(
                prefix(block.cidr, f"{path}.blocks.cidr"),
                tuple(prefix(text, f"{path}.blocks.except") for text in getattr(block, "except")),
            )
            for block in message.blocks
        ),
        tuple(_port(one, f"{path}.ports[{index}]") for index, one in enumerate(message.ports)),
        tuple(
            OwnedPeers(GroupId(one.blocks), GroupId(one.known) if one.known else None)
            for one in message.owned
        ),
        DeviceGroupName(message.via) if message.via else None,
        DeviceGroupName(message.mirror) if message.mirror else None,
    )


def _port(message: policy_pb2.PortMatch, path: str) -> PortMatch:
    protocol = enums.PROTOCOL_OF.get(message.protocol)
    if message.protocol and protocol is None:
        raise InvalidInput.at(f"{path}.protocol", f"{message.protocol} is not a Protocol")
    last = message.end_port or message.port
    kind = message.icmp_type if message.HasField("icmp_type") else None
    code = message.icmp_code if message.HasField("icmp_code") else None
    if message.port_name or last > MAX_PORT or last < message.port:
        raise InvalidInput.at(path, "is not a port or a range of ports")
    if (kind or 0) > _BYTE or (code or 0) > _BYTE:
        raise InvalidInput.at(path, "is not a type and code of ICMP")
    return PortMatch(protocol, message.port, last, icmp_type=kind, icmp_code=code)
