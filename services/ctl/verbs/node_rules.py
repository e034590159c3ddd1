"""What a node is told to enforce, what its agent has applied, and what its kernel has of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.text import Text
from romana.policy.v1 import policy_service_pb2 as api

from services.common.rpc.kernel_text import (
    Differing,
    Item,
    KernelBesideTold,
    RuleInKernel,
    rules_beside_told,
)
from services.common.rpc.message_json import plain
from services.common.rpc.rule_text import EnforcedRule, enforced
from services.common.terminal.table import Column
from services.ctl.calls import agents, by_address, options
from services.ctl.calls.session import Session
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.views.output import Format, Output

EXAMPLES = """
    romana node rules n1
    romana node rules n1 --kernel
    romana node rules n1 -o json
"""


def _of_rule(
    text: Callable[[EnforcedRule], str | Text],
) -> Callable[[RuleInKernel], str | Text]:
    return lambda item: text(item.rule)


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
    *(Column(each.title, _of_rule(each.text), right=each.right) for each in COLUMNS),
    Column("KERNEL", lambda item: item.kernel or "-"),
    Column("PACKETS", lambda item: str(item.packets) if item.kernel else "-", right=True),
)
DIFFERENCES: tuple[Column[Differing], ...] = (
    Column("DIFFERENCE", lambda item: item.how),
    Column("WHAT", lambda item: item.what),
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
        out.value(
            {
                "node": name,
                "resources": [plain(each) for each in told.items],
                "agent": plain(applied) if applied else None,
                **({"kernel": plain(answer)} if answer else {}),
                **({"differences": [asdict(one) for one in found.differences]} if found else {}),
            }
        )
    elif out.form is Format.NAME:
        for resource in told.items:
            out.line(resource.id)
    elif found is not None:
        show_kernel(out, found, IN_KERNEL)
    else:
        _show(out, list(enforced(told.items)), applied)
    return ExitCode.OK if found is None or found.agrees else ExitCode.NEGATIVE


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


def show_kernel(
    out: Output, found: KernelBesideTold[Item], columns: Sequence[Column[Item]]
) -> None:
    """The verdict, what differs, and what is told, with what the kernel has of it."""
    out.line(found.verdict)
    if found.differences:
        out.line()
        out.screen.table(found.differences, DIFFERENCES, wide=out.wide)
    if found.items:
        out.line()
        out.screen.table(found.items, columns, wide=out.wide)


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
