"""What a node lacks, and what may stand in the way, with what to do. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.agent.doctor.facts import (
    NEXTHOP,
    PROXY,
    RULE,
    TABLES,
    TRACKING,
    VETH,
    VLAN,
    Facts,
)


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It may be meant so, or concerns only who uses it."""
    LACKING = "lacking"
    """Romana will not work on this node."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """A word for programs."""
    verdict: Verdict
    found: str
    advice: str = ""


LEAST: Final = (5, 3)
"""Nexthop objects."""
TESTED: Final = (6, 1)
LASTING_TABLE: Final = (6, 9)
"""A table of nf_tables that nobody else can flush, and that outlives its owner."""
AGENT_PORT: Final = 9641
SERVICE_PORTS: Final[Mapping[int, str]] = {
    2479: "the chart's etcd",
    9610: "topology",
    9611: "topology's metrics",
    9620: "ipam",
    9621: "ipam's metrics",
    9630: "policy",
    9631: "policy's metrics",
    9650: "the controller's extender",
    9651: "the controller's metrics",
    9652: "the controller's webhook",
}
OUR_TABLES: Final = frozenset(
    {"inet romana", "inet romana_ways", "ip romana_copies4", "ip6 romana_copies6"}
)
OTHERS_LINKS: Final = re.compile(
    r"cni0|cbr0|flannel.*|cali.+|vxlan\.calico|tunl0@?|cilium_.*|lxc[0-9a-f]{8,}|weave|kube-bridge"
    r"|ovn-k8s-.*|antrea-gw0|kube-ipvs0@?"
)
_FEATURES: Final = {
    VETH: "no endpoint of a container can be attached: load the module veth",
    NEXTHOP: "no route to another node can be made: a kernel of 5.3 or later with IPv4 multipath",
    RULE: "packets cannot be led by VLAN: the kernel needs IP_MULTIPLE_TABLES",
    PROXY: "nobody on an onlink network would be answered",
    TABLES: "no policy can be enforced: load the modules nf_tables, nf_tables_inet and nft_ct",
    TRACKING: "connections that are denied later could not be ended: load nf_conntrack_netlink",
}


def judge(facts: Facts, *, own_configuration: str) -> tuple[Finding, ...]:
    """All findings; `own_configuration`: the name of Romana's CNI configuration on this node."""
    return (
        *_rights(facts),
        *_kernel(facts),
        *_features(facts),
        *_sysctls(facts),
        *_runtime(facts),
        *_configurations(facts, own_configuration),
        *_left_over(facts),
        *_ports(facts),
        *_tables(facts),
        *_networkd(facts),
        *_state(facts),
    )


def fits(findings: tuple[Finding, ...]) -> bool:
    return all(finding.verdict is not Verdict.LACKING for finding in findings)


def _rights(facts: Facts) -> Iterator[Finding]:
    if facts.untried:
        yield Finding(
            "rights",
            Verdict.WARNING,
            f"{facts.untried}: what the kernel can do was not tried",
            "run it as root with CAP_NET_ADMIN and CAP_SYS_ADMIN, which the agent needs, too",
        )


