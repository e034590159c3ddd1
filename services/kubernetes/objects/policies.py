"""NetworkPolicies: they are read by the policy service, so that what is kept is their text."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from services.kubernetes.objects.metadata import Metadata


class NetworkPolicyObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """A NetworkPolicy of networking.k8s.io/v1."""

    namespace: str
    name: str
    uid: str
    labels: tuple[tuple[str, str], ...]
    spec: bytes
    """JSON."""

    @property
    def key(self) -> str:
        """NAMESPACE/NAME, which is its name in Romana, too."""
        return f"{self.namespace}/{self.name}"


def network_policy_of(item: NetworkPolicyObject) -> NetworkPolicy:
    """Takes what is needed."""
    metadata = item.metadata
    return NetworkPolicy(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        labels=tuple(sorted((metadata.labels or {}).items())),
        spec=bytes(item.spec),
    )
