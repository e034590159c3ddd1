"""Messages of the API as values.

What a value cannot hold is refused here with its field path, all of it at once; what it can hold is
checked by `check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from romana.policy.v1 import endpoint_pb2, policy_pb2, selector_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.document.values import parse_address, parse_prefix
from services.common.errors import InvalidInput, Violation
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Address
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    Mode,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from services.common.rpc import enums
from services.policy.api import messages_out
from services.policy.checks.policies import MAX_SIZE, check, check_endpoint, check_tenant
from services.policy.model import (
    Anything,
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NamedPort,
    NetworkPeer,
    NodeSelector,
    Operator,
    Peer,
    Policy,
    Requirement,
    Rule,
    Target,
    TenantRecord,
    WantedAddress,
    WantedAttachment,
)

MAX_POLICY_BYTES: Final = 2 * MAX_SIZE
"""Of a policy's message: more is refused without a look at it."""
NAMES_MOST: Final = 1_000
"""In a filter."""

_OPERATORS: Final = {number: operator for operator, number in messages_out.OPERATORS.items()}
_ISOLATIONS: Final = {number: isolation for isolation, number in messages_out.ISOLATIONS.items()}
_T = TypeVar("_T")


def policy(message: policy_pb2.Policy, at: str) -> Policy:
    """A policy, without what is output only; raises InvalidInput."""
    if message.ByteSize() > MAX_POLICY_BYTES:
        raise InvalidInput.at(
            at, f"the policy has {message.ByteSize()} bytes, at most {MAX_POLICY_BYTES} are taken"
        )
    problems: list[Violation] = []
    value = Policy(
        name=PolicyName(message.name),
        tier=_choose(enums.TIER_OF, message.tier, f"{at}.tier", problems, Tier.TENANT),
        targets=tuple(
            target
            for number, part in enumerate(message.targets)
            if (target := _target(part, f"{at}.targets[{number}]", problems)) is not None
        ),
        rules=_rules(message, at, problems),
        priority=message.priority,
        mode=_choose(enums.MODE_OF, message.mode, f"{at}.mode", problems, Mode.ENFORCE),
        description=message.description,
        labels=dict(message.labels),
    )
    return checked(value, check(value), at, problems)


def tenant(message: endpoint_pb2.Tenant, at: str) -> TenantRecord:
    """A tenant; raises InvalidInput."""
    problems: list[Violation] = []
    value = TenantRecord(
        Tenant(message.name),
        dict(message.labels),
        _choose(_ISOLATIONS, message.isolation, f"{at}.isolation", problems, None),
    )
    return checked(value, check_tenant(value), at, problems)


def endpoint(
    message: endpoint_pb2.PolicyEndpoint, at: str, node: NodeName | None = None
) -> Endpoint:
    """An endpoint: without a node what an orchestrator says, which has no addresses; with a node
    what its agent says. Raises InvalidInput."""
    problems: list[Violation] = []
    addresses: tuple[Address, ...] = ()
    if node is not None:
        addresses = tuple(
            address
            for number, text in enumerate(message.addresses)
            if (address := parse_address(text, f"{at}.addresses[{number}]", problems)) is not None
        )
    value = Endpoint(
        name=EndpointName(message.name),
        tenant=Tenant(message.tenant),
        segment=Segment(message.segment),
        labels=dict(message.labels),
        ports=tuple(
            NamedPort(part.name, protocol, part.port)
            for number, part in enumerate(message.ports)
            if (protocol := _protocol_name(part.protocol, f"{at}.ports[{number}]", problems))
        ),
        node=node,
        addresses=tuple(dict.fromkeys(addresses)),
        wanted=_wanted(message, at, problems) if node is None else None,
        instance=message.instance if node is not None else "",
        labels_follow=message.labels_follow and node is not None,
    )
    return checked(value, check_endpoint(value), at, problems)


def _wanted(
    message: endpoint_pb2.PolicyEndpoint, at: str, problems: list[Violation]
) -> WantedAttachment | None:
    if not message.HasField("wanted"):
        return None
    wanted = message.wanted
    found = []
    for number, part in enumerate(wanted.addresses):
        place = f"{at}.wanted.addresses[{number}]"
        family = enums.FAMILY_OF.get(part.family)
        if family is None:
            problems.append(Violation(f"{place}.family", f"{part.family} is not a Family"))
        address = None
        if part.address:
            address = parse_address(part.address, f"{place}.address", problems)
        network = NetworkName(part.network) if part.network else None
        found.append(WantedAddress(network, family or 0, address))
    return WantedAttachment(
        NodeName(wanted.node),
        tuple(found),
        wanted.allocation,
        wanted.ending,
        wanted.refusal,
        wanted.gone,
    )


