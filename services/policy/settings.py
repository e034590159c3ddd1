"""Settings of the policy service, from `ROMANA_POLICY__...`."""

from __future__ import annotations

from pydantic import Field

from services.common.process.settings import (
    AuditSettings,
    EtcdSettings,
    ListenSettings,
    MetricsSettings,
    ServiceSettings,
)


class PolicySettings(ServiceSettings, env_prefix="ROMANA_POLICY__"):
    listen: ListenSettings = ListenSettings(address="127.0.0.1:9630")
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9631")
    etcd: EtcdSettings = EtcdSettings()
    presence_ttl: int = Field(5, ge=2, le=60)
    """Seconds after which the other replicas no longer ask one that is silent."""
    audit: AuditSettings = AuditSettings()
    drain: float = Field(10.0, ge=0)
    """Seconds that running calls get at a stop."""
