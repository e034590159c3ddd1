"""`romana ipam`: the ipam service itself."""

from __future__ import annotations

from datetime import UTC

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from romana.ipam.v1 import ipam_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import Column, fields
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure
from services.ctl.views import enum_text
from services.ctl.views.output import Json

app = group("The ipam service itself: consistency of its store, and which replica is active.")

COLUMNS: tuple[Column[api.Finding], ...] = (
    Column("SEVERITY", lambda item: enum_text.severity(item.severity)),
    Column("REASON", lambda item: item.reason),
    Column("SUBJECT", lambda item: item.subject),
    Column("MESSAGE", lambda item: item.message),
)


@verb(
    app,
    "check",
    examples="""
        romana ipam check
        romana ipam check -o json | jq '.findings[] | select(.severity == "SEVERITY_ERROR")'
    """,
)
async def check(session: Session) -> ExitCode:
    """Reads the whole store again and checks that it is consistent. Exit code 1: it is not."""
    ipam = session.ipam
    last = api.CheckConsistencyResponse()
    findings: list[api.Finding] = []
    with _progress(session) as progress:
        task = progress.add_task("blocks", total=None)
        messages = ipam.stream(
            ipam.stub.CheckConsistency, api.CheckConsistencyRequest(), patient=False
        )
        async for message in messages:
            findings += message.findings
            last = message
            _advance(progress, task, message)
    if not last.done:
        raise Failure(f"{ipam.name} ended the check before it was done", status="UNAVAILABLE")
    bad = any(each.severity == api.SEVERITY_ERROR for each in findings)
    if session.out.for_programs:
        session.out.value(document(last, findings))
    else:
        if findings:
            session.screen.table(findings, COLUMNS, wide=session.out.wide)
            session.out.line()
        session.out.line(summary(last, findings))
    return ExitCode.NEGATIVE if bad else ExitCode.OK


@verb(app, "status", examples="romana ipam status")
async def status(session: Session) -> None:
    """Shows which replica answers, which one is active, and up to which revision."""
    ipam = session.ipam
    answer = await ipam.read(ipam.stub.GetStatus, api.GetStatusRequest())
    if session.out.for_programs:
        session.out.value(plain(answer))
        return
    session.out.sheet(fields(rows(answer)))


def rows(answer: api.GetStatusResponse) -> list[tuple[str, str]]:
    """What a replica says of itself, for people."""
    if answer.revision:
        held = [
            ("Revision", str(answer.revision)),
            ("Addresses", str(answer.addresses)),
            ("Blocks", str(answer.blocks)),
        ]
    else:
        held = [("Revision", "not known: this replica has not read the store")]
    return [
        ("Replica", answer.replica),
        ("Active", "yes" if answer.active else "no"),
        ("Active address", answer.active_address or "none is active"),
        ("Version", answer.version),
        ("Epoch", answer.epoch),
        *held,
        *(("Will be released", _release(item)) for item in answer.releases),
        *(("Cannot be read", key) for key in answer.unreadable),
    ]


def document(last: api.CheckConsistencyResponse, findings: list[api.Finding]) -> dict[str, Json]:
    """The whole check as one object: the last message, with the findings of all."""
    whole = api.CheckConsistencyResponse()
    whole.CopyFrom(last)
    del whole.findings[:]
    whole.findings.extend(findings)
    return plain(whole)


def summary(last: api.CheckConsistencyResponse, findings: list[api.Finding]) -> str:
    """What was checked and what was found, in a sentence."""
    errors = sum(each.severity == api.SEVERITY_ERROR for each in findings)
    checked = (
        f"{count(last.blocks, 'block')} and {count(last.addresses, 'address')} "
        f"checked at revision {last.revision}"
    )
    if not findings:
        return f"{checked}: consistent."
    return f"{checked}: {count(errors, 'error')}, {count(len(findings) - errors, 'warning')}."


def _release(item: api.NodeRelease) -> str:
    what = f"{count(item.addresses, 'address')} of node {item.node}, which is gone"
    if item.asked:
        return what
    due = item.due_time.ToDatetime(UTC).strftime("%H:%M:%S UTC")
    return f"{what}: at {due}, unless it is registered again"


def _progress(session: Session) -> Progress:
    console = session.screen.err
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _advance(progress: Progress, task: TaskID, message: api.CheckConsistencyResponse) -> None:
    progress.update(task, completed=message.blocks, total=message.total_blocks or None)
