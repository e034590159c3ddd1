"""Every key of the store is spelt here.

    <root>/epoch                                     id of the store's history
    <root>/topology/generation                       written by every topology transaction
    <root>/topology/layout                           networks and groups
    <root>/topology/aside                            written when an address is set aside
    <root>/topology/nodes/<node>
    <root>/topology/removed/<node>                   removed by force, with what was in use on it
    <root>/election/ipam/<lease>                     candidates; the oldest is the active writer
    <root>/ipam/commit                               written by every ipam transaction
    <root>/ipam/blocks/<network>/<base>/<page>       in hex, so that keys sort by address
    <root>/ipam/claims/groups/<network>/<group>      written when a block there comes into use
    <root>/ipam/claims/nodes/<node>                  the same by node
    <root>/ipam/reservations/<name>
    <root>/ipam/releases/<node>                      what is in use on a node that is gone
    <root>/streams/<node>/<replica>                  an agent has a stream of routes to that replica
    <root>/election/policy/<lease>                   replicas of policy; nobody is elected
    <root>/policy/generation                         written by every policy transaction
    <root>/policy/edition                            by those that change policies and tenants
    <root>/policy/policies/<name>
    <root>/policy/tenants/<name>
    <root>/policy/endpoints/<name>                   what orchestrators said
    <root>/policy/attached/<node>/<name>             what agents said
    <root>/policy/devices/<group>                    devices that rules lead through
    <root>/policy/device_numbers                     the last number that an arm of one was given
    <root>/policy/device_states/<group>              which of them are up
    <root>/policy/observed/<node>                    which of them a node sees
    <root>/policy/staging                            who prepares a set that is too large at once
    <root>/policy/staged/<set>/<kind>/<name>         a part of it, as it shall be; empty: gone
    <root>/policy/applying                           the set that counts, though not yet in place
    <root>/audit/<service>/changes/<revision>        who changed what, after that revision
    <root>/audit/<service>/in_force/<revision>       when all nodes had applied that change

Claims close the gap between two writers. Before topology removes a group or a node it looks, at
some revision, that nothing is in use there; its transaction then demands that no claim there is
younger. An ipam transaction that makes a claim demands in turn that layout and node are those it
decided by.

In the same way no address goes to an endpoint and to a node, or a gateway. A topology transaction
that sets an address aside demands that the page it would be in is no younger, and writes `aside`;
an ipam transaction that takes an address into use demands that `aside` is what it decided by.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.model.devices import DeviceGroupName
from services.common.model.names import GroupPath, NetworkName, NodeName

DEFAULT_ROOT = "/romana"


@dataclass(frozen=True, slots=True)
class BlockKey:
    network: NetworkName
    base: int
    """First address of the block."""
    page: int
    bits: int
    """The family's address length, 32 or 128, told by the number of digits."""


