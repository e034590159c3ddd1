"""Topologies that need no file."""

from __future__ import annotations

from enum import StrEnum

from services.common.document.tree import Items, Json, Table, Tree, from_json

DEFAULT_CIDR = "10.112.0.0/12"
"""Romana's choice for kubeadm: far from Kubernetes' service addresses, 10.96.0.0/12."""
KUBEADM_GROUPS = 8


class Builtin(StrEnum):
    FLAT = "flat"
    """One network and one group that takes every node."""
    KUBEADM = "kubeadm"
    """The same in eight groups, which fill evenly."""


def builtin(name: Builtin, cidr: str = "", *, at: str = "") -> Tree:
    """A built-in topology, in the default CIDR unless another is named; errors are at `at`."""
    network = "kubeadm" if name is Builtin.KUBEADM else "default"
    topology: dict[str, Json] = {"name": network, "networks": [network]}
    if name is Builtin.KUBEADM:
        topology["groups"] = [{"name": f"group-{n}"} for n in range(1, KUBEADM_GROUPS + 1)]
    networks = _table(at, {"name": network, "cidr": cidr or DEFAULT_CIDR})
    return Table({"networks": Items([networks]), "topologies": Items([_table(at, topology)])})


def _table(at: str, fields: dict[str, Json]) -> Table:
    return Table({name: from_json(value) for name, value in fields.items()}, at=at)
