"""What is found out about a node, as findings with verdict and advice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.agent.doctor.facts import (
    NEXTHOP,
    PROXY,
    RULE,
    TABLES,
    TRACKING,
    VETH,
    VLAN,
    Facts,
    Feature,
    Listener,
)
from services.agent.doctor.judging import AGENT_PORT, SERVICE_PORTS, Verdict, fits, judge
from services.agent.settings import AgentSettings
from services.ctl.calls import service_addresses

OWN = "10-romana.conflist"
NAMES = (VETH, VLAN, NEXTHOP, RULE, PROXY, TABLES, TRACKING)
GOOD = Facts(
    release="6.12.9-amd64",
    is_root=True,
    features=tuple(map(Feature, NAMES)),
    configurations=(OWN,),
    plugins=frozenset({"loopback"}),
    runtimes=("containerd",),
    state_dir="/var/lib/romana",
    state_filesystem="ext4",
)


def broken(name: str) -> tuple[Feature, ...]:
    return tuple(Feature(each, "Operation not supported" * (each == name)) for each in NAMES)


def verdicts(facts: Facts) -> dict[str, Verdict]:
    """Of what is not in order."""
    findings = judge(facts, own_configuration=OWN)
    return {each.check: each.verdict for each in findings if each.verdict is not Verdict.OK}


def test_a_good_node_fits_and_every_check_says_what_it_found() -> None:
    findings = judge(GOOD, own_configuration=OWN)
    assert verdicts(GOOD) == {}
    assert fits(findings)
    assert all(each.found for each in findings)
    assert len({each.check for each in findings}) == len(findings)


@pytest.mark.parametrize(
    ("check", "facts"),
    [
        ("kernel", replace(GOOD, release="4.19.0-27-amd64")),
        *((name, replace(GOOD, features=broken(name))) for name in NAMES if name != VLAN),
        ("sysctls", replace(GOOD, read_only=("net/ipv4/ip_forward",))),
        ("cni", replace(GOOD, configurations=("05-cilium.conflist", OWN))),
        ("cni", replace(GOOD, configurations=("05-cilium.conflist",))),
        ("ports", replace(GOOD, listeners=(Listener(AGENT_PORT, "prometheus"),))),
        ("state", replace(GOOD, state_writable=False)),
    ],
)
def test_what_keeps_romana_from_working_is_lacking(check: str, facts: Facts) -> None:
    assert verdicts(facts) == {check: Verdict.LACKING}
    findings = judge(facts, own_configuration=OWN)
    assert not fits(findings)
    assert all(each.advice for each in findings if each.verdict is Verdict.LACKING)


@pytest.mark.parametrize(
    ("check", "facts"),
    [
        ("kernel", replace(GOOD, release="5.15.0-100-generic")),
        ("rights", replace(GOOD, is_root=False, features=(), untried="not run as root")),
        ("rights", replace(GOOD, features=(), untried="run without CAP_SYS_ADMIN")),
        (VLAN, replace(GOOD, features=broken(VLAN))),
        ("ipv6", replace(GOOD, has_ipv6=False)),
        ("runtime", replace(GOOD, runtimes=())),
        ("plug-ins", replace(GOOD, plugins=frozenset())),
        ("cni", replace(GOOD, configurations=(OWN, "87-podman.conflist"))),
        ("interfaces", replace(GOOD, interfaces=frozenset({"eth0", "cni0", "cali12ab"}))),
        ("service ports", replace(GOOD, listeners=(Listener(9610),))),
        ("forwarding", replace(GOOD, closed_chains=("FORWARD of table ip filter",))),
        ("networkd", replace(GOOD, networkd_removes=("ManageForeignRoutes",))),
        ("state", replace(GOOD, state_filesystem="tmpfs")),
    ],
)
def test_what_may_be_meant_so_is_a_warning(check: str, facts: Facts) -> None:
    assert verdicts(facts) == {check: Verdict.WARNING}
    assert fits(judge(facts, own_configuration=OWN))


def test_an_agent_that_runs_has_its_port_by_right() -> None:
    assert verdicts(replace(GOOD, agent_runs=True, listeners=(Listener(AGENT_PORT),))) == {}


def test_a_port_is_named_with_who_has_it() -> None:
    facts = replace(GOOD, listeners=(Listener(AGENT_PORT, "prometheus"),))
    findings = {each.check: each for each in judge(facts, own_configuration=OWN)}
    assert findings["ports"].found.startswith(f"{AGENT_PORT} is taken by prometheus")


def test_the_ports_are_those_of_the_settings() -> None:
    metrics = AgentSettings.model_fields["metrics"].default
    assert metrics.address.endswith(f":{AGENT_PORT}")
    ports = service_addresses.TOPOLOGY_PORT, service_addresses.IPAM_PORT
    assert {*ports, service_addresses.POLICY_PORT} <= SERVICE_PORTS.keys()