@dataclass(frozen=True, slots=True)
class AuditKey:
    service: str
    """Whose key it is."""
    revision: int
    """Of the change before, or else of the change."""
    is_change: bool
    """Else it says when a change was in force."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys below one root, so that several clusters can share a store."""

    root: str = DEFAULT_ROOT

    @property
    def epoch(self) -> str:
        """Id of the store's history."""
        return f"{self.root}/epoch"

    @property
    def topology(self) -> str:
        """Prefix of all that topology writes."""
        return f"{self.root}/topology/"

    @property
    def generation(self) -> str:
        """Written by every topology transaction."""
        return f"{self.root}/topology/generation"

    @property
    def layout(self) -> str:
        return f"{self.root}/topology/layout"

    @property
    def aside(self) -> str:
        """Written by topology transactions that set an address aside."""
        return f"{self.root}/topology/aside"

    @property
    def nodes(self) -> str:
        return f"{self.root}/topology/nodes/"

    def node(self, name: NodeName) -> str:
        return f"{self.nodes}{name}"

    @property
    def removed_nodes(self) -> str:
        """Prefix of nodes that were removed."""
        return f"{self.root}/topology/removed/"

    def removed_node(self, name: NodeName) -> str:
        """Written when a node is removed: somebody asked that its addresses go, and itself."""
        return f"{self.removed_nodes}{name}"

    @property
    def ipam(self) -> str:
        """Prefix of all that ipam writes."""
        return f"{self.root}/ipam/"

    @property
    def leader(self) -> str:
        """Prefix of the candidates for the active writer."""
        return f"{self.root}/election/ipam/"

    @property
    def commit(self) -> str:
        """Written by every ipam transaction."""
        return f"{self.root}/ipam/commit"

    @property
    def blocks(self) -> str:
        return f"{self.root}/ipam/blocks/"

    def block(self, network: NetworkName, base: int, page: int, bits: int) -> str:
        """One page of a block; `bits` is the family's address length, 32 or 128."""
        return f"{self.root}/ipam/blocks/{network}/{base:0{bits // 4}x}/{page:04x}"

    def network_blocks(self, network: NetworkName) -> str:
        """Prefix of a network's block pages."""
        return f"{self.root}/ipam/blocks/{network}/"

    def parse_block(self, key: str) -> BlockKey:
        """Reads what `block` spelt; raises ValueError."""
        network, base, page = key.removeprefix(self.blocks).split("/")
        return BlockKey(NetworkName(network), int(base, 16), int(page, 16), len(base) * 4)

    def group_claim(self, network: NetworkName, group: GroupPath) -> str:
        """Written when a block of the group comes into use."""
        return f"{self.root}/ipam/claims/groups/{network}/{group}"

    def network_claims(self, network: NetworkName) -> str:
        """Prefix of the claims of a network's groups."""
        return f"{self.root}/ipam/claims/groups/{network}/"

    def node_claim(self, node: NodeName) -> str:
        """Written when a block of the node comes into use."""
        return f"{self.root}/ipam/claims/nodes/{node}"

    @property
    def reservations(self) -> str:
        return f"{self.root}/ipam/reservations/"

    def reservation(self, name: str) -> str:
        return f"{self.reservations}{name}"

    @property
    def node_releases(self) -> str:
        """Prefix of releases of what is in use on nodes that are gone."""
        return f"{self.root}/ipam/releases/"

    def node_release(self, node: NodeName) -> str:
        """Written before what is in use on a node that is gone is released."""
        return f"{self.node_releases}{node}"

    @property
    def streams(self) -> str:
        """Prefix of agents' streams: ipam's, but no decisions, like candidates."""
        return f"{self.root}/streams/"

    def streams_of(self, node: NodeName) -> str:
        """Prefix of the streams of one node's agent."""
        return f"{self.streams}{node}/"

    def stream(self, node: NodeName, replica: str) -> str:
        """There while a node's agent has a stream to a replica, and at most a lease longer."""
        return f"{self.streams_of(node)}{replica}"

    @property
    def policy(self) -> str:
        """Prefix of all that policy writes."""
        return f"{self.root}/policy/"

    @property
    def policy_replicas(self) -> str:
        """Prefix of the keys by which replicas of policy find each other."""
        return f"{self.root}/election/policy/"

    @property
    def policy_generation(self) -> str:
        """Written by every policy transaction."""
        return f"{self.root}/policy/generation"

    @property
    def policy_edition(self) -> str:
        """Written by every transaction that changes policies or tenants."""
        return f"{self.root}/policy/edition"

    @property
    def policies(self) -> str:
        return f"{self.root}/policy/policies/"

    @property
    def tenants(self) -> str:
        """Prefix of what is known of tenants."""
        return f"{self.root}/policy/tenants/"

    @property
    def policy_endpoints(self) -> str:
        """Prefix of what orchestrators said of endpoints."""
        return f"{self.root}/policy/endpoints/"

    @property
    def attached(self) -> str:
        """Prefix of what agents said of endpoints."""
        return f"{self.root}/policy/attached/"

    def attached_to(self, node: NodeName, name: str = "") -> str:
        """One endpoint of a node, or the prefix of all."""
        return f"{self.attached}{node}/{name}"

    @property
    def devices(self) -> str:
        """Prefix of groups of devices."""
        return f"{self.root}/policy/devices/"

    def device_group(self, name: DeviceGroupName) -> str:
        """One group."""
        return f"{self.devices}{name}"

    @property
    def device_numbers(self) -> str:
        """The last number that an arm of a device was given."""
        return f"{self.root}/policy/device_numbers"

    @property
    def device_states(self) -> str:
        """Prefix of the states of groups' devices."""
        return f"{self.root}/policy/device_states/"

    def device_state(self, name: DeviceGroupName) -> str:
        """Those of one group."""
        return f"{self.device_states}{name}"

    @property
    def observed(self) -> str:
        """Prefix of what nodes see of devices."""
        return f"{self.root}/policy/observed/"

    def observed_by(self, node: NodeName) -> str:
        """What one node sees."""
        return f"{self.observed}{node}"

    @property
    def staging(self) -> str:
        return f"{self.root}/policy/staging"

    @property
    def staged(self) -> str:
        """Prefix of the parts of sets."""
        return f"{self.root}/policy/staged/"

    @property
    def applying(self) -> str:
        """The set that counts, though its parts are not yet in their places."""
        return f"{self.root}/policy/applying"

    @property
    def audit(self) -> str:
        """Prefix of what all services changed."""
        return f"{self.root}/audit/"

    def audit_change(self, service: str, after: int) -> str:
        """A change that `service` made, the next one after a revision; keys sort by age."""
        return f"{self.audit}{service}/changes/{after:016x}"

    def audit_in_force(self, service: str, revision: int) -> str:
        """Written by `service` when all nodes had applied the change of that revision."""
        return f"{self.audit}{service}/in_force/{revision:016x}"

    def parse_audit(self, key: str) -> AuditKey:
        """Reads what these spelt; raises ValueError."""
        service, what, revision = key.removeprefix(self.audit).split("/")
        return AuditKey(service, int(revision, 16), is_change=what == "changes")
