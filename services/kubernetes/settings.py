"""Settings of the controller of Kubernetes, from `ROMANA_KUBERNETES__...`."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from pydantic import Field

from services.common.process.settings import (
    Listed,
    MetricsSettings,
    Section,
    ServiceSettings,
    TlsSettings,
)
from services.kubernetes.wanted.endpoints import SEGMENT_LABEL


class LeaseSettings(Section):
    """By which one of several replicas is elected."""

    namespace: str = "kube-system"
    name: str = "romana-kubernetes"
    seconds: int = Field(15, ge=3, le=300)
    """After which a silent one is replaced."""


class AuthoritySettings(Section):
    """Signs certificates of agents, where there is one."""

    folder: Path | None = None
    """Has tls.crt and tls.key; none: requests for the signer romana.io/node wait."""
    namespace: str = "kube-system"
    """Of the agents' pods."""
    account: str = "romana-agent"
    """Their ServiceAccount."""


def _identity() -> str:
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"


class KubernetesSettings(ServiceSettings, env_prefix="ROMANA_KUBERNETES__"):
    """The controller."""

    kubeconfig: Path | None = None
    """Where the API server is, and who we are; without it, by the ServiceAccount of this pod."""
    topology: Listed = ("127.0.0.1:9610",)
    """Replicas of topology: host:port each."""
    ipam: Listed = ("127.0.0.1:9620",)
    """Replicas of ipam."""
    policy: Listed = ("127.0.0.1:9630",)
    """Replicas of policy."""
    tls: TlsSettings = TlsSettings()
    """For these: our certificate has the role of a service."""
    insecure: bool = False
    """Speak to other machines without TLS."""
    lease: LeaseSettings = LeaseSettings()
    authority: AuthoritySettings = AuthoritySettings()
    identity: str = Field(default_factory=_identity, min_length=1)
    """In the Lease: no other replica's."""
    segment_label: str = SEGMENT_LABEL
    """The label of pods, and of their namespaces, that says the segment."""
    force_node_deletion: bool = False
    """A node that is deleted takes the addresses in use on it with it at once."""
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9651")
