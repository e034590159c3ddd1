"""Network policies, of namespaces and of the cluster: they are read by the policy service, so that
what is kept is their text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from services.kubernetes.objects.conditions import Condition
from services.kubernetes.objects.metadata import Metadata, ours

CLUSTER: Final = "ClusterNetworkPolicy"
DEVICES: Final = ("via", "mirror")
"""Annotations about devices: those that rules lead through, and those that get copies."""


class PolicyStatusObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    conditions: tuple[Condition, ...] | None = None


class NetworkPolicyObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: PolicyStatusObject = PolicyStatusObject()


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """A NetworkPolicy, or without a namespace a ClusterNetworkPolicy."""

    namespace: str
    name: str
    uid: str
    labels: tuple[tuple[str, str], ...]
    spec: bytes
    """JSON."""
    devices: tuple[tuple[str, str], ...] = ()
    """What its annotations about them say."""
    generation: int = 0
    conditions: tuple[Condition, ...] = ()

    @property
    def key(self) -> str:
        """NAMESPACE/NAME, or NAME."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def kind(self) -> str:
        """Kubernetes' word for it."""
        return "NetworkPolicy" if self.namespace else CLUSTER

    @property
    def api_version(self) -> str:
        """Of its kind."""
        if self.namespace:
            return "networking.k8s.io/v1"
        return "policy.networking.k8s.io/v1alpha2"

    @property
    def policy(self) -> str:
        """Its name in Romana."""
        return self.key if self.namespace else f"{CLUSTER}/{self.name}"


def network_policy_of(item: NetworkPolicyObject) -> NetworkPolicy:
    """Takes what is needed."""
    metadata = item.metadata
    annotations = ours(metadata.annotations)
    return NetworkPolicy(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        labels=tuple(sorted((metadata.labels or {}).items())),
        spec=bytes(item.spec),
        devices=tuple((key, annotations[key]) for key in DEVICES if key in annotations),
        generation=metadata.generation,
        conditions=item.status.conditions or (),
    )


def is_status(before: NetworkPolicy | None, after: NetworkPolicy | None) -> bool:
    """Whether nothing has changed but what is said of it."""
    return (
        before is not None
        and after is not None
        and replace(before, conditions=after.conditions) == after
    )
