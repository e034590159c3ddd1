"""Says what becomes of a connection in one direction, by what, and what would make it otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from services.common.model.devices import DeviceGroupName
from services.common.model.judging import NO_RULE, IsMember, Judgment, judge, matches_peer
from services.common.model.judging import matches_port as matches_ports
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    Mode,
    Packet,
    PolicyName,
    RuleSet,
    Tier,
)
from services.policy.engine.engine import Engine
from services.policy.explain import describe
from services.policy.model import Rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out in one direction."""

    action: Action
    """ALLOW or DENY."""
    reason: str
    """For people, as is `otherwise`."""
    policy: PolicyName | None = None
    """What decided; None: nothing did, or that no TENANT rule matched."""
    tier: Tier | None = None
    """None: of the default."""
    rule: int = NO_RULE
    asked: tuple[PolicyName, ...] = ()
    """Policies that select the target, in the order in which they are asked."""
    otherwise: tuple[str, ...] = ()
    """What would have to be otherwise for the opposite."""
    audited: tuple[PolicyName, ...] = ()
    """Audited policies that would have decided otherwise."""
    via: DeviceGroupName | None = None
    """What it allows goes through a device of this group."""
    mirror: DeviceGroupName | None = None
    """A device of this group gets copies of it."""


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a connection, as it is judged."""

    target: str
    """Such as "endpoint web-1"."""
    peer: str
    direction: Direction
    sets: Sequence[RuleSet]
    """In the order in which they are asked."""


def verdict(engine: Engine, side: Side, packet: Packet) -> Verdict:
    """Judges one direction."""
    return _Case(engine, side, packet).verdict()


class _Case:
    """One judgment, and the questions around it."""

    def __init__(self, engine: Engine, side: Side, packet: Packet) -> None:
        self._engine = engine
        self._side = side
        self._packet = packet
        self._is_member: IsMember = engine.is_member
        self._peer = packet.source if side.direction is Direction.INGRESS else packet.destination
        self._enforced = [one for one in side.sets if one.mode is Mode.ENFORCE]
        self._what = (
            f"{describe.spoken(packet)} {describe.side(side.direction)} {self._peer}"
            f"{f' ({side.peer})' if side.peer else ''}"
        )

    def verdict(self) -> Verdict:
        found = self._judge(self._enforced)
        return Verdict(
            action=found.action,
            reason=self._reason(found),
            policy=found.by.policy if found.by else None,
            tier=found.tier,
            rule=found.rule,
            asked=tuple(dict.fromkeys(one.policy for one in self._side.sets)),
            otherwise=tuple(self._otherwise(found)),
            audited=tuple(self._audited(found)),
            via=found.via,
            mirror=found.mirror,
        )

    def _judge(self, sets: Sequence[RuleSet]) -> Judgment:
        return judge(sets, self._packet, self._is_member)

    def _reason(self, found: Judgment) -> str:
        does = "allows" if found.action is Action.ALLOW else "denies"
        if found.by is not None:
            rule = describe.place(found.by, found.rule)
            return f"{describe.tier(found.by)} policy {rule} {does} {self._what}"
        if found.tier is Tier.TENANT:
            tenant = [one for one in self._enforced if one.tier is Tier.TENANT]
            single = len({one.policy for one in tenant}) == 1
            verb, whose = ("selects", "its") if single else ("select", "their")
            return (
                f"TENANT {describe.policies(one.policy for one in tenant)} {verb} "
                f"{self._side.target}; none of {whose} rules allows {self._what}"
            )
        if self._enforced:
            return f"no rule of the policies that select {self._side.target} matches {self._what}"
        return f"no policy selects {self._side.target} for {self._side.direction}"

    def _otherwise(self, found: Judgment) -> Iterator[str]:
        if found.by is None and found.tier is Tier.TENANT:
            yield from self._nearest()
            return
        if found.by is None:
            yield (
                f"a TENANT policy that selects {self._side.target} for {self._side.direction} "
                "would deny what its rules do not allow; a DENY of tier ADMIN or BASELINE would "
                "deny it"
            )
            return
        rest = self._judge([_without(one, found) for one in self._enforced])
        still = "still " if rest.action is found.action else ""
        does = "allowed" if rest.action is Action.ALLOW else "denied"
        if rest.by is not None:
            by = f" by {describe.tier(rest.by)} policy {describe.place(rest.by, rest.rule)}"
        elif rest.tier is Tier.TENANT:
            by = ", since no other rule of the TENANT policies allows it"
        else:
            by = ", since nothing else decides"
        rule = describe.place(found.by, found.rule)
        yield f"without the rule {rule} it would {still}be {does}{by}"
        if found.tier is not Tier.TENANT and found.action is Action.DENY:
            yield (
                f"a policy of tier ADMIN that is asked before {found.by.policy} could allow it"
                if found.tier is Tier.ADMIN
                else f"any policy that is asked before {found.by.policy} could allow it"
            )

    def _nearest(self) -> Iterator[str]:
        """The rule of a TENANT policy that lacks least."""
        near: str | None = None
        for one in self._enforced:
            if one.tier is not Tier.TENANT:
                continue
            for compiled in one.rules:
                written = self._written(one, compiled)
                where = describe.place(one, compiled.number)
                if matches_peer(compiled, self._peer, self._is_member):
                    ports = describe.ports(written.ports if written else compiled.ports)
                    yield f"the nearest rule is {where}: its peers match, but its ports are {ports}"
                    return
                if near is None and matches_ports(compiled, self._packet):
                    peers = describe.peers(written.peers) if written else "others"
                    near = (
                        f"the nearest rule is {where}: its ports match, but its peers are {peers}"
                    )
        if near is not None:
            yield near
        else:
            yield "none of their rules is for such a peer or such a port"

    def _written(self, rules: RuleSet, compiled: CompiledRule) -> Rule | None:
        """The rule as somebody wrote it."""
        policy = self._engine.policies.get(rules.policy)
        written = policy.rules.get(rules.direction, ()) if policy else ()
        return written[compiled.number] if compiled.number < len(written) else None

    def _audited(self, found: Judgment) -> Iterator[PolicyName]:
        seen = set()
        for one in self._side.sets:
            if one.mode is Mode.AUDIT and one.policy not in seen:
                seen.add(one.policy)
                tried = self._judge([*self._enforced, replace(one, mode=Mode.ENFORCE)])
                if tried.action is not found.action:
                    yield one.policy


def _without(rules: RuleSet, found: Judgment) -> RuleSet:
    """The rule set without the rule that decided."""
    if found.by is None or rules.id != found.by.id:
        return rules
    return replace(rules, rules=tuple(one for one in rules.rules if one.number != found.rule))
