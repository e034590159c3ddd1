"""What a node is told, what its agent says of it, and what its kernel has of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from google.protobuf.message import Message
from rich.text import Text
from romana.ipam.v1 import sync_routes_pb2
from romana.policy.v1 import policy_service_pb2

from services.common.rpc.kernel_text import Differing, Item, KernelBesideTold
from services.common.rpc.message_json import plain
from services.common.terminal.table import Column
from services.ctl.calls import agents
from services.ctl.views.output import Output

Told = TypeVar("Told")

DIFFERENCES: tuple[Column[Differing], ...] = (
    Column("DIFFERENCE", lambda item: item.how),
    Column("WHAT", lambda item: item.what),
)


def beside(columns: Sequence[Column[Told]], of: Callable[[Item], Told]) -> tuple[Column[Item], ...]:
    """The columns of what is told, for what the kernel has of it."""

    def text(column: Column[Told]) -> Callable[[Item], str | Text]:
        return lambda item: column.text(of(item))

    return tuple(Column(each.title, text(each), right=each.right) for each in columns)


def document(
    node: str,
    told: Mapping[str, Sequence[Message]],
    applied: Message | None,
    answer: Message | None,
    found: KernelBesideTold[Any] | None,
) -> dict[str, Any]:
    """For programs."""
    return {
        "node": node,
        **{key: [plain(each) for each in items] for key, items in told.items()},
        "agent": plain(applied) if applied else None,
        **({"kernel": plain(answer)} if answer else {}),
        **({"differences": [asdict(one) for one in found.differences]} if found else {}),
    }


def show_told(
    out: Output,
    items: Sequence[Told],
    columns: Sequence[Column[Told]],
    applied: sync_routes_pb2.NodeSyncStatus | policy_service_pb2.NodeRealization | None,
    *,
    is_current: bool,
    does: str,
    empty: str,
) -> None:
    """What its agent says, and what it is told.

    Args:
        out: Where to.
        items: What it is told.
        columns: Of these.
        applied: What its agent has said; None: nothing ever.
        is_current: It has applied all there is.
        does: What an agent without a stream does, before "what it was told last".
        empty: What to say if it is told nothing.
    """
    failures = applied.failures if applied is not None else ()
    if applied is None:
        out.line("Its agent has not been seen.")
    elif not applied.connected:
        out.line(f"Its agent has no stream: it {does} what it was told last.")
    elif failures:
        out.line("Its agent has applied what follows, but for:")
    elif not is_current:
        out.line("Its agent has not applied all of this yet.")
    else:
        out.line("Its agent has applied all of this.")
    out.line()
    if failures:
        out.screen.table(failures, agents.FAILURES, wide=out.wide)
        out.line()
    if items:
        out.screen.table(items, columns, wide=out.wide)
    else:
        out.line(empty)


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
