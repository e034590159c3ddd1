"""Where the services are: an option, the environment, a cluster of `romana up`, the default.

`romana up` writes `endpoints.json` into its data directory while it runs; any other run of the
command by the same user finds the cluster by that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from services.common.process.environment import (
    DATA_DIR_VARIABLE,
    IPAM_VARIABLE,
    POLICY_VARIABLE,
    TOPOLOGY_VARIABLE,
)
from services.common.tls import TlsFiles

TOPOLOGY_PORT = 9610
IPAM_PORT = 9620
POLICY_PORT = 9630
CONSOLE_PORT = 9660

FILE_NAME = "endpoints.json"
CERTIFICATES = "certificates"
"""Folder of the authority in a data directory of a cluster with TLS."""
OPERATOR = "operator"
"""Name of the certificate that the command shows to such a cluster."""


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Addresses as `host:port`."""

    topology: str
    ipam: str
    policy: str = f"127.0.0.1:{POLICY_PORT}"
    tls: TlsFiles | None = None
    """Where some of them are those of a cluster of `romana up --tls`: an operator's files."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a running `romana up` says about itself."""

    pid: int
    topology: str
    ipam: str
    topology_metrics: str
    ipam_metrics: str
    etcd: str
    """Comma-separated endpoints."""
    policy: str = ""
    policy_metrics: str = ""
    certificates: str = ""
    """The folder of its authority; empty: without TLS."""
    console: str = ""
    """URL; empty: there is none."""

    @property
    def tls(self) -> TlsFiles | None:
        """An operator's files; None: without TLS."""
        if not self.certificates:
            return None
        folder = Path(self.certificates)
        return TlsFiles(folder / "ca.pem", folder / f"{OPERATOR}.pem", folder / f"{OPERATOR}.key")


def find(
    topology: str, ipam: str, environment: Mapping[str, str], *, policy: str = ""
) -> ServiceAddresses:
    """Where to call: `topology`, `ipam` and `policy` are the options, empty when not given."""
    topology = topology or environment.get(TOPOLOGY_VARIABLE, "")
    ipam = ipam or environment.get(IPAM_VARIABLE, "")
    policy = policy or environment.get(POLICY_VARIABLE, "")
    tls = None
    if not (topology and ipam and policy):
        cluster = running(data_dir(environment))
        if cluster is not None:
            topology = topology or cluster.topology
            ipam = ipam or cluster.ipam
            policy = policy or cluster.policy
            tls = cluster.tls
    return ServiceAddresses(
        topology or f"127.0.0.1:{TOPOLOGY_PORT}",
        ipam or f"127.0.0.1:{IPAM_PORT}",
        policy or f"127.0.0.1:{POLICY_PORT}",
        tls,
    )


def data_dir(environment: Mapping[str, str]) -> Path:
    """Where `romana up` keeps its data unless it is told."""
    if named := environment.get(DATA_DIR_VARIABLE):
        return Path(named)
    share = environment.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Path(share) / "romana"


def running(folder: Path) -> Cluster | None:
    """The cluster that runs from this data directory, if one does."""
    try:
        cluster = Cluster(**json.loads((folder / FILE_NAME).read_bytes()))
        os.kill(cluster.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return cluster


def publish(folder: Path, cluster: Cluster) -> None:
    """Writes what `running` reads; readers see all of it or nothing."""
    made = folder / f".{FILE_NAME}.new"
    made.write_text(json.dumps(asdict(cluster), indent=2) + "\n")
    made.replace(folder / FILE_NAME)


def withdraw(folder: Path) -> None:
    """Removes what `publish` wrote."""
    (folder / FILE_NAME).unlink(missing_ok=True)
