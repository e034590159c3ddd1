"""Settings of the console, from `ROMANA_CONSOLE__...`."""

from __future__ import annotations

from pydantic import Field

from services.common.process.http_settings import HttpListenSettings
from services.common.process.settings import (
    Address,
    Addresses,
    Listed,
    MetricsSettings,
    ServiceSettings,
    TlsSettings,
)


class ConsoleListenSettings(HttpListenSettings):
    """Where pages and data are served; with TLS, browsers show a certificate with a role."""

    address: Address = "127.0.0.1:9660"
    names: Listed = ()
    """Names by which people reach it, beside the address and this machine's own. A request for any
    other name is refused, so that no foreign page can have its name lead here."""


class ConsoleSettings(ServiceSettings, env_prefix="ROMANA_CONSOLE__"):
    """The console."""

    listen: ConsoleListenSettings = ConsoleListenSettings()
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
    allow_changes: bool = False
    """A topology may be applied from here, by whom the services let."""
    prometheus: str = ""
    """Where Prometheus is, such as "http://127.0.0.1:9090": packets that rules denied are asked of
    it. Empty: that view says that it is not known."""
    metrics: MetricsSettings = MetricsSettings(address="127.0.0.1:9661")
