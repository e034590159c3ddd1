"""Settings of the ipam service, from `ROMANA_IPAM__...`."""

from __future__ import annotations

from pydantic import Field

from services.common.process.settings import (
    EtcdSettings,
    ListenSettings,
    MetricsSettings,
    ServiceSettings,
)


class IpamSettings(ServiceSettings, env_prefix="ROMANA_IPAM__"):
    """The ipam service."""

    listen: ListenSettings = ListenSettings(address="127.0.0.1:9620")
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9621")
    etcd: EtcdSettings = EtcdSettings()
    election_ttl: int = Field(5, ge=2, le=60)
    """Seconds after which an active replica that is silent is replaced."""
    drain: float = Field(10.0, ge=0)
    """Seconds that running calls get at a stop."""
