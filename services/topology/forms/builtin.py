"""Topologies that need no file."""

from __future__ import annotations

from enum import StrEnum

from services.topology.model.draft import GroupDraft, NetworkDraft, SpecDraft, TopologyDraft

DEFAULT_CIDR = "10.112.0.0/12"
"""Romana's choice for kubeadm: far from Kubernetes' service addresses, 10.96.0.0/12."""
KUBEADM_GROUPS = 8


class Builtin(StrEnum):
    """Their names."""

    FLAT = "flat"
    """One network and one group that takes every node."""
    KUBEADM = "kubeadm"
    """The same in eight groups, which fill evenly."""


def builtin(name: Builtin, cidr: str = "", *, at: str = "builtin") -> SpecDraft:
    """The draft of a built-in topology, in the default CIDR unless another is named."""
    network = "kubeadm" if name is Builtin.KUBEADM else "default"
    groups = tuple(
        GroupDraft(at=at, name=f"group-{number}") for number in range(1, KUBEADM_GROUPS + 1)
    )
    return SpecDraft(
        at=at,
        networks=(NetworkDraft(at=at, name=network, cidr=cidr or DEFAULT_CIDR),),
        topologies=(
            TopologyDraft(
                at=at,
                name=network,
                networks=(network,),
                groups=groups if name is Builtin.KUBEADM else (),
            ),
        ),
    )
