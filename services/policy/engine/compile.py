"""One direction of one policy, with peers and port names resolved: a rule set.

A port's name is one of the destination's. So in ingress rules it stands for numbers of the target,
and a policy has as many rule sets as its targets have numbers for its names; in egress rules for
numbers of the peer, and there is a rule for each number, with a group of those peers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from services.common.model.names import NetworkName
from services.common.model.network import Prefix
from services.common.model.rules import (
    Action,
    CidrBlock,
    CompiledRule,
    Direction,
    GroupId,
    OwnedPeers,
    PortMatch,
    RuleSet,
    RuleSetId,
)
from services.common.model.rules import Protocol as PortProtocol
from services.policy.engine.blocks import BlockSpec, where
from services.policy.engine.groups import GroupSpec, content_hash
from services.policy.engine.selector import canonical_endpoints, canonical_nodes
from services.policy.model import (
    Anything,
    EndpointSelector,
    NamedPort,
    NetworkPeer,
    NodeSelector,
    Peer,
    Policy,
    Rule,
)

PortName: TypeAlias = tuple[PortProtocol | None, str]
Resolution: TypeAlias = tuple[tuple[int, ...], ...]
"""What numbers the names of a direction stand for, in the order of `port_names`."""

Groups: TypeAlias = dict[GroupId, GroupSpec | BlockSpec]
"""Those that rules name, by id."""

EVERYONE: Final = EndpointSelector()


class Surroundings(Protocol):
    """What rules depend on beside themselves."""

    def cidr_of(self, network: NetworkName) -> Prefix | None:
        """A network's CIDR; None: there is no such network."""

    def numbers(
        self, selector: EndpointSelector, block: CidrBlock | None, name: PortName
    ) -> Sequence[int]:
        """What numbers a port's name stands for among endpoints, in order."""


@dataclass(slots=True)
class Compiled:
    """Rules, and the groups that they name."""

    rules: RuleSet
    groups: Mapping[GroupId, GroupSpec | BlockSpec] = field(default_factory=dict)


def port_names(rules: Iterable[Rule]) -> tuple[PortName, ...]:
    """The names of ports that rules have, in order."""
    names = {(port.protocol, port.name) for rule in rules for port in rule.ports if port.name}
    return tuple(sorted(names, key=lambda name: (str(name[0]), name[1]))) if names else ()


def networks_in(policy: Policy) -> set[NetworkName]:
    """Networks whose CIDR is a peer."""
    return {
        peer.network
        for rules in policy.rules.values()
        for rule in rules
        for peer in rule.peers
        if isinstance(peer, NetworkPeer)
    }


def compile_rules(
    policy: Policy,
    direction: Direction,
    resolution: Mapping[PortName, Sequence[int]],
    around: Surroundings,
    *,
    by_owner: bool = False,
) -> Compiled:
    """Compiles a direction that the policy governs.

    Args:
        policy: What is written.
        direction: Which of it.
        resolution: What the target's names of ports stand for.
        around: What else it depends on.
        by_owner: What a rule allows it allows whom ipam gave a block for, known or not.
    """
    groups: Groups = {}
    found: list[CompiledRule] = []
    for number, rule in enumerate(policy.rules[direction]):
        plain = [port for port in rule.ports if not port.name]
        names = [(port.protocol, port.name) for port in rule.ports if port.name]
        if names and direction is Direction.INGRESS:
            plain += [
                PortMatch(name[0], port, port)
                for name in names
                for port in resolution.get(name, ())
            ]
            names = []
        if plain:
            found += _plain(number, rule, plain, groups, around, by_owner=by_owner)
        for name in dict.fromkeys(names):
            found += _named(number, rule, name, groups, around)
    return Compiled(_rule_set(policy, direction, tuple(found)), groups)


def _plain(
    number: int,
    rule: Rule,
    ports: Sequence[PortMatch],
    groups: Groups,
    around: Surroundings,
    *,
    by_owner: bool,
) -> Iterable[CompiledRule]:
    """The rule for all peers and ports with numbers."""
    matches = _ports(ports)
    if any(isinstance(peer, Anything) for peer in rule.peers):
        yield CompiledRule(
            number, rule.action, any_peer=True, ports=matches, via=rule.via, mirror=rule.mirror
        )
        return
    those: set[GroupId] = set()
    owned: set[OwnedPeers] = set()
    blocks: list[CidrBlock] = []
    for peer in rule.peers:
        if isinstance(peer, NetworkPeer):
            cidr = around.cidr_of(peer.network)
            if cidr is not None:
                blocks.append(CidrBlock(cidr))
        elif isinstance(peer, CidrBlock):
            blocks.append(_block(peer))
        elif isinstance(peer, EndpointSelector):
            selector = canonical_endpoints(peer)
            those.add(_group(GroupSpec(selector), groups))
            owned.update(_owners(selector, rule.action, groups, by_owner=by_owner))
        elif isinstance(peer, NodeSelector):
            those.add(_group(GroupSpec(canonical_nodes(peer)), groups))
    if those or blocks:
        yield CompiledRule(
            number,
            rule.action,
            groups=tuple(sorted(those)),
            blocks=tuple(sorted(set(blocks), key=_block_text)) if len(blocks) > 1 else (*blocks,),
            ports=matches,
            owned=tuple(sorted(owned, key=_owned_text)),
            via=rule.via,
            mirror=rule.mirror,
        )


