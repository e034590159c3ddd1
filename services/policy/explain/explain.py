"""Explains what becomes of a connection: verdicts, what they come from, and the packet's way.

By compiled rules and `judging`, as the kernel does it. What is never judged: a connection of an
endpoint with itself, one from a node to its own endpoints, and by policies on a node what is
fail-safe there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.common.errors import InvalidInput, NotFound, WrongState
from services.common.model.failsafe import NOTHING, Failsafe, Port
from services.common.model.names import EndpointName, NodeName
from services.common.model.network import Address
from services.common.model.rules import Action, Direction, Packet, Protocol, RuleSet
from services.policy.engine.engine import Engine
from services.policy.explain.mirroring import Mirroring, mirrors
from services.policy.explain.path import End, Path, network_of, path
from services.policy.explain.steering import Outcome, Steering, steering, taking
from services.policy.explain.verdict import Side, Verdict, verdict
from services.policy.model import Endpoint, PolicyNode

NO_PORTS: Final = 253
"""Stands for any protocol without ports: a number for experiments, RFC 3692."""
ECHO: Final = {4: 8, 6: 128}
"""Types of ICMP and ICMPv6 that are asked about if none is said: an echo request."""


@dataclass(frozen=True, slots=True)
class Party:
    """One side of a connection somebody asks about: exactly one of these."""

    endpoint: EndpointName | None = None
    address: Address | None = None
    node: NodeName | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """What is asked about."""

    source: Party
    destination: Party
    protocol: Protocol | None = None
    """None: TCP if there is a port, else any protocol that has no port."""
    port: int = 0
    icmp_type: int | None = None
    icmp_code: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a pair of addresses comes to."""

    source: Address
    destination: Address
    action: Action
    """Of both directions together."""
    path: Path
    egress: Verdict | None = None
    """None: not judged."""
    ingress: Verdict | None = None
    nodes: frozenset[NodeName] = frozenset()
    """Nodes that enforce it."""
    steering: Steering | None = None
    """None: it goes through no devices."""
    mirrors: tuple[Mirroring, ...] = ()
    """Who gets copies."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """Who has an address."""

    address: Address
    endpoint: Endpoint | None = None
    node: PolicyNode | None = None

    @property
    def place(self) -> NodeName | None:
        """The node it is on."""
        return self.node.name if self.node else self.endpoint.node if self.endpoint else None

    @property
    def title(self) -> str:
        """For people; empty: nobody has it."""
        if self.endpoint is not None:
            return f"endpoint {self.endpoint.name}"
        return f"node {self.node.name}" if self.node else ""


def explain(
    engine: Engine,
    connection: Connection,
    failsafe: Callable[[NodeName], Failsafe] = lambda _: NOTHING,
) -> list[Explanation]:
    """Explains each pair of addresses of one family that the two sides have.

    Args:
        engine: Says what is enforced.
        connection: What is asked about.
        failsafe: Says what no policy on a node cuts off.

    Raises:
        NotFound: there is no such endpoint or node.
        WrongState: one side has no address.
        InvalidInput: the sides have no family in common.
    """
    sources = _subjects(engine, connection.source)
    destinations = _subjects(engine, connection.destination)
    found = [
        _explain(_Judges(engine, failsafe), source, destination, connection)
        for source in sources
        for destination in destinations
        if source.address.version == destination.address.version
    ]
    if not found:
        raise InvalidInput.at(
            "connection.destination", "the two have no addresses of one family in common"
        )
    return found


def packet_of(
    source: Address,
    destination: Address,
    protocol: Protocol | None,
    port: int = 0,
    *,
    icmp_type: int | None = None,
    icmp_code: int | None = None,
) -> Packet:
    """The first packet of a connection; ICMP is that of the addresses' family."""
    if protocol is None:
        return Packet(source, destination, Protocol.TCP if port else NO_PORTS, port)
    if protocol.has_ports:
        return Packet(source, destination, protocol, port)
    version = source.version
    return Packet(
        source,
        destination,
        Protocol.ICMP if version == 4 else Protocol.ICMPV6,
        icmp_type=ECHO[version] if icmp_type is None else icmp_type,
        icmp_code=icmp_code or 0,
    )


def _explain(
    judges: _Judges, source: _Subject, destination: _Subject, connection: Connection
) -> Explanation:
    packet = packet_of(
        source.address,
        destination.address,
        connection.protocol,
        connection.port,
        icmp_type=connection.icmp_type,
        icmp_code=connection.icmp_code,
    )
    nodes = judges.engine.nodes
    way = path(_end(source), _end(destination), judges.engine.networks)
    if _is_free(source, destination):
        return Explanation(source.address, destination.address, Action.ALLOW, way)
    egress = judges.verdict(source, destination, Direction.EGRESS, packet)
    seen = _as_it_is_seen(judges.engine, source, destination, egress)
    ingress = judges.verdict(
        destination, seen, Direction.INGRESS, replace(packet, source=seen.address)
    )
    denied = any(one is not None and one.action is Action.DENY for one in (egress, ingress))
    led = None
    copied: tuple[Mirroring, ...] = ()
    if not denied and not _is_own_node(source, destination):
        ends, verdicts = (_end(source), _end(destination)), (egress, ingress)
        known = judges.engine.networks, judges.engine.devices
        led = steering(*ends, *verdicts, *known)
        denied = led is not None and led.outcome is Outcome.CLOSED
        copied = () if denied else tuple(mirrors(*ends, *verdicts, *known))
    return Explanation(
        source=source.address,
        destination=destination.address,
        action=Action.DENY if denied else Action.ALLOW,
        path=way,
        egress=egress,
        ingress=ingress,
        nodes=frozenset(
            one.place for one in (source, destination) if one.place in nodes and one.place
        ),
        steering=led,
        mirrors=copied,
    )


