"""What can be set for topology, by file, by `ROMANA_TOPOLOGY__...` or by flags."""

from __future__ import annotations

from pydantic import Field, field_validator

from services.common.process.settings import (
    AuditSettings,
    EtcdSettings,
    Listed,
    ListenSettings,
    MetricsSettings,
    ServiceSettings,
)
from services.topology.checks.own_node import AGENTS_MAY, MAY


class TopologySettings(ServiceSettings, env_prefix="ROMANA_TOPOLOGY__"):
    listen: ListenSettings = ListenSettings(address="127.0.0.1:9610")
    etcd: EtcdSettings = EtcdSettings()
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9611")
    initial_topology: str = ""
    """A topology file or the name of a built-in one, applied only if there is no topology yet."""
    nodes_may: Listed = AGENTS_MAY
    """What the certificate of a node may say of that node where no operator has declared it: any of
    register, address, labels, attachments, pins."""
    audit: AuditSettings = AuditSettings()
    drain: float = Field(10.0, ge=0)
    """Seconds that running calls get at a stop."""

    @field_validator("nodes_may")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - set(MAY):
            raise ValueError(f"{min(unknown)!r} is none of {', '.join(MAY)}")
        return value
