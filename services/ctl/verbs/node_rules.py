"""What a node is told to enforce, and whether its agent has applied it."""

from __future__ import annotations

from romana.policy.v1 import policy_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.rpc.rule_text import EnforcedRule, enforced
from services.common.terminal.table import Column
from services.ctl.calls import agents, by_address, options
from services.ctl.calls.session import Session
from services.ctl.views.output import Format, Output

EXAMPLES = """
    romana node rules n1
    romana node rules n1 -o json
"""
COLUMNS: tuple[Column[EnforcedRule], ...] = (
    Column("FOR", lambda item: item.subject),
    Column("DIRECTION", lambda item: item.direction),
    Column("TIER", lambda item: item.tier or "-"),
    Column("POLICY", lambda item: item.policy or "none"),
    Column("RULE", lambda item: item.rule or "-", right=True),
    Column("ACTION", lambda item: item.action or "-"),
    Column("PEERS", lambda item: item.peers or "-"),
    Column("PORTS", lambda item: item.ports or "-"),
)


async def rules(session: Session, name: options.NodeArgument) -> None:
    """Shows the rules that a node is told to enforce, and whether its agent has applied them."""
    policy = session.policy
    name = await by_address.node_name(session, name)
    told = await policy.every(
        policy.stub.GetNodeRules,
        api.GetNodeRulesRequest(node=name),
        lambda page: page.resources,
    )
    known = await policy.read(
        policy.stub.GetRealization, api.GetRealizationRequest(nodes=[name], nodes_only=True)
    )
    applied = next(iter(known.nodes), None)
    out = session.out
    if out.for_programs:
        out.value(
            {
                "node": name,
                "resources": [plain(each) for each in told.items],
                "agent": plain(applied) if applied else None,
            }
        )
    elif out.form is Format.NAME:
        for resource in told.items:
            out.line(resource.id)
    else:
        _show(out, list(enforced(told.items)), applied)


def _show(out: Output, found: list[EnforcedRule], applied: api.NodeRealization | None) -> None:
    out.line(_state(applied))
    out.line()
    if applied is not None and applied.failures:
        out.screen.table(applied.failures, agents.FAILURES, wide=out.wide)
        out.line()
    if found:
        out.screen.table(found, COLUMNS, wide=out.wide)
    else:
        out.line("No policy is for it or its endpoints.")


def _state(applied: api.NodeRealization | None) -> str:
    if applied is None:
        return "Its agent has not been seen."
    if not applied.connected:
        return "Its agent has no stream: it enforces what it was told last."
    if applied.failures:
        return "Its agent has applied what follows, but for:"
    if not applied.current:
        return "Its agent has not applied all of this yet."
    return "Its agent has applied all of this."
