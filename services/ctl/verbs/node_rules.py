"""What a node is told to enforce, what its agent has applied, and what its kernel has of it."""

from __future__ import annotations

from romana.policy.v1 import policy_service_pb2 as api

from services.common.rpc.kernel_text import RuleInKernel, rules_beside_told
from services.common.rpc.rule_text import EnforcedRule, enforced
from services.common.terminal.table import Column
from services.ctl.calls import by_address, options
from services.ctl.calls.session import Session
from services.ctl.calls.told import beside, document, show_kernel, show_told
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.views.output import Format

EXAMPLES = """
    romana node rules n1
    romana node rules n1 --kernel
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
IN_KERNEL: tuple[Column[RuleInKernel], ...] = (
    *beside(COLUMNS, lambda item: item.rule),
    Column("KERNEL", lambda item: item.kernel or "-"),
    Column("PACKETS", lambda item: str(item.packets) if item.kernel else "-", right=True),
)


async def rules(
    session: Session, name: options.NodeArgument, kernel: options.KernelOption = False
) -> ExitCode:
    """Shows the rules that a node is told to enforce, and whether its agent has applied them.

    With --kernel its agent is asked what its kernel has of them; exit code 1: something else.
    """
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
    answer = found = None
    if kernel:
        answer = await policy.once(policy.stub.GetKernelRules, api.GetKernelRulesRequest(node=name))
        found = rules_beside_told(told.items, answer)
    if out.for_programs:
        out.value(document(name, {"resources": told.items}, applied, answer, found))
    elif out.form is Format.NAME:
        for resource in told.items:
            out.line(resource.id)
    elif found is not None:
        show_kernel(out, found, IN_KERNEL)
    else:
        show_told(
            out,
            list(enforced(told.items)),
            COLUMNS,
            applied,
            is_current=applied is not None and applied.current,
            does="enforces",
            empty="No policy is for it or its endpoints.",
        )
    return ExitCode.OK if found is None or found.agrees else ExitCode.NEGATIVE