def _owners(
    selector: EndpointSelector, action: Action, groups: Groups, *, by_owner: bool
) -> Iterable[OwnedPeers]:
    """Whom a rule is about too, of those that are not known: who may be selected, if it denies."""
    scope = where(selector)
    if scope is None:
        return
    if action is Action.DENY:
        known = None if scope == selector else _group(GroupSpec(scope), groups)
        yield OwnedPeers(_group(BlockSpec(scope), groups), known)
    elif by_owner:
        # of those that are known an orchestrator may have said another owner than ipam
        yield OwnedPeers(_group(BlockSpec(scope), groups), _group(GroupSpec(EVERYONE), groups))


def _named(
    number: int,
    rule: Rule,
    name: PortName,
    groups: Groups,
    around: Surroundings,
) -> Iterable[CompiledRule]:
    """The rules for the numbers that a name stands for among the peers.

    What it stands for with those that are not known is not known: to them all ports are denied.
    """
    protocol, text = name
    if protocol is None:
        return
    by_port: dict[int, set[GroupId]] = {}
    if rule.action is Action.DENY:
        owned = {
            one
            for peer in rule.peers
            if isinstance(peer, EndpointSelector)
            for one in _unknown(canonical_endpoints(peer), groups)
        }
        if owned:
            yield CompiledRule(
                number,
                rule.action,
                ports=(PortMatch(protocol),),
                owned=tuple(sorted(owned, key=_owned_text)),
            )
    for peer in rule.peers:
        members = _members(peer)
        if members is None:
            continue
        selector, block = members
        for port in around.numbers(selector, block, name):
            spec = GroupSpec(selector, block, NamedPort(text, protocol, port))
            by_port.setdefault(port, set()).add(_group(spec, groups))
    for port, those in sorted(by_port.items()):
        yield CompiledRule(
            number,
            rule.action,
            groups=tuple(sorted(those)),
            ports=(PortMatch(protocol, port, port),),
            via=rule.via,
            mirror=rule.mirror,
        )


def _members(peer: Peer) -> tuple[EndpointSelector, CidrBlock | None] | None:
    """A peer as endpoints, since only they name ports; None: it has none."""
    if isinstance(peer, EndpointSelector):
        return canonical_endpoints(peer), None
    if isinstance(peer, Anything):
        return EVERYONE, None
    if isinstance(peer, NetworkPeer):
        return EndpointSelector(networks=(peer.network,)), None
    if isinstance(peer, CidrBlock):
        return EVERYONE, _block(peer)
    return None


def _unknown(selector: EndpointSelector, groups: Groups) -> Iterable[OwnedPeers]:
    """Those that are not known, of whom a selector may select some."""
    scope = where(selector)
    if scope is not None:
        known = _group(GroupSpec(scope), groups)
        yield OwnedPeers(_group(BlockSpec(scope), groups), known)


def _owned_text(one: OwnedPeers) -> tuple[str, str]:
    return (one.blocks, one.known or "")


def _group(spec: GroupSpec | BlockSpec, groups: Groups) -> GroupId:
    identity = spec.id
    groups[identity] = spec
    return identity


def _block(block: CidrBlock) -> CidrBlock:
    """In canonical form."""
    if len(block.exceptions) < 2:
        return block
    return CidrBlock(block.cidr, tuple(sorted(set(block.exceptions), key=str)))


def _block_text(block: CidrBlock) -> tuple[str, ...]:
    return (str(block.cidr), *map(str, block.exceptions))


def _ports(ports: Sequence[PortMatch]) -> tuple[PortMatch, ...]:
    """In order; empty: everything."""
    if any(port.protocol is None for port in ports):
        return ()
    if len(ports) == 1:
        return (ports[0],)
    return tuple(dict.fromkeys(sorted(ports, key=_port_text)))


def _port_text(port: PortMatch) -> tuple[str, int, int, int, int]:
    kind = -1 if port.icmp_type is None else port.icmp_type
    code = -1 if port.icmp_code is None else port.icmp_code
    return (str(port.protocol), port.first, port.last, kind, code)


def _rule_set(policy: Policy, direction: Direction, rules: tuple[CompiledRule, ...]) -> RuleSet:
    content = (
        str(policy.name),
        str(direction),
        int(policy.tier),
        policy.priority,
        str(policy.mode),
        tuple(
            (
                rule.number,
                str(rule.action),
                rule.any_peer,
                rule.groups,
                tuple(map(_block_text, rule.blocks)),
                tuple(map(_port_text, rule.ports)),
                *map(_owned_text, rule.owned),
                # not said where there is none: else every id would change with a new kind of field
                *((("via", rule.via),) if rule.via is not None else ()),
                *((("mirror", rule.mirror),) if rule.mirror is not None else ()),
            )
            for rule in rules
        ),
    )
    return RuleSet(
        RuleSetId(content_hash(content)),
        policy.name,
        direction,
        policy.tier,
        policy.priority,
        policy.mode,
        rules,
    )
