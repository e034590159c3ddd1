"""Evaluates many nodes, or groups, in pieces, between which allocations go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.errors import InvalidInput
from services.common.model.names import NodeName
from services.common.process.turns import Turns
from services.ipam.api import messages_in, messages_out
from services.ipam.api.held_rooms_kept import HeldRoomsKept
from services.ipam.deciding.evaluate import Agents, Evaluating, Evaluation, best_first
from services.ipam.deciding.evaluate_groups import GroupEvaluating
from services.ipam.store.replica import Replica

NODES_MOST: Final = 10_000
"""Names in one request."""


async def evaluate(
    replica: Replica, turns: Turns, request: pb.EvaluateNodesRequest, agents: Agents
) -> pb.EvaluateNodesResponse:
    """The answer to a request; a node is as it was when its piece was at work."""
    tenant, segment = messages_in.parse_owner(request.tenant, request.segment)
    specs = messages_in.parse_node_evaluation(request)
    evaluating = Evaluating(tenant, segment, specs, agents)
    several = bool(request.addresses)
    if len(request.nodes) > NODES_MOST:
        problem = f"has {len(request.nodes)}, at most {NODES_MOST} are allowed"
        raise InvalidInput.at("nodes", problem)
    found = await _look(replica, turns, evaluating, request.nodes)
    answer = pb.EvaluateNodesResponse()
    left = iter(found[: request.limit or None])
    item = next(left, None)
    while item is not None:
        async with turns.piece() as piece:
            while item is not None and not piece.is_over:
                answer.evaluations.append(messages_out.evaluation(item, several=several))
                item = next(left, None)
    return answer


async def evaluate_groups(
    replica: Replica, turns: Turns, kept: HeldRoomsKept, request: pb.EvaluateGroupsRequest
) -> pb.EvaluateGroupsResponse:
    """The answer to a request; a group is as it was when its piece was at work."""
    tenant, segment = messages_in.parse_owner(request.tenant, request.segment)
    spec = messages_in.parse_group_evaluation(request)
    evaluating = GroupEvaluating(tenant, segment, spec)
    left = iter(evaluating.begin(await replica.committed()))
    place = next(left, None)
    while place is not None:
        async with turns.piece() as piece:
            ledger, now = await replica.committed(), replica.now()
            piece.begin()
            while place is not None and not piece.is_over:
                evaluating.look(ledger, place, now)
                place = next(left, None)
    answer = messages_out.rooms(evaluating.rooms)
    if spec.address is None:
        held = await kept.ask(tenant, segment, evaluating.networks, request.known_state)
        messages_out.add_held(answer, held)
    return answer


async def _look(
    replica: Replica, turns: Turns, evaluating: Evaluating, nodes: Sequence[str]
) -> list[Evaluation]:
    """Evaluates the nodes that are asked for (none: all), best first."""
    ledger = await replica.committed()
    names = list(dict.fromkeys(map(NodeName, nodes))) if nodes else list(ledger.nodes)
    found: list[Evaluation] = []
    at = 0
    while at < len(names):
        async with turns.piece() as piece:
            ledger, now = await replica.committed(), replica.now()
            piece.begin()
            while at < len(names) and not piece.is_over:
                if nodes or names[at] in ledger.nodes:  # it may have gone since
                    found.append(evaluating.look(ledger, names[at], now))
                at += 1
    best_first(found)
    return found
