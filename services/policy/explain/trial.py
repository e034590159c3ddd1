"""Checks what is expected of policies, without a cluster: by the engine, on endpoints made up.

For tests of policies beside their files. The command imports this module, and nothing else of the
service.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.errors import InvalidInput, RomanaError, Violation
from services.common.model.addresses import read_address
from services.common.model.names import EndpointName, NodeName
from services.common.model.rules import Action
from services.policy.engine.engine import Engine
from services.policy.explain.describe import spoken
from services.policy.explain.explain import Connection, Explanation, Party, explain, packet_of
from services.policy.explain.trial_file import Expectation, Trial, read_trial

__all__ = ["Outcome", "check_expectations", "read_trial"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one expectation for one pair."""

    at: str
    """Field path of the expectation."""
    line: int
    """0: not known."""
    source: str
    destination: str
    asked: str
    """Such as "TCP 443"."""
    expected: str
    """Such as "allow", or "deny by shop/web"."""
    found: str
    """What came out, in the same words."""
    why: tuple[str, ...]
    """For people."""

    @property
    def holds(self) -> bool:
        """It is as expected."""
        return self.expected == self.found


def check_expectations(trial: Trial) -> list[Outcome]:
    """Checks every expectation of a file for every pair that it names.

    Raises:
        InvalidInput: it names what is not there.
    """
    engine = Engine()
    engine.set_networks({network.name: network for network in trial.networks})
    for node in trial.nodes:
        engine.put_node(node)
    for tenant in trial.tenants:
        engine.put_tenant(tenant)
    for policy in trial.policies:
        engine.put_policy(policy)
    for endpoint in trial.endpoints:
        engine.put_endpoint(endpoint)
    problems: list[Violation] = []
    found = [
        outcome
        for expectation in trial.expectations
        for outcome in _outcomes(engine, expectation, problems)
    ]
    if problems:
        raise InvalidInput.of(problems)
    return found


def _outcomes(
    engine: Engine, expectation: Expectation, problems: list[Violation]
) -> Iterator[Outcome]:
    for source in expectation.sources:
        for destination in expectation.destinations:
            connection = Connection(
                _party(engine, source),
                _party(engine, destination),
                expectation.protocol,
                expectation.port,
                expectation.icmp_type,
                expectation.icmp_code,
            )
            try:
                explanations = explain(engine, connection)
            except RomanaError as error:
                problems.append(Violation(expectation.at, f"{source} to {destination}: {error}"))
                continue
            yield _outcome(expectation, source, destination, explanations)


def _outcome(
    expectation: Expectation, source: str, destination: str, explanations: Sequence[Explanation]
) -> Outcome:
    actions = {one.action for one in explanations}
    action = actions.pop().value if len(actions) == 1 else "allow or deny, by family"
    expected = expectation.action.value
    if expectation.policy:
        expected = f"{expected} by {expectation.policy}"
        deciding = {_deciding(one) for one in explanations}
        action = f"{action} by {' or '.join(sorted(deciding))}"
    first = explanations[0]
    packet = packet_of(
        first.source,
        first.destination,
        expectation.protocol,
        expectation.port,
        icmp_type=expectation.icmp_type,
        icmp_code=expectation.icmp_code,
    )
    return Outcome(
        at=expectation.at,
        line=expectation.line,
        source=source,
        destination=destination,
        asked=spoken(packet),
        expected=expected,
        found=action,
        why=tuple(line for one in explanations for line in _why(one)),
    )


def _deciding(explanation: Explanation) -> str:
    """The policy that decided: of a denial, the first that denied."""
    verdicts = [one for one in (explanation.egress, explanation.ingress) if one is not None]
    for one in verdicts:
        if one.action is Action.DENY:
            return one.policy or "default"
    named = [one.policy for one in reversed(verdicts) if one.policy]
    return named[0] if named else "default"


def _why(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation.source} to {explanation.destination}: {explanation.path.description}"
    for name, one in (("egress", explanation.egress), ("ingress", explanation.ingress)):
        if one is not None:
            yield f"{name} {one.action.value}: {one.reason}"
            if one.action is explanation.action:  # of a denial, what would allow it
                yield from (f"  {line}" for line in one.otherwise)


def _party(engine: Engine, text: str) -> Party:
    """An endpoint, a node or an address, whichever has that name."""
    if text in engine.endpoints:
        return Party(endpoint=EndpointName(text))
    if text in engine.nodes:
        return Party(node=NodeName(text))
    try:
        return Party(address=read_address(text))
    except ValueError:
        return Party(endpoint=EndpointName(text))