def _kernel(facts: Facts) -> Iterator[Finding]:
    match = re.match(r"(\d+)\.(\d+)", facts.release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    found = f"Linux {facts.release}"
    if version < LEAST:
        yield Finding("kernel", Verdict.LACKING, found, "5.3 or later is needed, 6.1 recommended")
    elif version < TESTED:
        yield Finding("kernel", Verdict.WARNING, found, "tested with 6.1 and later")
    elif version < LASTING_TABLE:
        advice = (
            "before 6.9 others can flush the rules of policies (`nft flush ruleset`); the agent "
            "notices and makes them anew at once"
        )
        yield Finding("kernel", Verdict.OK, found, advice)
    else:
        yield Finding("kernel", Verdict.OK, found)


def _features(facts: Facts) -> Iterator[Finding]:
    for feature in facts.features:
        if not feature.problem:
            yield Finding(feature.name, Verdict.OK, "works")
        elif feature.name == VLAN:
            yield Finding(
                feature.name,
                Verdict.WARNING,
                feature.problem,
                "the agent cannot make VLAN links: load the module 8021q, or have this node's "
                "attachments name interfaces that are there",
            )
        else:
            advice = _FEATURES[feature.name]
            yield Finding(feature.name, Verdict.LACKING, feature.problem, advice)


def _sysctls(facts: Facts) -> Iterator[Finding]:
    if facts.read_only and facts.is_root:
        yield Finding(
            "sysctls",
            Verdict.LACKING,
            f"cannot be written: {', '.join(facts.read_only)}",
            "mount /proc/sys writable into the agent's container",
        )
    elif facts.is_root:
        yield Finding("sysctls", Verdict.OK, "can be written")
    if not facts.has_ipv6:
        yield Finding(
            "ipv6",
            Verdict.WARNING,
            "the kernel has no IPv6",
            "endpoints on this node get no IPv6 addresses: keep it out of such networks' groups",
        )


def _runtime(facts: Facts) -> Iterator[Finding]:
    if facts.runtimes:
        yield Finding("runtime", Verdict.OK, ", ".join(facts.runtimes))
    else:
        yield Finding(
            "runtime",
            Verdict.WARNING,
            "no containerd, CRI-O, Docker or podman",
            "none is needed for VMs and for `romana endpoint`",
        )
    if facts.runtimes and "loopback" not in facts.plugins:
        yield Finding(
            "plug-ins",
            Verdict.WARNING,
            "the runtimes' folder of CNI plug-ins has no loopback",
            "older runtimes start no container without: install containernetworking-plugins",
        )


def _configurations(facts: Facts, own: str) -> Iterator[Finding]:
    others = [name for name in facts.configurations if name != own]
    before = [name for name in others if name < own]
    if before:
        yield Finding(
            "cni",
            Verdict.LACKING,
            f"runtimes would take {before[0]}, not {own}",
            "remove the other network with its own instructions, or give Romana's file a name "
            "that comes first",
        )
    elif others:
        yield Finding(
            "cni",
            Verdict.WARNING,
            f"{', '.join(others)} would be taken should {own} go",
            "remove what is left of another network",
        )
    else:
        yield Finding("cni", Verdict.OK, "no other configuration")


def _left_over(facts: Facts) -> Iterator[Finding]:
    found = sorted(name for name in facts.interfaces if OTHERS_LINKS.fullmatch(name))
    if found:
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        yield Finding(
            "interfaces",
            Verdict.WARNING,
            f"of another network for containers: {shown}",
            "two of them on one node lead packets astray: remove the other, or restart the machine "
            "after that",
        )


def _ports(facts: Facts) -> Iterator[Finding]:
    if facts.agent_runs:
        yield Finding("ports", Verdict.OK, "an agent runs on this node already")
        return
    taken = {listener.port: listener.program for listener in facts.listeners}
    if AGENT_PORT in taken:
        yield Finding(
            "ports",
            Verdict.LACKING,
            f"{_who(AGENT_PORT, taken)}, the agent's metrics",
            "set another with ROMANA_AGENT__METRICS__ADDRESS",
        )
    others = [
        f"{_who(port, taken)}, {what}" for port, what in SERVICE_PORTS.items() if port in taken
    ]
    if others:
        yield Finding(
            "service ports",
            Verdict.WARNING,
            "; ".join(others),
            "that matters only where these services shall run on this node",
        )
    if AGENT_PORT not in taken and not others:
        yield Finding("ports", Verdict.OK, "free")


def _who(port: int, taken: Mapping[int, str]) -> str:
    return f"{port} is taken" + (f" by {taken[port]}" if taken[port] else "")


def _tables(facts: Facts) -> Iterator[Finding]:
    if facts.closed_chains:
        yield Finding(
            "forwarding",
            Verdict.WARNING,
            f"drops what it does not accept: {'; '.join(facts.closed_chains)}",
            "endpoints' packets pass it too: accept there what comes from and goes to the networks",
        )
    others = [name for name in facts.tables if name not in OUR_TABLES]
    if others:
        yield Finding(
            "tables",
            Verdict.OK,
            f"of others in nf_tables: {', '.join(others)}",
            "they stay as they are; what they drop is dropped",
        )


def _networkd(facts: Facts) -> Iterator[Finding]:
    if facts.networkd_removes:
        lines = " and ".join(f"{name}=no" for name in facts.networkd_removes)
        yield Finding(
            "networkd",
            Verdict.WARNING,
            "systemd-networkd removes rules and routes that it has not made when it starts",
            f"set {lines} in [Network] of /etc/systemd/networkd.conf",
        )


def _state(facts: Facts) -> Iterator[Finding]:
    if not facts.state_writable and facts.is_root:
        yield Finding(
            "state",
            Verdict.LACKING,
            f"{facts.state_dir} cannot be written",
            "the agent keeps there what it has begun: a disk that is writable",
        )
    elif facts.state_filesystem in {"tmpfs", "ramfs"}:
        yield Finding(
            "state",
            Verdict.WARNING,
            f"{facts.state_dir} is on {facts.state_filesystem}",
            "it has to survive a restart of the machine",
        )
    else:
        yield Finding("state", Verdict.OK, f"{facts.state_dir} on {facts.state_filesystem}")