@dataclass(frozen=True, slots=True)
class EndpointFilter:
    """Which endpoints; what is empty is not looked at."""

    node: str = ""
    tenant: str = ""
    segment: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, endpoint: Endpoint) -> bool:
        """Says whether an endpoint is meant."""
        return (
            self.node in {"", endpoint.node}
            and self.tenant in {"", endpoint.tenant}
            and self.segment in {"", endpoint.segment}
            and self.labels.items() <= endpoint.labels.items()
        )


def endpoint_filter(message: api.EndpointFilter) -> EndpointFilter:
    """Which endpoints; by name is looked up where they are. Raises InvalidInput."""
    if len(message.names) > NAMES_MOST:
        raise InvalidInput.at("names", f"{len(message.names)} are more than {NAMES_MOST}")
    return EndpointFilter(message.node, message.tenant, message.segment, dict(message.labels))


def attached(messages: Iterable[endpoint_pb2.PolicyEndpoint], node: NodeName) -> list[Endpoint]:
    """What an agent says is attached to its node; raises InvalidInput."""
    found: dict[EndpointName, Endpoint] = {}
    problems: list[Violation] = []
    for number, message in enumerate(messages):
        at = f"attached[{number}]"
        try:
            value = endpoint(message, at, node)
        except InvalidInput as error:
            problems += error.violations
            continue
        if value.name in found:
            problems.append(Violation(f"{at}.name", f"there is another {value.name[:80]!r}"))
        found[value.name] = value
    if problems:
        raise InvalidInput.of(problems)
    return list(found.values())


def policy_name(text: str) -> PolicyName:
    """A name in a request; raises InvalidInput if there is none."""
    if not text:
        raise InvalidInput.at("name", "is missing")
    return PolicyName(text)


def endpoint_name(text: str) -> EndpointName:
    """A name in a request; raises InvalidInput if there is none."""
    if not text:
        raise InvalidInput.at("name", "is missing")
    return EndpointName(text)


def checked(value: _T, found: Iterable[Violation], at: str, problems: Sequence[Violation]) -> _T:
    """The value; raises InvalidInput for the problems and for what else was found."""
    violations = [*problems, *(Violation(_join(at, one.path), one.message) for one in found)]
    if violations:
        raise InvalidInput.of(violations)
    return value


def protocol(number: int, at: str, problems: list[Violation]) -> Protocol | None:
    """A protocol; None: any."""
    if not number:
        return None
    return _choose(enums.PROTOCOL_OF, number, at, problems, None)


def _join(at: str, path: str) -> str:
    return f"{at}.{path}" if at and path else at or path


def _rules(
    message: policy_pb2.Policy, at: str, problems: list[Violation]
) -> Mapping[Direction, tuple[Rule, ...]]:
    """By the directions that are governed; those that are not named by Kubernetes' default."""
    directions = {
        _choose(
            enums.DIRECTION_OF, number, f"{at}.directions[{place}]", problems, Direction.INGRESS
        )
        for place, number in enumerate(message.directions)
    }
    if not directions:
        directions = {Direction.INGRESS, *([Direction.EGRESS] if message.egress else [])}
    found: dict[Direction, tuple[Rule, ...]] = {}
    for direction, parts in (
        (Direction.INGRESS, message.ingress),
        (Direction.EGRESS, message.egress),
    ):
        if direction in directions:
            found[direction] = tuple(
                _rule(part, f"{at}.{direction}[{number}]", problems)
                for number, part in enumerate(parts)
            )
        elif parts:
            problems.append(
                Violation(f"{at}.{direction}", f"there are rules, but directions lack {direction}")
            )
    return found


def _rule(message: policy_pb2.Rule, at: str, problems: list[Violation]) -> Rule:
    peers = tuple(
        peer
        for number, part in enumerate(message.peers)
        if (peer := _peer(part, f"{at}.peers[{number}]", problems)) is not None
    )
    ports = tuple(
        _port(part, f"{at}.ports[{number}]", problems) for number, part in enumerate(message.ports)
    )
    return Rule(
        _choose(enums.ACTION_OF, message.action, f"{at}.action", problems, Action.ALLOW),
        peers or (Anything(),),
        ports or (PortMatch(),),
    )


