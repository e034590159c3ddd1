"""Settings of the ipam service, from `ROMANA_IPAM__...`."""

from __future__ import annotations

from pydantic import Field

from services.common.process.settings import (
    AuditSettings,
    EtcdSettings,
    Listed,
    ListenSettings,
    MetricsSettings,
    ServiceSettings,
)
from services.ipam.deciding.commands import SHARE


class IpamSettings(ServiceSettings, env_prefix="ROMANA_IPAM__"):
    listen: ListenSettings = ListenSettings(address="127.0.0.1:9620")
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9621")
    etcd: EtcdSettings = EtcdSettings()
    election_ttl: int = Field(2, ge=2, le=60)
    """Seconds after which an active replica that is silent is replaced."""
    release_grace: float = Field(300.0, ge=0, le=86400)
    """Seconds that a node may be gone, without anybody having removed it by force, until what is in
    use on it is released."""
    release_fence: float = Field(300.0, ge=0, le=86400)
    """Seconds after which what is in use on a node that was removed by force is released, if its
    agent has not said before that it has let go of it."""
    node_names: Listed = ()
    """Patterns of names of endpoints that every node's certificate may take, besides its own."""
    node_share: float = Field(SHARE, gt=0, le=1)
    """Of its group's addresses on a network, that a node may hold where there are other nodes."""
    audit: AuditSettings = AuditSettings()
    drain: float = Field(10.0, ge=0)
    """Seconds that running calls get at a stop."""
