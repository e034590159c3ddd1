"""Nodes, and one of them with all that is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from romana.ipam.v1 import sync_routes_pb2
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.topology.v1 import node_pb2
from starlette.requests import Request

from services.common.errors import InvalidInput, NotFound, RomanaError
from services.common.rpc.connecting import in_words
from services.common.rpc.kernel_text import (
    Item,
    KernelBesideTold,
    RouteInKernel,
    RuleInKernel,
    routes_beside_told,
    rules_beside_told,
)
from services.common.rpc.message_json import plain
from services.common.rpc.node_addresses import main_addresses
from services.common.rpc.rule_text import enforced
from services.console.api.caller import Looking
from services.console.calls.questions import Questions
from services.console.follow.world import World

InKernel = TypeVar("InKernel", RuleInKernel, RouteInKernel)

PAGE: Final = 100
ROUTES_MOST: Final = 500
RULES_MOST: Final = 500
ADDRESSES_MOST: Final = 500


class NodeViews:
    """`/api/nodes` and `/api/nodes/NAME`."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def listing(self, request: Request, looking: Looking) -> dict[str, Any]:  # noqa: ARG002
        """A page of nodes: those with something to look at first, then by name."""
        text = request.query_params.get("q", "").lower()
        only = request.query_params.get("state", "")
        page = _number(request.query_params.get("page", "0"), "page")
        states = {name: self._state(name) for name in self._world.topology.nodes}
        counts: dict[str, int] = {}
        for state in states.values():
            counts[state] = counts.get(state, 0) + 1
        names = sorted(
            (
                name
                for name, state in states.items()
                if text in name.lower() and only in {"", state}
            ),
            key=lambda name: (states[name] == "current", name),
        )
        shown = names[page * PAGE : (page + 1) * PAGE]
        return {
            "counts": counts,
            "total": len(names),
            "page": page,
            "pages": -(-len(names) // PAGE),
            "nodes": [self._row(self._world.topology.nodes[name], states[name]) for name in shown],
        }

    async def one(self, request: Request, looking: Looking) -> dict[str, Any]:
        """A node."""
        name = request.path_params["node"]
        node = self._world.topology.nodes.get(name)
        if node is None:
            raise NotFound(f"there is no node {name!r}", "NODE_NOT_FOUND")
        questions = Questions(self._world.remote, looking.metadata)
        made: dict[str, Any] = {"node": plain(node), "state": self._state(name), "problems": []}
        try:
            routes = await questions.routes(name)
            made["own_routes"] = [plain(each) for each in routes.own]
            made["remote_routes"] = [plain(each) for each in routes.remote[:ROUTES_MOST]]
            made["remote_route_count"] = len(routes.remote)
            allocations = await questions.node_addresses(name, ADDRESSES_MOST)
            made["addresses"] = [plain(each) for each in allocations]
        except RomanaError as error:
            made["problems"].append(f"ipam: {in_words(error.message)}")
        try:
            found, more = await questions.endpoints(
                policy_api.EndpointFilter(node=name), ADDRESSES_MOST
            )
            made["endpoints"] = [plain(each) for each in found]
            made["more_endpoints"] = more
            rules = [asdict(each) for each in enforced(await questions.node_rules(name))]
            made["rules"] = rules[:RULES_MOST]
            made["rule_count"] = len(rules)
        except RomanaError as error:
            made["problems"].append(f"policy: {in_words(error.message)}")
        routes_status = self._routes(name)
        rules_status = self._rules(name)
        made["routes_status"] = None if routes_status is None else plain(routes_status)
        made["rules_status"] = None if rules_status is None else plain(rules_status)
        made["revision"] = self._world.agents.applied.routes_revision
        made["blocks"] = [
            {
                "network": network,
                "prefix": block.prefix,
                "tenant": block.tenant,
                "segment": block.segment,
                "size": block.where.size,
                "used": block.used,
                "resting": block.resting,
                "stranded": block.stranded,
            }
            for network, blocks in self._world.blocks.networks.items()
            for block in blocks.all()
            if block.node == name
        ]
        return made

    async def kernel_rules(self, request: Request, looking: Looking) -> dict[str, Any]:
        """What the node's kernel has of its rules, which its agent is asked."""
        name = request.path_params["node"]
        questions = Questions(self._world.remote, looking.metadata)
        answer = await questions.kernel_rules(name)
        found = rules_beside_told(await questions.node_rules(name), answer)
        rules = [each for each in _lacking_first(found.items) if each.kernel]
        shown = [asdict(each) for each in rules[:RULES_MOST]]
        return _kernel(found, shown, len(rules), answer.answer_time)

    async def kernel_routes(self, request: Request, looking: Looking) -> dict[str, Any]:
        """What the node's kernel has of its routes, which its agent is asked."""
        name = request.path_params["node"]
        questions = Questions(self._world.remote, looking.metadata)
        answer = await questions.kernel_routes(name)
        found = routes_beside_told(await questions.routes(name), answer)
        routes = [
            {"route": plain(each.route), "kernel": each.kernel, "interface": each.interface}
            for each in _lacking_first(found.items)[:ROUTES_MOST]
        ]
        return _kernel(found, routes, len(found.items), answer.answer_time)

    def _row(self, node: node_pb2.Node, state: str) -> dict[str, Any]:
        routes, rules = self._routes(node.name), self._rules(node.name)
        failures = [*(routes.failures if routes else ()), *(rules.failures if rules else ())]
        return {
            "name": node.name,
            "addresses": main_addresses(node),
            "networks": list(node.networks),
            "groups": sorted({placement.group for placement in node.placements}),
            "state": state,
            "version": routes.agent_version if routes else "",
            "applied": routes.applied.revision if routes else None,
            "failures": [f"{item.resource}: {item.message or item.reason}" for item in failures],
            "heard": routes.update_time.ToJsonString() if routes else "",
        }

    def _state(self, name: str) -> str:
        """current, behind, failing, away (its agent has no stream) or never (it had none yet)."""
        routes, rules = self._routes(name), self._rules(name)
        if routes is None and rules is None:
            return "never"
        if not any(each.connected for each in (routes, rules) if each is not None):
            return "away"
        if (routes is not None and routes.failures) or (rules is not None and rules.failures):
            return "failing"
        if routes is None or not routes.connected:
            return "behind"
        if routes.applied.revision < routes.sent.revision or (
            rules is not None and not rules.current
        ):
            return "behind"
        return "current"

    def _routes(self, name: str) -> sync_routes_pb2.NodeSyncStatus | None:
        return self._world.agents.applied.routes.get(name)

    def _rules(self, name: str) -> policy_api.NodeRealization | None:
        return self._world.agents.applied.rules.get(name)


def _number(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInput.at(field, "is no whole number")
    return int(text)


def _lacking_first(items: Iterable[InKernel]) -> list[InKernel]:
    return sorted(items, key=lambda each: each.kernel == "yes")


def _kernel(
    found: KernelBesideTold[Item], items: list[dict[str, Any]], count: int, answered: Timestamp
) -> dict[str, Any]:
    """What differs, and the first of what is told."""
    return {
        "verdict": found.verdict,
        "agrees": found.agrees,
        "items": items,
        "item_count": count,
        "differences": [asdict(each) for each in found.differences],
        "answered": answered.ToJsonString(),
    }