def _target(message: policy_pb2.Target, at: str, problems: list[Violation]) -> Target | None:
    match message.WhichOneof("target"):
        case "endpoints":
            return _endpoints(message.endpoints, f"{at}.endpoints", problems)
        case "nodes":
            return _nodes(message.nodes, f"{at}.nodes", problems)
        case _:
            problems.append(Violation(at, "one of endpoints and nodes is needed"))
            return None


def _peer(message: policy_pb2.Peer, at: str, problems: list[Violation]) -> Peer | None:
    match message.WhichOneof("peer"):
        case "endpoints":
            return _endpoints(message.endpoints, f"{at}.endpoints", problems)
        case "cidr":
            return _block(message.cidr, f"{at}.cidr", problems)
        case "nodes":
            return _nodes(message.nodes, f"{at}.nodes", problems)
        case "network":
            return NetworkPeer(NetworkName(message.network))
        case "any":
            return Anything()
        case _:
            problems.append(
                Violation(at, "one of endpoints, cidr, nodes, network and any is needed")
            )
            return None


def _block(message: policy_pb2.CidrBlock, at: str, problems: list[Violation]) -> CidrBlock | None:
    cidr = parse_prefix(message.cidr, f"{at}.cidr", problems)
    # the field is called as a word of Python
    texts: Iterable[str] = getattr(message, "except")
    exceptions = tuple(
        prefix
        for number, text in enumerate(texts)
        if (prefix := parse_prefix(text, f"{at}.except[{number}]", problems)) is not None
    )
    return None if cidr is None else CidrBlock(cidr, exceptions)


def _port(message: policy_pb2.PortMatch, at: str, problems: list[Violation]) -> PortMatch:
    if message.end_port and not message.port:
        problems.append(Violation(f"{at}.end_port", "needs port, where the range begins"))
    return PortMatch(
        protocol=protocol(message.protocol, f"{at}.protocol", problems),
        first=message.port,
        last=message.end_port or message.port,
        name=message.port_name,
        icmp_type=message.icmp_type if message.HasField("icmp_type") else None,
        icmp_code=message.icmp_code if message.HasField("icmp_code") else None,
    )


def _endpoints(
    message: selector_pb2.EndpointSelector, at: str, problems: list[Violation]
) -> EndpointSelector:
    return EndpointSelector(
        tuple(map(Tenant, message.tenants)),
        tuple(map(Segment, message.segments)),
        tuple(map(NetworkName, message.networks)),
        _labels(message.labels, f"{at}.labels", problems),
        _labels(message.tenant_labels, f"{at}.tenant_labels", problems),
    )


def _nodes(message: selector_pb2.NodeSelector, at: str, problems: list[Violation]) -> NodeSelector:
    return NodeSelector(
        tuple(map(NodeName, message.names)), _labels(message.labels, f"{at}.labels", problems)
    )


def _labels(
    message: selector_pb2.LabelSelector, at: str, problems: list[Violation]
) -> LabelSelector:
    return LabelSelector(tuple(_requirements(message, at, problems)))


def _requirements(
    message: selector_pb2.LabelSelector, at: str, problems: list[Violation]
) -> Iterator[Requirement]:
    for key in sorted(message.match_labels):
        yield Requirement(key, Operator.IN, (message.match_labels[key],))
    for number, part in enumerate(message.match_expressions):
        path = f"{at}.match_expressions[{number}].operator"
        operator = _choose(_OPERATORS, part.operator, path, problems, Operator.IN)
        yield Requirement(part.key, operator, tuple(part.values))


def _protocol_name(text: str, at: str, problems: list[Violation]) -> Protocol | None:
    try:
        return Protocol(text.lower())
    except ValueError:
        problems.append(Violation(f"{at}.protocol", f"{text[:80]!r} is not TCP, UDP or SCTP"))
        return None


def _choose(
    # numbers, which protobuf's declarations take for a type of each enum
    known: Mapping[Any, _T],
    number: int,
    at: str,
    problems: list[Violation],
    default: _T,
) -> _T:
    if number in known:
        return known[number]
    problems.append(Violation(at, f"{number} is not a value of this enum that may be given"))
    return default
