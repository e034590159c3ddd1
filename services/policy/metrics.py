"""Metrics of policy: how mutations of policies, tenants and endpoints end."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter

from services.common.process.mutation_metrics import Mutations


class Operation(StrEnum):
    """What was to be done."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    APPLY = "apply"
    TENANT = "tenant"
    ENDPOINT = "endpoint"
    REPORT = "report"
    DEVICES = "devices"


class PolicyMetrics(Mutations[Operation]):
    """The family, once per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        changes = Counter(
            "romana_policy_changes",
            "Mutations by how they ended.",
            ["operation", "outcome"],
            registry=registry,
        )
        super().__init__(changes, Operation)
