"""Every method, who may call it, and what a node may name in it.

One row each: a method without one is for nobody who comes by TLS, and a test fails. docs/roles.md
has the same table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from services.common.rpc.identity import Role

Named: TypeAlias = Callable[[Any], Iterable[str]]
"""The nodes that a request names."""


@dataclass(frozen=True, slots=True)
class Row:
    """Who may call a method."""

    roles: frozenset[Role]
    limit: str = ""
    """What an agent may name in it, for people; empty if it may not call it, or name anything."""
    named: Named | None = None
    """Of a request: every one of them has to be the agent's own node. None: the method itself looks
    at what is asked for, or nothing is."""


_OPERATORS: Final = frozenset({Role.OPERATOR, Role.SERVICE})
_ORCHESTRATORS: Final = _OPERATORS | {Role.ORCHESTRATOR}
_READERS: Final = _ORCHESTRATORS | {Role.READER}

OPERATORS: Final = Row(_OPERATORS)
ORCHESTRATORS: Final = Row(_ORCHESTRATORS)
READERS: Final = Row(_READERS)
ANY_ROLE: Final = Row(frozenset(Role))
NOBODY: Final = Row(frozenset())
"""By certificate: it is served on a Unix socket, which only root may open."""
OWN: Final = "its own"


def _or_node(row: Row, named: Named | None, limit: str = OWN) -> Row:
    return Row(row.roles | {Role.NODE}, limit, named)


def _agents(named: Named | None = None) -> Row:
    """Only for the agent of the node that is named."""
    return Row(frozenset({Role.NODE}), OWN, named)


def _spec_node(request: Any) -> Iterable[str]:
    return (request.spec.node,)


def _spec_nodes(request: Any) -> Iterable[str]:
    return (spec.node for spec in request.specs)


def _node_name(request: Any) -> Iterable[str]:
    return (request.node.name,)


def _node(request: Any) -> Iterable[str]:
    return (request.node,)


def _to_node(request: Any) -> Iterable[str]:
    return (request.to_node,)


_IPAM: Final[Mapping[str, Row]] = {
    "AllocateAddress": _or_node(ORCHESTRATORS, _spec_node),
    "AllocateAddresses": _or_node(ORCHESTRATORS, _spec_nodes),
    "AllocateStream": ORCHESTRATORS,
    "ReleaseAddress": _or_node(ORCHESTRATORS, _spec_node),
    "MoveAddress": ORCHESTRATORS,
    "PrepareMove": ORCHESTRATORS,
    "ReportReady": _agents(_node),
    "ActivateMove": _or_node(ORCHESTRATORS, _to_node, "what moves to its own"),
    "AbortMove": ORCHESTRATORS,
    "GetMove": READERS,
    "ReleaseAddresses": _or_node(ORCHESTRATORS, _spec_nodes),
    "GetAddress": _or_node(READERS, None, "what its own has"),
    "ListAddresses": _or_node(READERS, _node),
    "ListBlocks": _or_node(READERS, _node),
    "CreateReservation": _or_node(OPERATORS, None, "an address of its own that is in conflict"),
    "DeleteReservation": OPERATORS,
    "ListReservations": READERS,
    "EvaluateNodes": READERS,
    "EvaluateGroups": READERS,
    "GetUtilization": READERS,
    "GetNodeRoutes": _or_node(READERS, _node),
    "SyncRoutes": _agents(),
    "GetSyncStatus": READERS,
    "WatchBlocks": READERS,
    "CheckConsistency": OPERATORS,
    "GetStatus": READERS,
}
_TOPOLOGY: Final[Mapping[str, Row]] = {
    "ApplyTopology": OPERATORS,
    "GetTopology": READERS,
    "ExportTopology": READERS,
    "GetNetwork": _or_node(READERS, None, "any network"),
    "ListNetworks": READERS,
    "RegisterNode": _or_node(OPERATORS, _node_name, "its own, as settings allow"),
    "UpdateNode": _or_node(OPERATORS, _node_name, "its own, as settings allow"),
    "DeleteNode": OPERATORS,
    "GetNode": _or_node(READERS, lambda request: (request.name,)),
    "ListNodes": READERS,
    "WatchTopology": READERS,
    "GetStatus": READERS,
}
_POLICY: Final[Mapping[str, Row]] = {
    "CreatePolicy": OPERATORS,
    "UpdatePolicy": OPERATORS,
    "DeletePolicy": OPERATORS,
    "GetPolicy": READERS,
    "ListPolicies": READERS,
    "ApplyPolicies": OPERATORS,
    "PutTenants": OPERATORS,
    "DeleteTenant": OPERATORS,
    "ListTenants": READERS,
    "PutEndpoints": ORCHESTRATORS,
    "DeleteEndpoint": ORCHESTRATORS,
    "GetEndpoint": READERS,
    "ListEndpoints": _or_node(READERS, lambda request: (request.filter.node,)),
    "ReportEndpoints": _agents(_node),
    "PutDeviceGroup": OPERATORS,
    "DeleteDeviceGroup": OPERATORS,
    "ListDeviceGroups": READERS,
    "DrainDevice": OPERATORS,
    "ReportDevices": _agents(_node),
    "Explain": READERS,
    "GetMatrix": READERS,
    "SyncRules": _agents(),
    "GetRealization": READERS,
    "GetStatus": READERS,
}
_AGENT: Final[Mapping[str, Row]] = {
    "AttachEndpoint": NOBODY,
    "DetachEndpoint": NOBODY,
    "CheckEndpoint": NOBODY,
    "ListEndpoints": NOBODY,
    "GetStatus": NOBODY,
}
_HEALTH: Final[Mapping[str, Row]] = {"Check": ANY_ROLE, "List": ANY_ROLE, "Watch": ANY_ROLE}
_REFLECTION: Final[Mapping[str, Row]] = {"ServerReflectionInfo": READERS}

SERVICES: Final[Mapping[str, Mapping[str, Row]]] = {
    "romana.topology.v1.TopologyService": _TOPOLOGY,
    "romana.ipam.v1.IpamService": _IPAM,
    "romana.policy.v1.PolicyService": _POLICY,
    "romana.agent.v1.AgentService": _AGENT,
    "grpc.health.v1.Health": _HEALTH,
    "grpc.reflection.v1alpha.ServerReflection": _REFLECTION,
}
ROWS: Final[Mapping[str, Row]] = {
    f"{service}/{method}": row for service, rows in SERVICES.items() for method, row in rows.items()
}
"""By `package.Service/Method`."""


def as_markdown() -> str:
    """The table as the documentation has it."""
    columns = (Role.OPERATOR, Role.SERVICE, Role.ORCHESTRATOR, Role.READER)
    lines = [
        "| method | " + " | ".join(columns) + " | node |",
        "|---|" + "---|" * (len(columns) + 1),
    ]
    for service, rows in SERVICES.items():
        lines.append(f"| **{service}** |" + " |" * (len(columns) + 1))
        for method, row in rows.items():
            cells = ["yes" if role in row.roles else "" for role in columns]
            cells.append((row.limit or "yes") if Role.NODE in row.roles else "")
            lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
