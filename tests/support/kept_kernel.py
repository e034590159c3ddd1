"""The kernel of an agent that has none: what it would have made of what it took."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from romana.ipam.v1 import sync_routes_pb2 as routes_pb
from romana.policy.v1 import sync_rules_pb2 as pb

from services.agent.kernel.nftables.table import Found, Image
from services.agent.routing import in_kernel as routing
from services.agent.routing import messages
from services.agent.rules.compose import Composer, LocalInterface
from services.agent.rules.in_kernel import InKernel, compare
from services.agent.rules.messages import kernel_parts, parse_resource
from services.agent.streams.answering import Difference, Kind, answering
from services.common.model.failsafe import Failsafe
from services.common.model.names import NetworkName, NodeName
from services.common.model.rules import EndpointRules
from services.common.sync.stream_client import Answering


class KeptTable:
    """Answers for an agent; somebody may take a rule away."""

    def __init__(self) -> None:
        self.held: Mapping[str, pb.RuleResource] = {}
        """What the agent has taken."""
        self.lost = ""
        """Note of rules that somebody has taken away."""

    async def look(self) -> InKernel:
        composer = Composer(Failsafe(), None)
        taken = {name: parse_resource(item.SerializeToString()) for name, item in self.held.items()}
        found = {name: one for name, one in taken.items() if name.split("/")[0] != "wanted"}
        composer.update(found, ())  # type: ignore[arg-type]  # nothing else is left
        for number, one in enumerate(found.values()):
            if isinstance(one, EndpointRules):
                local = LocalInterface(f"rom{number}", one.addresses, instance=one.instance)
                composer.put_local(one.name, local)
        composer.refresh()
        image = composer.image()
        return compare(image, composer.counters, self._made(image), {})

    def _made(self, image: Image) -> Found:
        return Found(
            {
                name: (
                    chain.base,
                    tuple(
                        rule.tag for rule in chain.rules if rule.note != self.lost or not rule.note
                    ),
                )
                for name, chain in image.chains.items()
            },
            image.sets,
            frozenset(image.counters),
            {name: image.elements.get(name, {}) for name in image.sets},
        )

    @property
    def answering(self) -> Answering:
        return answering(
            self.look, kernel_parts, pb.KernelRules, lambda part: pb.SyncRulesRequest(kernel=part)
        )


class KeptRoutes:
    """Answers for an agent; somebody may take a route away."""

    def __init__(self) -> None:
        self.held: Mapping[str, routes_pb.RouteResource] = {}
        """What the agent has taken."""
        self.lost = ""
        """A prefix that somebody has taken away."""

    async def look(self) -> routing.InKernel:
        held = self.held
        prefixes = [one.route for one in held.values() if one.HasField("route")]
        lost = [one for one in prefixes if one.prefix == self.lost]
        return routing.InKernel(
            tuple(
                routing.RouteThere(
                    NetworkName(one.network),
                    ipaddress.ip_network(one.prefix),
                    NodeName(one.node),
                    kept=True,
                    there=one not in lost,
                    next_hop=ipaddress.ip_address(
                        held[f"peer/{one.network}/{one.node}"].peer.address
                    ),
                    interface="eth0",
                )
                for one in prefixes
            ),
            tuple(
                Difference(Kind.MISSING, f"route {one.prefix} of network {one.network}")
                for one in lost
            ),
        )

    @property
    def answering(self) -> Answering:
        return answering(
            self.look,
            messages.kernel_parts,
            routes_pb.KernelRoutes,
            lambda part: routes_pb.SyncRoutesRequest(kernel=part),
        )
