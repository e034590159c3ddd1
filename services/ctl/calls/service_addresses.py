"""Where the services are: an option, the environment, a cluster of `romana up`, the default.

`romana up` writes `endpoints.json` into its data directory while it runs, and a note of where that
is into the user's own; any other run of the command by the same user finds the cluster by that.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from services.common.errors import Unavailable, WrongState
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
NOTES = "running"
"""Folder in the user's own data directory: notes of where clusters run from."""
CERTIFICATES = "certificates"
"""Folder of the authority in a data directory of a cluster with TLS."""
OPERATOR = "operator"
"""Name of the certificate that the command shows to such a cluster."""


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Addresses as `host:port`; empty where a cluster is named that does not run."""

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
    data_dir: str = ""

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
    """Where to call: `topology`, `ipam` and `policy` are the options, empty when not given.

    Raises:
        WrongState: Several clusters run, and nothing says which one is meant.
    """
    topology = topology or environment.get(TOPOLOGY_VARIABLE, "")
    ipam = ipam or environment.get(IPAM_VARIABLE, "")
    policy = policy or environment.get(POLICY_VARIABLE, "")
    if topology and ipam and policy:
        return ServiceAddresses(topology, ipam, policy)
    cluster = chosen(environment)
    if cluster is not None:
        return ServiceAddresses(
            topology or cluster.topology,
            ipam or cluster.ipam,
            policy or cluster.policy,
            cluster.tls,
        )
    if environment.get(DATA_DIR_VARIABLE):  # what listens at the usual ports is another cluster
        return ServiceAddresses(topology, ipam, policy)
    return ServiceAddresses(
        topology or f"127.0.0.1:{TOPOLOGY_PORT}",
        ipam or f"127.0.0.1:{IPAM_PORT}",
        policy or f"127.0.0.1:{POLICY_PORT}",
    )


def not_found(environment: Mapping[str, str]) -> Unavailable:
    """Why the cluster that the environment names has no addresses."""
    folder = data_dir(environment)
    why = "none runs there"
    try:
        (folder / FILE_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    return Unavailable(
        f"{DATA_DIR_VARIABLE} names {folder} as the data directory of a cluster, and {why}",
        "NO_CLUSTER_THERE",
        {"folder": str(folder)},
    )


def chosen(environment: Mapping[str, str]) -> Cluster | None:
    """The running cluster that the environment names, else the only one of this user.

    Raises:
        WrongState: Several run, and nothing says which one is meant.
    """
    if environment.get(DATA_DIR_VARIABLE):
        return running(data_dir(environment))
    own = own_folder(environment)
    folders = [own, *(folder for folder in _noted(own) if folder != own)]
    found = {folder: cluster for folder in folders if (cluster := running(folder)) is not None}
    if len(found) > 1:
        named = ", ".join(sorted(map(str, found)))
        raise WrongState(
            f"several clusters of `romana up` run, from {named}: {DATA_DIR_VARIABLE} says which "
            "one is meant",
            "SEVERAL_CLUSTERS",
            {"folders": named},
        )
    return next(iter(found.values()), None)


def data_dir(environment: Mapping[str, str]) -> Path:
    """Where `romana up` keeps its data unless it is told."""
    if named := environment.get(DATA_DIR_VARIABLE):
        return Path(named)
    return own_folder(environment)


def running(folder: Path) -> Cluster | None:
    """The cluster that runs from this data directory, if one does."""
    try:
        cluster = Cluster(**json.loads((folder / FILE_NAME).read_bytes()))
        with contextlib.suppress(PermissionError):  # it runs, as another user
            os.kill(cluster.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return cluster


def publish(folder: Path, cluster: Cluster, environment: Mapping[str, str]) -> None:
    """Writes what `running` and `chosen` read; readers see all of it or nothing."""
    made = folder / f".{FILE_NAME}.new"
    made.write_text(json.dumps(asdict(cluster), indent=2) + "\n")
    made.replace(folder / FILE_NAME)
    own = own_folder(environment)
    if folder == own:
        return
    with contextlib.suppress(OSError):  # a home that cannot be written: then it is only said
        (own / NOTES).mkdir(mode=0o700, parents=True, exist_ok=True)
        _note(own, cluster.pid).write_text(f"{folder}\n")


def withdraw(folder: Path, environment: Mapping[str, str]) -> None:
    """Removes what `publish` wrote."""
    (folder / FILE_NAME).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        _note(own_folder(environment), os.getpid()).unlink(missing_ok=True)


def own_folder(environment: Mapping[str, str]) -> Path:
    """The user's data directory, whatever else is named."""
    share = environment.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Path(share) / "romana"


def _note(own: Path, pid: int) -> Path:
    return own / NOTES / str(pid)


def _noted(own: Path) -> list[Path]:
    """Directories that notes name; whether a cluster runs there, `running` says."""
    found = []
    with contextlib.suppress(OSError):
        for note in (own / NOTES).iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                found.append(Path(note.read_text().strip()))
    return found
