"""What can be set for topology, by file, by `ROMANA_TOPOLOGY__...` or by flags."""

from __future__ import annotations

from pydantic import Field

from services.common.process.settings import (
    EtcdSettings,
    ListenSettings,
    MetricsSettings,
    ServiceSettings,
)


class TopologySettings(ServiceSettings, env_prefix="ROMANA_TOPOLOGY__"):
    """All settings."""

    listen: ListenSettings = ListenSettings(address="127.0.0.1:9610")
    etcd: EtcdSettings = EtcdSettings()
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9611")
    initial_topology: str = ""
    """A topology file or the name of a built-in one, applied only if there is no topology yet."""
    drain: float = Field(10.0, ge=0)
    """Seconds that running calls get at a stop."""
