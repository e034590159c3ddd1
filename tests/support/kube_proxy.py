"""Rules of iptables as kube-proxy 1.20 writes them, for services with one backend each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.netns import Namespace

_FIXED = """
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-MARK-DROP - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-MARK-DROP -j MARK --or-mark 0x8000
"""
_FILTER = """
*filter
:KUBE-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
-A FORWARD -j KUBE-FORWARD
-A INPUT -j KUBE-FIREWALL
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""


@dataclass(frozen=True)
class Service:
    """One with one backend, and a node port."""

    name: str
    cluster_address: str
    backend: str
    """Address; its port is that of the service."""
    port: int
    node_port: int
    local: bool = False
    """Whether `externalTrafficPolicy` is Local, else it is Cluster."""


def install(node: Namespace, here: Iterable[str], cidr: str, services: Iterable[Service]) -> None:
    """Does what kube-proxy does on a node.

    Args:
        node: The node.
        here: Addresses of backends that are on this node.
        cidr: Its `--cluster-cidr`.
        services: All of one family.
    """
    six = ":" in cidr
    lines = [_FIXED.strip()]
    on_node = set(here)
    for service in services:
        lines += _service(service, cidr, here=service.backend in on_node)
    lines += ["-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS", "COMMIT"]
    program = "ip6tables-restore" if six else "iptables-restore"
    node.run(program, stdin="\n".join(lines) + _FILTER)
    if not six:
        node.sysctl("net.ipv4.conf.all.route_localnet", 1)


def _service(service: Service, cidr: str, *, here: bool) -> Iterable[str]:
    chain, end, local = (f"KUBE-{kind}-{service.name}" for kind in ("SVC", "SEP", "XLB"))
    to_cluster = f"-d {service.cluster_address} -p tcp -m tcp --dport {service.port}"
    to_node = f"-p tcp -m tcp --dport {service.node_port}"
    host = f"[{service.backend}]" if ":" in service.backend else service.backend
    loopback = "::1/128" if ":" in cidr else "127.0.0.0/8"
    yield f":{chain} - [0:0]"
    yield f":{end} - [0:0]"
    yield f":{local} - [0:0]"
    yield f"-A KUBE-SERVICES ! -s {cidr} {to_cluster} -j KUBE-MARK-MASQ"
    yield f"-A KUBE-SERVICES {to_cluster} -j {chain}"
    if service.local:
        yield f"-A KUBE-NODEPORTS -s {loopback} {to_node} -j KUBE-MARK-MASQ"
        yield f"-A KUBE-NODEPORTS {to_node} -j {local}"
        yield f"-A {local} -s {cidr} -j {chain}"
        yield f"-A {local} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"
        yield f"-A {local} -m addrtype --src-type LOCAL -j {chain}"
        yield f"-A {local} -j {end if here else 'KUBE-MARK-DROP'}"
    else:
        yield f"-A KUBE-NODEPORTS {to_node} -j KUBE-MARK-MASQ"
        yield f"-A KUBE-NODEPORTS {to_node} -j {chain}"
    yield f"-A {chain} -j {end}"
    yield f"-A {end} -s {service.backend} -j KUBE-MARK-MASQ"
    yield f"-A {end} -p tcp -m tcp -j DNAT --to-destination {host}:{service.port}"
