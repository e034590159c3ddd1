"""`romana audit`: who changed what."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer
from romana.audit.v1 import audit_service_pb2 as api
from typer.core import TyperGroup

from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import drawn, fields
from services.ctl.calls import completion, options
from services.ctl.calls.session import Session
from services.ctl.calls.verb import SETTINGS, verb
from services.ctl.failures.failure import usage
from services.ctl.views import audit_view, enum_text
from services.ctl.views.audit_view import KINDS
from services.ctl.views.output import Format

FOLLOW_SECONDS: Final = 1.0
LISTED: Final = 50
_AGO: Final = re.compile(r"(\d+)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Kind(StrEnum):
    """What `--kind` takes."""

    TOPOLOGY = "topology"
    NODE = "node"
    RESERVATION = "reservation"
    ADDRESS = "address"
    POLICY = "policy"
    TENANT = "tenant"
    DEVICE_GROUP = "device_group"


class _Listing(TyperGroup):
    """Without a verb it is `list`."""

    def parse_args(  # type: ignore[no-untyped-def]  # click's own signature is private to typer
        self, ctx, args
    ):
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Listing,
    help="Who changed what, and when all nodes had it. Without a verb: list.",
    rich_markup_mode=None,
    context_settings=SETTINGS,
    add_completion=False,
)

RevisionArgument = Annotated[
    int,
    typer.Argument(
        metavar="REVISION",
        min=1,
        help="Of the change, as `romana audit` says.",
        autocompletion=completion.changes,
    ),
]


@verb(
    app,
    "list",
    examples="""
        romana audit
        romana audit --since 2h --kind node
        romana audit --object n1 --who alice -o wide
        romana audit --follow
    """,
)
async def list_changes(
    session: Session,
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="Only since then: 90s, 30m, 2h, 7d, or ISO 8601 in UTC."),
    ] = "",
    who: Annotated[
        str, typer.Option(metavar="TEXT", help="Only by those whose identity has this in it.")
    ] = "",
    kind: Annotated[
        list[Kind], typer.Option("--kind", help="Only of such objects; repeat for several.")
    ] = [],  # noqa: B006  # typer reads it, nobody writes to it
    object_name: Annotated[
        str, typer.Option("--object", metavar="NAME", help="Only of objects of this name.")
    ] = "",
    limit: options.LimitOption = LISTED,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new changes.")] = False,
) -> None:
    """Lists changes, the newest last. At most 50, unless --limit says otherwise."""
    request = api.ListChangesRequest(
        identity=who, kinds=[KINDS[each] for each in kind], object=object_name
    )
    if since:
        request.since.FromSeconds(int(_moment(since)))
    audit = session.audit
    listed = await audit.every(
        audit.stub.ListChanges, request, lambda page: page.changes, limit=limit
    )
    shown = list(reversed(listed.items))
    if not follow:
        session.out.listing(
            shown,
            audit_view.COLUMNS,
            document=plain,
            name=lambda item: str(item.revision),
            empty="no such change is kept",
        )
        if listed.more:
            session.note(f"there are more than {len(shown)}: --limit 0 shows all that are kept")
        return
    _show(session, shown, first=True)
    request.page_token = ""
    if shown:
        request.after_revision = shown[-1].revision
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        news = await audit.every(audit.stub.ListChanges, request, lambda page: page.changes)
        _show(session, list(reversed(news.items)), first=False)
        if news.items:
            request.after_revision = news.items[0].revision


def _show(session: Session, changes: list[api.Change], *, first: bool) -> None:
    out = session.out
    if out.for_programs:
        for each in changes:
            out.event(plain(each))
    elif out.form is Format.NAME:
        for each in changes:
            out.line(str(each.revision))
    elif changes:
        table = drawn(changes, audit_view.COLUMNS, wide=out.wide)
        table.show_header = first
        out.sheet(table)


@verb(
    app,
    "show",
    examples="""
        romana audit show 4711
        romana audit show 4711 -o json        with the objects before and after
    """,
)
async def show(session: Session, revision: RevisionArgument) -> None:
    """Shows a change, with what is different since then."""
    change = await get(session, revision)
    out = session.out
    if out.for_programs:
        out.value(plain(change))
        return
    if out.form is Format.NAME:
        out.line(str(change.revision))
        return
    out.sheet(
        fields(
            [
                ("Revision", str(change.revision)),
                ("Time", enum_text.moment(change.create_time)),
                ("Who", audit_view.who(change)),
                ("Request", change.request_id),
                ("Service", change.service),
                ("In force after", audit_view.in_force(change) or "not noted"),
                ("Objects", count(change.object_count, "object")),
            ]
        )
    )
    for item in change.objects:
        out.line()
        out.line(f"{audit_view.noun(item)} {audit_view.action(item)}")
        found = audit_view.differences(item.before, item.after)
        if found:
            session.screen.table(found, audit_view.DIFFERENCES, wide=True)
    if change.is_cut:
        session.note("What the objects were was too large to be kept")


async def get(session: Session, revision: int) -> api.Change:
    """A change; raises Failure."""
    audit = session.audit
    answer = await audit.read(audit.stub.GetChange, api.GetChangeRequest(revision=revision))
    return answer.change


def _moment(text: str) -> float:
    """The time that is meant, in seconds since 1970; raises Failure."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        raise usage(f"--since {text}: is no time, such as 30m or 2026-11-27T09:00:00Z") from None
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
