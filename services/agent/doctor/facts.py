"""What is found out about a node before Romana is installed on it. Values only."""

from __future__ import annotations

from dataclasses import dataclass

VETH, VLAN, NEXTHOP, RULE, PROXY, TABLES, TRACKING = (
    "veth",
    "8021q",
    "nexthop objects",
    "policy routing",
    "proxy entries",
    "nf_tables",
    "conntrack",
)
"""Features: their names."""


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that the agent asks of the kernel, tried in a namespace of its own."""

    name: str
    problem: str = ""
    """What the kernel said; empty: it works."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Somebody who listens on a TCP port."""

    port: int
    program: str = ""
    """Empty: not known."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One node."""

    release: str
    """Of the kernel."""
    is_root: bool
    features: tuple[Feature, ...] = ()
    untried: str = ""
    """Why none of them could be tried; empty: they were."""
    read_only: tuple[str, ...] = ()
    """Sysctls that are there and cannot be written."""
    has_ipv6: bool = True
    agent_runs: bool = False
    listeners: tuple[Listener, ...] = ()
    configurations: tuple[str, ...] = ()
    """Names of CNI configurations, in the order in which runtimes take them."""
    plugins: frozenset[str] = frozenset()
    """Names of CNI plug-ins in the runtimes' folder."""
    runtimes: tuple[str, ...] = ()
    interfaces: frozenset[str] = frozenset()
    tables: tuple[str, ...] = ()
    """Of nf_tables, such as "ip nat"."""
    closed_chains: tuple[str, ...] = ()
    """Others' that drop what is forwarded and not accepted."""
    networkd_removes: tuple[str, ...] = ()
    """Settings of a running systemd-networkd by which it removes what it has not made."""
    state_dir: str = ""
    state_filesystem: str = ""
    """Its kind; empty: not known."""
    state_writable: bool = True
