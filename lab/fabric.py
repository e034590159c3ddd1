"""The network of a lab: a bridge per VLAN, routers, management, nodes, machines, firewalls.

    fabric     the bridges: one per VLAN, one for management, two per rack
    router     an interface per VLAN with the gateway's address, and the access rules; one per rack
    control    etcd and the services, on the management network
    RACK       the rack's router: an interface to the core router, one to the rack's nodes
    NODE       an interface per VLAN that it is on, one to its rack, and eth0 for management
    MACHINE    an interface on its VLAN, the gateway as default route
    FIREWALL   an interface per arm, one or two for a VLAN, and rules that know connections

The routers of all racks have the gateways of the routed networks, besides their own addresses, so
that a network has one gateway and every node its rack's router for it: an anycast gateway.

In a namespace of its own: br_netfilter passes bridged frames through the iptables of the bridge's
namespace, and Docker drops there. Without 802.1Q in the kernel a VLAN is a bridge with access ports
only; with `trunk` it is real: one VLAN-aware bridge, and the router and the nodes on tagged ports.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab import acl, firewall
from lab.links import Bridge, Cable, Entry, Own, PortVlan, Thing, Up, VlanLink, make
from lab.namespaces import add, hosts_of, inside, path_of, remove, run, sysctl
from lab.routing import CORE_INTERFACE, EVERYTHING, NODES_INTERFACE, Route, Routing
from lab.spec import (
    CONTROL_ADDRESS,
    MANAGEMENT,
    MANAGEMENT_INTERFACE,
    RACK_INTERFACE,
    TRUNK_INTERFACE,
    Address,
    Firewall,
    Lab,
    Network,
    Node,
    Rack,
)
from services.common.errors import WrongState

FABRIC, ROUTER, CONTROL = "fabric", "router", "control"
MANAGEMENT_BRIDGE = "management"
TRUNK_BRIDGE = "trunk"


@dataclass(frozen=True, slots=True)
class Plug:
    """One end of a cable at a host, the other in a bridge."""

    host: str
    interface: str
    bridge: str
    vlans: tuple[int, ...] = ()
    """Of a VLAN-aware bridge."""
    tagged: bool = False


class Fabric:
    def __init__(self, lab: Lab, routing: Routing | None = None) -> None:
        """Changes nothing; `routing` is needed by a lab with racks."""
        self._lab = lab
        self._routing = routing or Routing()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Who gets a namespace; endpoints come later."""
        lab = self._lab
        return (
            *(FABRIC, ROUTER, CONTROL),
            *(rack.name for rack in lab.racks),
            *(node.name for node in lab.nodes),
            *(machine.name for machine in lab.machines),
            *(each.name for each in lab.firewalls),
        )

    def up(self) -> None:
        """Makes all of it, or nothing.

        Raises:
            WrongState: A lab of this name is there, or a command failed.
        """
        lab = self._lab
        if hosts_of(lab.name):
            raise WrongState(
                f"there is a lab {lab.name} already; `romana lab down` removes it", "LAB_EXISTS"
            )
        try:
            add(lab.name, self.hosts)
            for host in self.hosts:
                sysctl(path_of(lab.name, host), self._parameters(host))
            for host in self.hosts:
                make(path_of(lab.name, host), self._inside(host))
            self._filter(ROUTER, acl.rendered(lab))
            for rack in lab.racks:
                self._filter(rack.name, acl.rendered_in_rack(lab))
            for each in lab.firewalls:
                self._filter(each.name, firewall.RULES)
                sysctl(path_of(lab.name, each.name), firewall.TRACKING)
        except BaseException:
            down(lab.name)
            raise

    def _filter(self, host: str, rules: str) -> None:
        run(inside(path_of(self._lab.name, host), ["nft", "-f", "-"]), stdin=rules)

    def _parameters(self, host: str) -> dict[str, int]:
        """Kernel parameters, before there is any interface."""
        if host == FABRIC:  # bridges are switches: no addresses of their own
            return {"ipv6/conf/all/disable_ipv6": 1, "ipv6/conf/default/disable_ipv6": 1}
        reverse = int(self._lab.strict_reverse_path)
        values = {
            "ipv4/conf/all/rp_filter": reverse,
            "ipv4/conf/default/rp_filter": reverse,
            "ipv6/conf/default/accept_dad": 0,  # else addresses wait a second
        }
        if host in {ROUTER, *(rack.name for rack in self._lab.racks)}:
            values |= {
                "ipv4/ip_forward": 1,
                "ipv6/conf/all/forwarding": 1,
                "ipv4/icmp_ratelimit": 0,  # every refusal is told
                "ipv4/conf/all/send_redirects": 0,
                "ipv4/conf/default/send_redirects": 0,
            }
        if host in {each.name for each in self._lab.firewalls}:
            values |= firewall.PARAMETERS
        return values

    def _bridges(self) -> Iterator[Thing]:
        lab = self._lab
        if lab.trunk:
            yield Bridge(TRUNK_BRIDGE, vlan_aware=True)
        else:
            yield from (Bridge(name) for name in {vlan.interface: "" for vlan in lab.vlans})
        for number in range(len(lab.racks)):
            yield Bridge(_core_bridge(number))
            yield Bridge(_rack_bridge(number))
        yield Bridge(MANAGEMENT_BRIDGE)

    def _plugs(self) -> Iterator[Plug]:
        lab = self._lab
        yield from self._vlan_plugs(ROUTER, lab.vlans)
        numbers = {rack.name: number for number, rack in enumerate(lab.racks)}
        for name, number in numbers.items():
            yield Plug(ROUTER, name, _core_bridge(number))
            yield Plug(name, CORE_INTERFACE, _core_bridge(number))
            yield Plug(name, NODES_INTERFACE, _rack_bridge(number))
        yield Plug(CONTROL, MANAGEMENT_INTERFACE, MANAGEMENT_BRIDGE)
        for node in lab.nodes:
            yield Plug(node.name, MANAGEMENT_INTERFACE, MANAGEMENT_BRIDGE)
            if node.rack:
                yield Plug(node.name, RACK_INTERFACE, _rack_bridge(numbers[node.rack]))
            yield from self._vlan_plugs(
                node.name, [vlan for vlan in lab.vlans if vlan.name in node.addresses]
            )
        for machine in lab.machines:
            yield self._access_plug(machine.name, lab.network(machine.network))
        for each in lab.firewalls:
            for arm in each.arms:
                interface = lab.arm_interface(arm)
                yield self._access_plug(each.name, lab.network(arm.network), interface)

    def _access_plug(self, host: str, vlan: Network, interface: str = "") -> Plug:
        """Who has the VLAN untagged, by an interface of the VLAN's name or of another one."""
        bridge = TRUNK_BRIDGE if self._lab.trunk else vlan.interface
        return Plug(host, interface or vlan.interface, bridge, (vlan.vlan_id,))

    def _vlan_plugs(self, host: str, vlans: Sequence[Network]) -> Iterator[Plug]:
        if self._lab.trunk:
            ids = tuple(vlan.vlan_id for vlan in vlans)
            yield Plug(host, TRUNK_INTERFACE, TRUNK_BRIDGE, ids, tagged=True)
            return
        for vlan in vlans:
            yield Plug(host, vlan.interface, vlan.interface)

    def _inside(self, host: str) -> Iterator[Thing]:
        """What is made in a host's namespace; the fabric, where all cables begin, is the first."""
        if host == FABRIC:
            yield from self._bridges()
            for number, plug in enumerate(self._plugs()):
                port = f"port{number}"
                yield Cable(port, path_of(self._lab.name, plug.host), plug.interface)
                yield Up(port, plug.bridge)
                for vlan in plug.vlans if self._lab.trunk else ():
                    yield PortVlan(port, vlan, plug.tagged)
            return
        for plug in self._plugs():
            if plug.host == host:
                yield Up(plug.interface)
        yield from self._addresses(host)

    def _addresses(self, host: str) -> Iterator[Thing]:
        lab = self._lab
        if host == ROUTER:
            yield from self._at_core()
        elif host == CONTROL:
            yield _managed(CONTROL_ADDRESS)
        for rack in lab.racks:
            if rack.name == host:
                yield from self._at_rack(rack)
        for node in lab.nodes:
            if node.name == host:
                yield from self._at_node(node)
        yield from self._beside_nodes(host)

    def _at_core(self) -> Iterator[Thing]:
        lab = self._lab
        for vlan in lab.vlans:
            if lab.trunk:
                yield VlanLink(vlan.interface, TRUNK_INTERFACE, vlan.vlan_id)
                yield Up(vlan.interface)
            yield Own(vlan.on_link(vlan.gateway), vlan.interface)
        for rack in lab.racks:
            for own in rack.router:
                core, _ = lab.transfer(rack.name, own.version)
                yield Own(f"{core}/{core.max_prefixlen - 1}", rack.name)
        yield from map(Entry, self._routing.core)

    def _at_rack(self, rack: Rack) -> Iterator[Thing]:
        lab = self._lab
        for own in rack.router:
            _, address = lab.transfer(rack.name, own.version)
            yield Own(f"{address}/{address.max_prefixlen - 1}", CORE_INTERFACE)
            yield Own(str(own), NODES_INTERFACE)
        for gateway in dict.fromkeys(network.gateway for network in lab.routed):
            if gateway.version in {own.version for own in rack.router}:
                yield Own(f"{gateway}/{gateway.max_prefixlen}", NODES_INTERFACE)
        yield from map(Entry, self._routing.racks[rack.name])

    def _at_node(self, node: Node) -> Iterator[Thing]:
        lab = self._lab
        yield _managed(lab.management(node.name))
        if not lab.trunk:
            for vlan in lab.vlans:
                if vlan.name in node.addresses:
                    yield Own(vlan.on_link(node.addresses[vlan.name]), vlan.interface)
        if node.rack:
            rack = lab.rack(node.rack)
            routed = [network.name for network in lab.routed]
            held = {own for name, own in node.addresses.items() if name in routed}
            for own in sorted(held, key=str):
                yield Own(rack.on_link(own), RACK_INTERFACE)
            for version in sorted({own.version for own in held}):
                yield _default(rack.router_of(version))

    def _beside_nodes(self, host: str) -> Iterator[Thing]:
        """Addresses of a plain machine or a firewall, and its routes."""
        lab = self._lab
        for machine in lab.machines:
            if machine.name == host:
                vlan = lab.network(machine.network)
                yield Own(vlan.on_link(machine.address), vlan.interface)
                yield _default(vlan.gateway)
        for each in lab.firewalls:
            if each.name == host:
                yield from self._at_firewall(each)

    def _at_firewall(self, each: Firewall) -> Iterator[Thing]:
        lab = self._lab
        gateways: dict[int, Address] = {}
        for arm in each.arms:
            vlan = lab.network(arm.network)
            yield Own(vlan.on_link(arm.address), lab.arm_interface(arm))
            gateways.setdefault(arm.address.version, vlan.gateway)
        yield from map(_default, gateways.values())
        yield from firewall.between_arms(lab, each)


def down(lab: str) -> list[str]:
    """Removes every namespace of a lab with all that is in it; returns whose they were."""
    hosts = hosts_of(lab)
    remove(lab, hosts)
    return hosts


def _core_bridge(rack: int) -> str:
    """Between the core router and that of a rack, by the rack's number."""
    return f"core{rack}"


def _rack_bridge(rack: int) -> str:
    """The rack's own, by its number."""
    return f"rack{rack}"


def _default(gateway: Address) -> Entry:
    return Entry(Route(EVERYTHING[gateway.version], gateway))


def _managed(address: Address) -> Own:
    return Own(f"{address}/{MANAGEMENT.prefixlen}", MANAGEMENT_INTERFACE)
