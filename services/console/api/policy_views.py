"""Who reaches whom, why, and what is denied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from romana.policy.v1 import policy_pb2
from romana.policy.v1 import policy_service_pb2 as api
from starlette.requests import Request

from services.common.errors import InvalidInput, NotFound
from services.common.rpc.message_json import plain
from services.console.api.caller import Looking
from services.console.calls.example import example
from services.console.calls.prometheus import Prometheus
from services.console.calls.questions import ENDPOINTS_MOST, Questions
from services.console.follow.world import World

LISTED: Final = 1000
"""Endpoints of which all owners are taken; of more, those that hold blocks."""
OWNERS_MOST: Final = 40
EACH_MOST: Final = 5
"""Endpoints that stand for an owner."""
PORT_MOST: Final = 65535

_ACTIONS: Final[Mapping[int, str]] = {
    policy_pb2.RULE_ACTION_ALLOW: "allow",
    policy_pb2.RULE_ACTION_DENY: "deny",
    policy_pb2.RULE_ACTION_PASS: "pass",
}


class PolicyViews:
    """`/api/matrix`, `/api/explain`, `/api/endpoints`, `/api/denied` and `/api/example`."""

    def __init__(self, world: World, prometheus: Prometheus | None) -> None:
        self._world = world
        self._prometheus = prometheus

    async def matrix(self, request: Request, looking: Looking) -> dict[str, Any]:
        """By endpoint, if a tenant is said on either side; else by tenant and segment."""
        query = request.query_params
        questions = Questions(self._world.remote, looking.metadata)
        protocol, port = query.get("protocol", ""), _port(query.get("port", ""))
        if not (query.get("tenant") or query.get("to_tenant")):
            return await self._by_owner(questions, protocol, port)
        sources = api.EndpointFilter(
            tenant=query.get("tenant", ""), segment=query.get("segment", "")
        )
        destinations = api.EndpointFilter(
            tenant=query.get("to_tenant", ""), segment=query.get("to_segment", "")
        )
        names = await _names(questions, sources)
        to_names = await _names(questions, destinations)
        answer = (
            await questions.matrix(
                api.EndpointFilter(names=names[0]),
                api.EndpointFilter(names=to_names[0]),
                protocol,
                port,
            )
            if names[0] and to_names[0]
            else api.GetMatrixResponse()
        )
        return {
            "by": "endpoint",
            "columns": list(answer.destinations),
            "rows": [
                {"name": row.source, "cells": [_ACTIONS.get(one, "none") for one in row.actions]}
                for row in answer.rows
            ],
            "more": names[1] or to_names[1],
            "unrealized_nodes": list(answer.unrealized_nodes),
        }

    async def explain(self, request: Request, looking: Looking) -> dict[str, Any]:
        """What becomes of a connection."""
        query = request.query_params
        source, destination = query.get("source", ""), query.get("destination", "")
        if not source or not destination:
            raise InvalidInput.at("source", "say a source and a destination")
        answer = await Questions(self._world.remote, looking.metadata).explain(
            source, destination, query.get("protocol", ""), _port(query.get("port", ""))
        )
        return plain(answer)

    async def denied(self, request: Request, looking: Looking) -> dict[str, Any]:  # noqa: ARG002
        """Rules that deny, by how often they decide."""
        if self._prometheus is None:
            return {"known": False, "rules": []}
        rates = await self._prometheus.rates()
        found = []
        for rate in rates:
            policy = self._world.policies.policies.get(rate.policy)
            if _denies(policy, rate.direction, rate.rule):
                found.append({**asdict(rate), "is_known": policy is not None})
        return {"known": True, "rules": found}

    async def example(self, request: Request, looking: Looking) -> dict[str, Any]:
        """A connection of the kind that a rule decides, as far as the rule says."""
        query = request.query_params
        policy = self._world.policies.policies.get(query.get("policy", ""))
        if policy is None:
            raise NotFound(f"there is no policy {query.get('policy', '')!r}", "POLICY_NOT_FOUND")
        direction = query.get("direction", "")
        rule = _rule(policy, direction, query.get("rule", ""))
        networks = {each.name: each for each in self._world.topology.spec.networks}
        questions = Questions(self._world.remote, looking.metadata)
        return asdict(await example(questions, policy, direction, rule, networks))

    async def _by_owner(self, questions: Questions, protocol: str, port: int) -> dict[str, Any]:
        samples, counts, complete = await self._samples(questions)
        names = [name for each in samples.values() for name in each]
        owners = list(samples)
        if not names:
            return {"by": "owner", "owners": [], "rows": [], "more": False, "unrealized_nodes": []}
        wanted = api.EndpointFilter(names=names)
        answer = await questions.matrix(wanted, wanted, protocol, port)
        place = {name: number for number, name in enumerate(answer.destinations)}
        actions = {row.source: row.actions for row in answer.rows}
        rows = [
            [_cell(samples[source], samples[to], actions, place) for to in owners]
            for source in owners
        ]
        return {
            "by": "owner",
            "owners": [
                {
                    "tenant": tenant,
                    "segment": segment,
                    "asked": len(samples[tenant, segment]),
                    "endpoints": counts[tenant, segment] if complete else None,
                }
                for tenant, segment in owners
            ],
            "rows": rows,
            "more": not complete,
            "unrealized_nodes": list(answer.unrealized_nodes),
        }

    async def _samples(
        self, questions: Questions
    ) -> tuple[dict[tuple[str, str], list[str]], dict[tuple[str, str], int], bool]:
        """Endpoints that stand for owners: of each so many with other labels first."""
        listed, more = await questions.endpoints(api.EndpointFilter(), LISTED)
        owners = {(each.tenant, each.segment) for each in listed if each.addresses}
        if more:
            owners |= {
                (block.tenant, block.segment)
                for blocks in self._world.blocks.networks.values()
                for block in blocks.all()
            }
        chosen = sorted(owners)[:OWNERS_MOST]
        most = max(1, min(EACH_MOST, ENDPOINTS_MOST // max(1, len(chosen))))
        samples: dict[tuple[str, str], list[str]] = {}
        counts: dict[tuple[str, str], int] = {}
        for tenant, segment in chosen:
            found = [each for each in listed if (each.tenant, each.segment) == (tenant, segment)]
            if more and len(found) < most:
                wanted = api.EndpointFilter(tenant=tenant, segment=segment)
                found, _ = await questions.endpoints(wanted, most)
            attached = [each for each in found if each.addresses]
            counts[tenant, segment] = len(attached)
            by_labels = {str(sorted(each.labels.items())): each.name for each in reversed(attached)}
            names = list(dict.fromkeys([*by_labels.values(), *(each.name for each in attached)]))
            if names:
                samples[tenant, segment] = names[:most]
        return samples, counts, not more and len(owners) <= OWNERS_MOST


def _cell(
    sources: Sequence[str],
    destinations: Sequence[str],
    actions: Mapping[str, Sequence[int]],
    place: Mapping[str, int],
) -> list[int]:
    """How many pairs are allowed, of how many."""
    verdicts = [
        actions[source][place[to]]
        for source in sources
        for to in destinations
        if source != to and source in actions and to in place
    ]
    known = [one for one in verdicts if one in _ACTIONS]
    return [known.count(policy_pb2.RULE_ACTION_ALLOW), len(known)]


async def _names(questions: Questions, wanted: api.EndpointFilter) -> tuple[list[str], bool]:
    """Of the first attached endpoints, and whether there are more."""
    found, more = await questions.endpoints(wanted, ENDPOINTS_MOST)
    return [each.name for each in found if each.addresses], more


def _denies(policy: policy_pb2.Policy | None, direction: str, rule: str) -> bool:
    """What no rule of a policy matched is denied; of a rule, what it says."""
    if policy is None:
        return rule == "default"
    if not rule.isdigit():
        return True
    found = _rule(policy, direction, rule)
    return found is not None and found.action == policy_pb2.RULE_ACTION_DENY


def _rule(policy: policy_pb2.Policy, direction: str, rule: str) -> policy_pb2.Rule | None:
    """The rule that a counter is of; None: it is of what no rule matched, or there is none."""
    rules = policy.ingress if direction == "ingress" else policy.egress
    by_number = {str(number): each for number, each in enumerate(rules)}
    return by_number.get(rule)


def _port(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= PORT_MOST):
        raise InvalidInput.at("port", f"is no number from 0 to {PORT_MOST}")
    return int(text)