def _as_it_is_seen(
    engine: Engine, source: _Subject, destination: _Subject, egress: Verdict | None
) -> _Subject:
    """Whom a node sees: the node of an endpoint whose network is masqueraded where the packet
    leaves all networks. What goes through a device is not."""
    network = network_of(source.address, engine.networks)
    node = engine.nodes.get(source.place) if source.place is not None else None
    if (
        destination.node is None
        or destination.node == node
        or node is None
        or network is None
        or not network.masquerade
        or network_of(destination.address, engine.networks) is not None
    ):
        return source
    if egress is not None and egress.via is not None:
        _, _, outcome = taking(egress.via, network, engine.devices)
        if outcome is Outcome.STEERED:
            return source
    own = [one for one in node.addresses if one.version == source.address.version]
    on_link = [one for one in own if one in network.cidr]
    return next((_Subject(one, node=node) for one in (*on_link, *own)), source)


def _is_own_node(source: _Subject, destination: _Subject) -> bool:
    """Says whether it is for the node that the source is on: that is reached directly."""
    return destination.node is not None and destination.node.name == source.place


def _is_free(source: _Subject, destination: _Subject) -> bool:
    """Says whether nothing is judged between the two."""
    if source.endpoint is not None and destination.endpoint is not None:
        return source.endpoint.name == destination.endpoint.name
    if source.node is None:
        return False
    return source.node.name == destination.place


@dataclass(frozen=True, slots=True)
class _Judges:
    """What verdicts follow from."""

    engine: Engine
    failsafe: Callable[[NodeName], Failsafe]

    def verdict(
        self, target: _Subject, peer: _Subject, direction: Direction, packet: Packet
    ) -> Verdict | None:
        """What becomes of a packet on one side; None: it is not judged."""
        if target.endpoint is not None:
            sets = self.engine.rule_sets(target.endpoint.name, direction)
        elif target.node is not None:
            sets = self.engine.node_rule_sets(target.node.name, direction)
            port = self.failsafe(target.node.name).port_of(direction, packet)
            if sets and port is not None:
                return _fail_safe(target, port, sets)
        else:
            return None
        return verdict(self.engine, Side(target.title, peer.title, direction, sets), packet)


def _fail_safe(target: _Subject, port: Port, sets: Sequence[RuleSet]) -> Verdict:
    return Verdict(
        action=Action.ALLOW,
        reason=f"{port} is fail-safe on {target.title}: no policy on the node is asked about it",
        asked=tuple(dict.fromkeys(one.policy for one in sets)),
        otherwise=("the agent's settings say what is fail-safe there",),
    )


def _subjects(engine: Engine, party: Party) -> list[_Subject]:
    """One per address."""
    if party.address is not None:
        return [_holder(engine, party.address)]
    if party.node is not None:
        node = engine.nodes.get(party.node)
        if node is None:
            raise NotFound(
                f"there is no node {party.node[:80]!r}",
                reason="NODE_NOT_FOUND",
                metadata={"node": party.node[:253]},
            )
        found = [_Subject(address, node=node) for address in node.addresses]
        name = f"node {node.name}"
    else:
        endpoint = engine.endpoints.get(EndpointName(party.endpoint or ""))
        if endpoint is None:
            raise NotFound(
                f"there is no endpoint {(party.endpoint or '')[:80]!r}",
                reason="ENDPOINT_NOT_FOUND",
                metadata={"endpoint": (party.endpoint or "")[:253]},
            )
        found = [_Subject(address, endpoint=endpoint) for address in endpoint.addresses]
        name = f"endpoint {endpoint.name}"
    if not found:
        raise WrongState(
            f"{name} has no address: it is not attached", reason="ENDPOINT_NOT_ATTACHED"
        )
    return found


def _holder(engine: Engine, address: Address) -> _Subject:
    endpoint = engine.endpoint_at(address)
    if endpoint is not None:
        return _Subject(address, endpoint=endpoint)
    return _Subject(address, node=next(_nodes_at(engine, address), None))


def _nodes_at(engine: Engine, address: Address) -> Iterator[PolicyNode]:
    return (node for node in engine.nodes.values() if address in node.addresses)


def _end(subject: _Subject) -> End:
    return End(subject.address, subject.place, is_node=subject.node is not None)
