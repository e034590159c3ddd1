"""The control plane of a lab: etcd and the services in a namespace of their own. Pure.

Agents reach it by way of the management network, whose clear text nobody else sees.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lab.fabric import CONTROL
from lab.processes import Program
from lab.spec import CONTROL_ADDRESS
from services.common.etcd.process import ALONE

TOPOLOGY = f"{CONTROL_ADDRESS}:9610"
IPAM = f"{CONTROL_ADDRESS}:9620"
POLICY = f"{CONTROL_ADDRESS}:9630"
ETCD = "127.0.0.1:2379"
ETCD_PEER = "127.0.0.1:2380"

ENVIRONMENT = {
    "ROMANA_TOPOLOGY": TOPOLOGY,
    "ROMANA_IPAM": IPAM,
    "ROMANA_POLICY": POLICY,
    "ROMANA_INSECURE": "true",
}
"""In which the `romana` command finds the services, inside the control namespace."""


def etcd(folder: Path) -> Program:
    """One member; it needs no free ports, it has a loopback of its own."""
    return Program(
        "etcd",
        CONTROL,
        [
            "etcd",
            *("--name", "lab"),
            *("--data-dir", str(folder / "etcd")),
            *("--listen-client-urls", f"http://{ETCD}"),
            *("--advertise-client-urls", f"http://{ETCD}"),
            *("--listen-peer-urls", f"http://{ETCD_PEER}"),
            *("--initial-advertise-peer-urls", f"http://{ETCD_PEER}"),
            *("--initial-cluster", f"lab=http://{ETCD_PEER}"),
            *("--logger", "zap"),
            *("--log-level", "warn"),
            *ALONE,
        ],
    )


def service(name: str) -> Program:
    prefix = f"ROMANA_{name.upper()}__"
    return Program(
        name,
        CONTROL,
        [sys.executable, "-m", f"services.{name}.main"],
        {
            f"{prefix}LISTEN__ADDRESS": {"topology": TOPOLOGY, "ipam": IPAM, "policy": POLICY}[
                name
            ],
            f"{prefix}LISTEN__INSECURE": "true",
            f"{prefix}ETCD__ENDPOINTS": ETCD,
            f"{prefix}LOG__FORMAT": "json",
        },
    )
