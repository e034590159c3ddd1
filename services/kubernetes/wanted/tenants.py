"""Namespaces as tenants."""

from __future__ import annotations

from typing import Final

from services.common.errors import Violation
from services.common.model.names import Tenant
from services.common.model.network import Isolation
from services.kubernetes.objects.metadata import annotation_path
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.wanted.values import WantedTenant

ISOLATION: Final = "isolation"


def tenant_of(namespace: Namespace) -> tuple[WantedTenant, list[Violation]]:
    """The tenant, and what is wrong with the annotations; what is wrong is as if not said."""
    problems: list[Violation] = []
    isolation: Isolation | None = None
    text = namespace.annotations.get(ISOLATION, "").strip()
    if text:
        try:
            isolation = Isolation(text)
        except ValueError:
            words = ", ".join(Isolation)
            at = annotation_path(ISOLATION)
            problems.append(Violation(at, f"{text[:80]!r} is none of {words}"))
    return WantedTenant(Tenant(namespace.name), namespace.labels, isolation), problems
