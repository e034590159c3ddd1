"""Settings of the controller of Kubernetes, from `ROMANA_KUBERNETES__...`."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from pydantic import Field, model_validator

from services.common.process.http_settings import HttpListenSettings
from services.common.process.serving_tls import ServingFiles, ServingTls
from services.common.process.settings import (
    Address,
    Addresses,
    MetricsSettings,
    Section,
    ServiceSettings,
    TlsSettings,
)
from services.kubernetes.wanted.endpoints import SEGMENT_LABEL


class ExtenderSettings(HttpListenSettings):
    """Where kube-scheduler's extender is served: callers, with the role of an orchestrator, have
    pods bound."""

    address: Address = "127.0.0.1:9650"


class WebhookSettings(Section):
    """Where the API server asks before it takes a topology; it asks with TLS only."""

    address: Address = "127.0.0.1:9652"
    certificate: Path | None = None
    """Empty: it is not served."""
    key: Path | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> WebhookSettings:
        if (self.certificate is None) is not (self.key is None):
            raise ValueError("certificate and key come together")
        return self

    def serving(self) -> ServingTls | None:
        """For the server; None: it is not served. Raises InvalidInput."""
        if self.certificate is None or self.key is None:
            return None
        return ServingTls(ServingFiles(self.certificate, self.key))


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
    topology: Addresses = Field(("127.0.0.1:9610",), min_length=1)
    """Replicas of topology: host:port each."""
    ipam: Addresses = Field(("127.0.0.1:9620",), min_length=1)
    """Replicas of ipam."""
    policy: Addresses = Field(("127.0.0.1:9630",), min_length=1)
    """Replicas of policy."""
    tls: TlsSettings = TlsSettings()
    """For these: our certificate has the role of a service."""
    insecure: bool = False
    """Speak to other machines without TLS."""
    extender: ExtenderSettings = ExtenderSettings()
    webhook: WebhookSettings = WebhookSettings()
    lease: LeaseSettings = LeaseSettings()
    authority: AuthoritySettings = AuthoritySettings()
    identity: str = Field(default_factory=_identity, min_length=1)
    """In the Lease: no other replica's."""
    segment_label: str = SEGMENT_LABEL
    """The label of pods, and of their namespaces, that says the segment."""
    kept_seconds: float = Field(300.0, ge=0)
    """For which addresses stay that are a pod's name's, while there is no pod of that name."""
    force_node_deletion: bool = False
    """A node that is deleted takes the addresses in use on it with it, after ipam's fence time."""
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9651")
