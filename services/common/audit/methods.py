"""The methods that change what operators decide: a refused call of one leaves a line."""

from __future__ import annotations

from typing import Final

AUDITED: Final = frozenset(
    f"romana.{service}.v1.{service.capitalize()}Service/{method}"
    for service, methods in {
        "topology": ("ApplyTopology", "RegisterNode", "UpdateNode", "DeleteNode"),
        "ipam": ("CreateReservation", "DeleteReservation", "MoveAddress"),
        "policy": (
            "CreatePolicy",
            "UpdatePolicy",
            "DeletePolicy",
            "ApplyPolicies",
            "PutTenants",
            "DeleteTenant",
            "PutDeviceGroup",
            "DeleteDeviceGroup",
            "DrainDevice",
        ),
    }.items()
    for method in methods
)
"""As `package.Service/Method`."""
