"""ClusterNetworkPolicy: its definition, as far as a cluster needs it, and objects of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.kubernetes.objects import romana

GROUP = "policy.networking.k8s.io"
CONDITIONS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": {"type": "string"},
            "status": {"type": "string"},
            "reason": {"type": "string", "minLength": 1},
            "message": {"type": "string"},
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
    },
}
DEFINITION: Mapping[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": f"clusternetworkpolicies.{GROUP}",
        # the server asks it of definitions in groups of Kubernetes' own
        "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
    },
    "spec": {
        "group": GROUP,
        "scope": "Cluster",
        "names": {
            "kind": "ClusterNetworkPolicy",
            "listKind": "ClusterNetworkPolicyList",
            "plural": "clusternetworkpolicies",
            "singular": "clusternetworkpolicy",
        },
        "versions": [
            {
                "name": "v1alpha2",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            },
                            "status": {
                                "type": "object",
                                "properties": {"conditions": CONDITIONS},
                            },
                        },
                    }
                },
            }
        ],
    },
}


def cluster_policy(
    name: str,
    rules: Sequence[Mapping[str, Any]],
    *,
    tier: str = "Admin",
    priority: int = 10,
    **annotations: str,
) -> dict[str, Any]:
    """For the pods of namespace default; annotations without our prefix."""
    space = {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
    return {
        "apiVersion": f"{GROUP}/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name, "annotations": romana(annotations)},
        "spec": {
            "tier": tier,
            "priority": priority,
            "subject": {"namespaces": space},
            "ingress": list(rules),
        },
    }


def from_team(action: str, team: str) -> dict[str, Any]:
    return {"action": action, "from": [{"namespaces": {"matchLabels": {"team": team}}}]}
