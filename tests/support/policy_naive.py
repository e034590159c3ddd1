"""What becomes of a connection, straight from what is written: no groups, no ids, no index.

Follows the comments of `protos/romana/policy/v1` and Kubernetes' documentation of NetworkPolicy,
and nothing of `services.policy` but its words, and which selectors nothing can match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from services.common.model.names import EndpointName, NetworkName, NodeName, Tenant
from services.common.model.network import Address, Isolation, Prefix
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    Mode,
    Packet,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from services.policy.engine.blocks import OwnedBlock
from services.policy.engine.selector import NOTHING, canonical
from services.policy.model import (
    Anything,
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NetworkPeer,
    NodeSelector,
    Operator,
    Peer,
    Policy,
    PolicyNetwork,
    PolicyNode,
    Rule,
    TenantRecord,
)


@dataclass(slots=True)
class World:
    """All that is written and known."""

    policies: dict[PolicyName, Policy] = field(default_factory=dict)
    tenants: dict[Tenant, TenantRecord] = field(default_factory=dict)
    endpoints: dict[EndpointName, Endpoint] = field(default_factory=dict)
    networks: dict[NetworkName, PolicyNetwork] = field(default_factory=dict)
    nodes: dict[NodeName, PolicyNode] = field(default_factory=dict)
    blocks: dict[Prefix, OwnedBlock] = field(default_factory=dict)

    def is_allowed(
        self, subject: Endpoint | PolicyNode, direction: Direction, packet: Packet
    ) -> bool:
        """Whether a connection to (ingress) or from (egress) an endpoint or node is allowed."""
        for rule, _ in self._matching(subject, direction, packet, Tier.ADMIN):
            if rule.action is Action.PASS:
                break
            return rule.action is Action.ALLOW
        if any(self._policies(subject, direction, Tier.TENANT)):
            return any(self._matching(subject, direction, packet, Tier.TENANT))
        for rule, _ in self._matching(subject, direction, packet, Tier.BASELINE):
            return rule.action is Action.ALLOW
        if direction is Direction.INGRESS and isinstance(subject, Endpoint):
            return not self._is_apart(subject, packet.source)
        return True

    def _policies(
        self, subject: Endpoint | PolicyNode, direction: Direction, tier: Tier
    ) -> Iterator[Policy]:
        for policy in sorted(self.policies.values(), key=lambda one: (one.priority, one.name)):
            if (
                policy.tier is tier
                and policy.mode is Mode.ENFORCE
                and direction in policy.rules
                and any(self._is_target(target, subject) for target in policy.targets)
            ):
                yield policy

    def _matching(
        self, subject: Endpoint | PolicyNode, direction: Direction, packet: Packet, tier: Tier
    ) -> Iterator[tuple[Rule, Policy]]:
        peer = packet.source if direction is Direction.INGRESS else packet.destination
        for policy in self._policies(subject, direction, tier):
            for rule in policy.rules[direction]:
                for one in rule.peers:
                    denied = self._may_be(one, peer) if rule.action is Action.DENY else 0
                    if not denied and not self._is_peer(one, peer):
                        continue
                    spoken_to: Iterable[Endpoint]
                    if direction is Direction.INGRESS:
                        spoken_to = [subject] if isinstance(subject, Endpoint) else []
                    else:
                        spoken_to = [
                            endpoint
                            for endpoint in self._at(peer)
                            if not isinstance(one, NodeSelector)
                            and (
                                not isinstance(one, EndpointSelector)
                                or self._selects(one, endpoint)
                            )
                        ]
                    # what numbers an unknown peer's names of ports stand for is not known either
                    unnamed = denied == _UNKNOWN and direction is Direction.EGRESS
                    if any(
                        _is_port(port, packet, spoken_to)
                        or (unnamed and port.name and port.protocol is packet.protocol)
                        for port in rule.ports
                    ):
                        yield rule, policy
                        break

    def _is_target(
        self, target: EndpointSelector | NodeSelector, subject: Endpoint | PolicyNode
    ) -> bool:
        if isinstance(target, NodeSelector):
            return isinstance(subject, PolicyNode) and _selects_node(target, subject)
        return isinstance(subject, Endpoint) and self._selects(target, subject)

    def _is_peer(self, peer: Peer, address: Address) -> bool:
        if isinstance(peer, Anything):
            return True
        if isinstance(peer, CidrBlock):
            return address in peer.cidr and all(address not in one for one in peer.exceptions)
        if isinstance(peer, NetworkPeer):
            return self._is_on([peer.network], address)
        if isinstance(peer, NodeSelector):
            return any(
                address in node.addresses and _selects_node(peer, node)
                for node in self.nodes.values()
            )
        return any(self._selects(peer, one) for one in self._at(address)) and (
            not peer.networks or self._is_on(peer.networks, address)
        )

    def _may_be(self, peer: Peer, address: Address) -> int:
        """Whether an address may be a peer's, of whose endpoint nobody has told."""
        if not isinstance(peer, EndpointSelector):
            return 0
        block = next((one for one in self.blocks.values() if address in one.cidr), None)
        where = replace(peer, labels=LabelSelector())
        if block is None or not self._selects_block(where, block) or _is_void(peer):
            return 0
        if not self._is_peer(where, address):
            return _UNKNOWN
        return 0 if _has_requirements(peer.labels) else _WHOEVER

    def _selects_block(self, selector: EndpointSelector, block: OwnedBlock) -> bool:
        tenant = self.tenants.get(block.tenant, TenantRecord(block.tenant))
        return (
            (not selector.tenants or block.tenant in selector.tenants)
            and (not selector.segments or block.segment in selector.segments)
            and (not selector.networks or block.network in selector.networks)
            and _has_labels(selector.tenant_labels, tenant.labels)
        )

    def _selects(self, selector: EndpointSelector, endpoint: Endpoint) -> bool:
        tenant = self.tenants.get(endpoint.tenant, TenantRecord(endpoint.tenant))
        return (
            (not selector.tenants or endpoint.tenant in selector.tenants)
            and (not selector.segments or endpoint.segment in selector.segments)
            and (
                not selector.networks
                or any(self._is_on(selector.networks, one) for one in endpoint.addresses)
            )
            and _has_labels(selector.labels, endpoint.labels)
            and _has_labels(selector.tenant_labels, tenant.labels)
        )

    def _is_on(self, networks: Iterable[NetworkName], address: Address) -> bool:
        return any(
            address in self.networks[name].cidr for name in networks if name in self.networks
        )

    def _at(self, address: Address) -> list[Endpoint]:
        return [one for one in self.endpoints.values() if address in one.addresses]

    def _is_apart(self, subject: Endpoint, source: Address) -> bool:
        tenant = self.tenants.get(subject.tenant)
        if tenant is not None and tenant.isolation is not None:
            levels = {tenant.isolation}
        else:
            levels = {
                network.isolation
                for network in self.networks.values()
                if any(address in network.cidr for address in subject.addresses)
            }
        senders: list[Endpoint | OwnedBlock] = [*self._at(source)]
        if not senders:
            senders += [one for one in self.blocks.values() if source in one.cidr]
        if not senders:
            return False
        if Isolation.SEGMENT in levels:
            return all(
                (one.tenant, one.segment) != (subject.tenant, subject.segment) for one in senders
            )
        if Isolation.TENANT in levels:
            return all(one.tenant != subject.tenant for one in senders)
        return False


