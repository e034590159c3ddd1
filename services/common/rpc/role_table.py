"""Every method, who may call it, and what a node or a tenant's operator may name in it.

One row each: a method without one is for nobody who comes by TLS, and a test fails. docs/roles.md
has the same table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
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
    tenant: str = ""
    """What a tenant's operator gets of it, for people; empty if it may not call it."""
    of_tenants: Named | None = None
    """The tenants that a request names: each has to be one of the certificate's. None: the method
    itself looks, by `roles.bound_to_tenants`."""


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
_OWN_NETWORKS: Final = "on networks of its own alone"


def _or_node(row: Row, named: Named | None, limit: str = OWN) -> Row:
    return Row(row.roles | {Role.NODE}, limit, named)


def _or_tenant(row: Row, tenant: str, named: Named | None = None) -> Row:
    return replace(row, roles=row.roles | {Role.TENANT}, tenant=tenant, of_tenants=named)


def _agents(named: Named | None = None) -> Row:
    """Only for the agent of the node that is named."""
    return Row(frozenset({Role.NODE}), OWN, named)


def _spec_node(request: Any) -> Iterable[str]:
    return (request.spec.node,)


def _spec_nodes(request: Any) -> Iterable[str]:
    return (spec.node for spec in request.specs)


def _spec_tenant(request: Any) -> Iterable[str]:
    return (request.spec.tenant,)


def _spec_tenants(request: Any) -> Iterable[str]:
    return (spec.tenant for spec in request.specs)


def _tenant(request: Any) -> Iterable[str]:
    return (request.tenant,)


def _tenants(request: Any) -> Iterable[str]:
    return (tenant.name for tenant in request.tenants)


def _node_name(request: Any) -> Iterable[str]:
    return (request.node.name,)


def _node(request: Any) -> Iterable[str]:
    return (request.node,)


def _to_node(request: Any) -> Iterable[str]:
    return (request.to_node,)


_IPAM: Final[Mapping[str, Row]] = {
    "AllocateAddress": _or_tenant(_or_node(ORCHESTRATORS, _spec_node), OWN, _spec_tenant),
    "AllocateAddresses": _or_tenant(_or_node(ORCHESTRATORS, _spec_nodes), OWN, _spec_tenants),
    "AllocateStream": ORCHESTRATORS,
    "ReleaseAddress": _or_tenant(_or_node(ORCHESTRATORS, _spec_node), OWN),
    "MoveAddress": ORCHESTRATORS,
    "PrepareMove": ORCHESTRATORS,
    "ReportReady": _agents(_node),
    "ActivateMove": _or_node(ORCHESTRATORS, _to_node, "what moves to its own"),
    "AbortMove": ORCHESTRATORS,
    "HandOverConnections": _agents(_node),
    "TakeOverConnections": _agents(_node),
    "GetMove": READERS,
    "ReleaseAddresses": _or_tenant(_or_node(ORCHESTRATORS, _spec_nodes), OWN),
    "GetAddress": _or_tenant(_or_node(READERS, None, "what its own has"), OWN),
    "ListAddresses": _or_tenant(_or_node(READERS, _node), OWN),
    "ListBlocks": _or_tenant(_or_node(READERS, _node), OWN),
    "CreateReservation": _or_tenant(
        _or_node(OPERATORS, None, "an address of its own that is in conflict"), _OWN_NETWORKS
    ),
    "DeleteReservation": _or_tenant(OPERATORS, _OWN_NETWORKS),
    "ListReservations": _or_tenant(READERS, _OWN_NETWORKS),
    "EvaluateNodes": _or_tenant(READERS, OWN, _tenant),
    "EvaluateGroups": _or_tenant(READERS, OWN, _tenant),
    "GetUtilization": READERS,
    "GetNodeRoutes": _or_node(READERS, _node),
    "GetKernelRoutes": READERS,
    "SyncRoutes": _agents(),
    "GetSyncStatus": READERS,
    "WatchBlocks": _or_tenant(READERS, OWN),
    "WatchAllocations": _or_tenant(READERS, OWN),
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
    "CreatePolicy": _or_tenant(OPERATORS, OWN),
    "UpdatePolicy": _or_tenant(OPERATORS, OWN),
    "DeletePolicy": _or_tenant(OPERATORS, OWN),
    "GetPolicy": _or_tenant(READERS, OWN),
    "ListPolicies": _or_tenant(READERS, OWN),
    "ApplyPolicies": _or_tenant(OPERATORS, OWN),
    "PutTenants": _or_tenant(OPERATORS, OWN, _tenants),
    "DeleteTenant": OPERATORS,
    "ListTenants": _or_tenant(READERS, OWN),
    "PutEndpoints": _or_tenant(ORCHESTRATORS, "labels and ports of its own that are there"),
    "DeleteEndpoint": _or_tenant(ORCHESTRATORS, "what it said of its own"),
    "GetEndpoint": _or_tenant(READERS, OWN),
    "ListEndpoints": _or_tenant(_or_node(READERS, lambda request: (request.filter.node,)), OWN),
    "ReportEndpoints": _agents(_node),
    "PutDeviceGroup": OPERATORS,
    "DeleteDeviceGroup": OPERATORS,
    "ListDeviceGroups": READERS,
    "DrainDevice": OPERATORS,
    "ReportDevices": _agents(_node),
    "Explain": _or_tenant(READERS, "between its own, and to what nobody has"),
    "GetMatrix": _or_tenant(READERS, OWN),
    "SyncRules": _agents(),
    "GetNodeRules": _or_node(READERS, _node),
    "GetKernelRules": READERS,
    "GetRealization": _or_tenant(READERS, "of its own policies"),
    "GetStatus": _or_tenant(READERS, "without others' names"),
}
_AGENT: Final[Mapping[str, Row]] = {
    "AttachEndpoint": NOBODY,
    "DetachEndpoint": NOBODY,
    "CheckEndpoint": NOBODY,
    "ListEndpoints": NOBODY,
    "GetStatus": NOBODY,
}
_AUDIT: Final[Mapping[str, Row]] = {"ListChanges": READERS, "GetChange": READERS}
_HEALTH: Final[Mapping[str, Row]] = {"Check": ANY_ROLE, "List": ANY_ROLE, "Watch": ANY_ROLE}
_REFLECTION: Final[Mapping[str, Row]] = {"ServerReflectionInfo": READERS}

SERVICES: Final[Mapping[str, Mapping[str, Row]]] = {
    "romana.topology.v1.TopologyService": _TOPOLOGY,
    "romana.ipam.v1.IpamService": _IPAM,
    "romana.policy.v1.PolicyService": _POLICY,
    "romana.agent.v1.AgentService": _AGENT,
    "romana.audit.v1.AuditService": _AUDIT,
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
        "| method | " + " | ".join(columns) + " | tenant | node |",
        "|---|" + "---|" * (len(columns) + 2),
    ]
    for service, rows in SERVICES.items():
        lines.append(f"| **{service}** |" + " |" * (len(columns) + 2))
        for method, row in rows.items():
            cells = ["yes" if role in row.roles else "" for role in columns]
            cells.append((row.tenant or "yes") if Role.TENANT in row.roles else "")
            cells.append((row.limit or "yes") if Role.NODE in row.roles else "")
            lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
