"""`SyncRules` messages as values, and back."""

from __future__ import annotations

from typing import Final

from romana.policy.v1 import sync_rules_pb2 as pb

from services.common.model.devices import DeviceRules
from services.common.model.rules import (
    CompiledRule,
    EndpointRules,
    GroupBlock,
    GroupPage,
    NodeRules,
    Profile,
    RuleSet,
)
from services.common.rpc import enums
from services.common.sync.encoding import dialect, serialise
from services.policy.agents.device_parts import device_rules
from services.policy.agents.rule_parts import block, port, wanted
from services.policy.engine.resources import Resource, WantedEndpoint
from services.policy.model import PolicyNetwork


def resource(identity: str, value: Resource) -> bytes:
    """A resource, serialised."""
    message = pb.RuleResource(id=identity)
    match value:
        case EndpointRules():
            message.endpoint.CopyFrom(
                pb.EndpointRules(
                    name=value.name,
                    addresses=map(str, value.addresses),
                    ingress=_profile(value.profile, ingress=True),
                    egress=_profile(value.profile, ingress=False),
                    instance=value.instance,
                )
            )
        case NodeRules():
            message.node.CopyFrom(
                pb.NodeRules(
                    name=value.name,
                    ingress=_profile(value.profile, ingress=True),
                    egress=_profile(value.profile, ingress=False),
                )
            )
        case RuleSet():
            message.rules.CopyFrom(_rule_set(value))
        case GroupPage():
            base = value.base.to_bytes(value.bits // 8, "big")
            message.page.CopyFrom(pb.GroupPage(group=value.group, base=base, members=value.members))
        case GroupBlock():
            message.block.CopyFrom(pb.GroupBlock(group=value.group, cidr=str(value.cidr)))
        case PolicyNetwork():
            message.network.CopyFrom(
                pb.NetworkRules(name=value.name, cidr=str(value.cidr), masquerade=value.masquerade)
            )
        case DeviceRules():
            message.devices.CopyFrom(device_rules(value))
        case WantedEndpoint():
            message.wanted.CopyFrom(
                pb.WantedEndpoint(
                    name=value.name,
                    tenant=value.tenant,
                    segment=value.segment,
                    labels=dict(value.labels),
                    attachment=wanted(value.attachment),
                )
            )
    return serialise(message)


DIALECT: Final = dialect(pb.SyncRulesResponse)


def _profile(value: Profile, *, ingress: bool) -> pb.Profile:
    return pb.Profile(rule_sets=value.ingress if ingress else value.egress)


def _rule_set(value: RuleSet) -> pb.RuleSet:
    return pb.RuleSet(
        id=value.id,
        policy=value.policy,
        direction=enums.DIRECTIONS[value.direction],
        tier=enums.TIERS[value.tier],
        priority=value.priority,
        mode=enums.MODES[value.mode],
        rules=map(_rule, value.rules),
    )


def _rule(value: CompiledRule) -> pb.CompiledRule:
    return pb.CompiledRule(
        number=value.number,
        action=enums.ACTIONS[value.action],
        any_peer=value.any_peer,
        groups=value.groups,
        blocks=map(block, value.blocks),
        ports=map(port, value.ports),
        owned=[pb.OwnedPeers(blocks=one.blocks, known=one.known or "") for one in value.owned],
        via=value.via or "",
        mirror=value.mirror or "",
    )