_WHOEVER, _UNKNOWN = 1, 2


def _is_void(selector: EndpointSelector) -> bool:
    """Nothing can have all that it asks for."""
    labels = [canonical(one) for one in (selector.labels, selector.tenant_labels)]
    return NOTHING in labels


def _has_requirements(selector: LabelSelector) -> bool:
    return bool(canonical(selector).requirements)


def _selects_node(selector: NodeSelector, node: PolicyNode) -> bool:
    return (not selector.names or node.name in selector.names) and _has_labels(
        selector.labels, node.labels
    )


def _has_labels(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    for one in selector.requirements:
        there = one.key in labels
        among = there and labels[one.key] in one.values
        holds = {
            Operator.IN: among,
            Operator.NOT_IN: not among,
            Operator.EXISTS: there,
            Operator.DOES_NOT_EXIST: not there,
        }[one.operator]
        if not holds:
            return False
    return True


def _is_port(port: PortMatch, packet: Packet, spoken_to: Iterable[Endpoint]) -> bool:
    if port.protocol is None:
        return True
    if port.protocol is not packet.protocol:
        return False
    if port.name:
        return any(
            (own.name, own.protocol, own.port) == (port.name, packet.protocol, packet.port)
            for endpoint in spoken_to
            for own in endpoint.ports
        )
    if packet.protocol in (Protocol.ICMP, Protocol.ICMPV6):
        if port.icmp_type is None:
            return True
        return port.icmp_type == packet.icmp_type and port.icmp_code in (None, packet.icmp_code)
    return port.first == 0 or packet.port in range(port.first, port.last + 1)
