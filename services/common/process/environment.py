"""Variables of the environment by which the command and a lab find services."""

from __future__ import annotations

from typing import Final

TRACES_VARIABLE: Final = "ROMANA_TRACES"
"""Where the command sends spans: host:port or https://host:port of a collector."""
TRACES_CA_VARIABLE: Final = "ROMANA_TRACES_CA"
TRACES_CERTIFICATE_VARIABLE: Final = "ROMANA_TRACES_CERT"
TRACES_KEY_VARIABLE: Final = "ROMANA_TRACES_KEY"
DATA_DIR_VARIABLE: Final = "ROMANA_DATA_DIR"
TOPOLOGY_VARIABLE: Final = "ROMANA_TOPOLOGY"
IPAM_VARIABLE: Final = "ROMANA_IPAM"
POLICY_VARIABLE: Final = "ROMANA_POLICY"
CERTIFICATES_VARIABLE: Final = "ROMANA_CERTIFICATES"
