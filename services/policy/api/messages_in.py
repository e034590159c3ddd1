"""Requests of the API as values that are sound.

Policies, tenants and endpoints are read as documents in our own form are, and all that is wrong
with one is said at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from google.protobuf.message import Message
from romana.policy.v1 import endpoint_pb2, policy_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.document.fields import Findings
from services.common.document.tree import Tree
from services.common.errors import InvalidInput, Violation
from services.common.model.names import EndpointName, NodeName
from services.common.model.rules import PolicyName, Protocol
from services.common.rpc import enums
from services.common.rpc.models import to_tree
from services.policy.checks.policies import MAX_SIZE, check, check_endpoint, check_tenant
from services.policy.forms.own import read_endpoint, read_policy, read_tenant
from services.policy.forms.reading import Read
from services.policy.model import Endpoint, Policy, TenantRecord

MAX_POLICY_BYTES: Final = 2 * MAX_SIZE
"""Of a policy's message: more is refused without a look at it."""
NAMES_MOST: Final = 1_000
"""In a filter."""

_FOR_AGENTS: Final[tuple[Literal["node", "addresses", "instance", "labels_follow"], ...]] = (
    "node",
    "addresses",
    "instance",
    "labels_follow",
)
_FOR_ORCHESTRATORS: Final[tuple[Literal["wanted"], ...]] = ("wanted",)
_T = TypeVar("_T")


def policy(message: policy_pb2.Policy, at: str) -> Policy:
    """A policy, without what is output only; raises InvalidInput."""
    if message.ByteSize() > MAX_POLICY_BYTES:
        raise InvalidInput.at(
            at, f"the policy has {message.ByteSize()} bytes, at most {MAX_POLICY_BYTES} are taken"
        )
    return _sound(message, at, read_policy, check)


def tenant(message: endpoint_pb2.Tenant, at: str) -> TenantRecord:
    """A tenant; raises InvalidInput."""
    return _sound(message, at, read_tenant, check_tenant)


def endpoint(
    message: endpoint_pb2.PolicyEndpoint, at: str, node: NodeName | None = None
) -> Endpoint:
    """An endpoint: without a node what an orchestrator says, with a node what its agent says; what
    is the other's to say is ignored. Raises InvalidInput."""
    said = endpoint_pb2.PolicyEndpoint()
    said.CopyFrom(message)
    said.node = node or ""
    for name in _FOR_AGENTS if node is None else _FOR_ORCHESTRATORS:
        said.ClearField(name)
    return _sound(said, at, read_endpoint, check_endpoint)


@dataclass(frozen=True, slots=True)
class EndpointFilter:
    """Which endpoints; what is empty is not looked at."""

    node: str = ""
    tenant: str = ""
    segment: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, endpoint: Endpoint) -> bool:
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


def protocol(
    number: policy_pb2.Protocol.ValueType, at: str, problems: list[Violation]
) -> Protocol | None:
    """A protocol; None: any."""
    if number and number not in enums.PROTOCOL_OF:
        problems.append(Violation(at, f"{number} is not a value of this enum that may be given"))
    return enums.PROTOCOL_OF.get(number)


def _sound(
    message: Message,
    at: str,
    read: Callable[[Tree, str, Findings], Read[_T]],
    check_value: Callable[[_T], Iterable[Violation]],
) -> _T:
    findings = Findings()
    value = read(to_tree(message), at, findings).value
    found = (
        Violation(f"{at}.{one.path}" if one.path else at, one.message) for one in check_value(value)
    )
    problems = [*findings.problems, *found]
    if problems:
        raise InvalidInput.of(problems)
    return value
