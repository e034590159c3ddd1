"""`romana undo`: makes what a change changed be as it was, after showing what that means.

The way back is an ordinary change, by the same calls that anybody makes, and is recorded as one. It
is decided here and not in a service, since a change's objects may be of any of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from romana.audit.v1 import audit_service_pb2 as api

from services.common.audit.documents import document, said
from services.common.terminal.plural import count
from services.ctl.calls import options
from services.ctl.calls.session import Session
from services.ctl.calls.verb import single, verb
from services.ctl.calls.waiting import named
from services.ctl.failures.failure import Failure
from services.ctl.verbs.audit import RevisionArgument, get
from services.ctl.verbs.undo_topology import TopologyBack
from services.ctl.verbs.undo_ways import WAYS, Way
from services.ctl.views import audit_view

app = single()

LATER_MOST: Final = 1000
"""Changes among which those are looked for that came later."""


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one object."""

    item: api.ObjectChange
    way: Way[Any]
    now: Message | None
    wanted: Message | None

    @property
    def is_done(self) -> bool:
        return _text(self.now) == _text(self.wanted)

    @property
    def mark(self) -> str:
        """As plans have it."""
        if self.now is None:
            return "+"
        return "-" if self.wanted is None else "~"

    @property
    def verb(self) -> str:
        if self.now is None:
            return "is created again"
        return "is removed" if self.wanted is None else "is as before"


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of all objects of a change."""

    steps: Sequence[Step]
    topology: TopologyBack | None

    @property
    def to_do(self) -> Sequence[Step]:
        return [step for step in self.steps if not step.is_done]

    @property
    def topology_to_do(self) -> TopologyBack | None:
        return None if self.topology is None or self.topology.is_done else self.topology

    @property
    def count(self) -> int:
        return len(self.to_do) + (self.topology_to_do is not None)

    @property
    def is_empty(self) -> bool:
        return not self.count


@verb(
    app,
    "undo",
    mutates=True,
    examples="""
        romana undo 4711 --dry-run        what it would do
        romana undo 4711
        romana undo 4711 --force          although later changes touched the same
    """,
)
async def undo(
    session: Session,
    revision: RevisionArgument,
    dry_run: options.DryRunOption = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where later changes touched the same: these are lost."),
    ] = False,
) -> None:
    """Makes what a change changed be as it was before it. Shows the plan first.

    For topology, nodes, reservations, policies, tenants and groups of devices. It is refused where
    later changes touched the same objects, and nothing is done if something changes after the plan
    was made.
    """
    change = await get(session, revision)
    if change.is_cut or len(change.objects) < change.object_count:
        raise _refusal(
            "NOT_KEPT", f"change {revision} was too large for its objects to be kept", change
        )
    plan = await _plan(session, change)
    if not force:
        await _refuse_touched(session, change, plan)
    if plan.is_empty:
        session.note("Nothing is to change: all of it is as it was before")
        return
    if not session.out.for_programs:
        _show(session, plan)
    if not dry_run:
        topology = plan.topology
        session.require(
            (topology and topology.danger) or f"Change {count(plan.count, 'object')} back?"
        )
        await _carry_out(session, plan)
    if session.out.for_programs:
        session.out.value(_plain(plan))


async def _plan(session: Session, change: api.Change) -> Plan:
    topology: TopologyBack | None = None
    steps: list[Step] = []
    for item in change.objects:
        if item.kind != api.OBJECT_KIND_TOPOLOGY:
            steps.append(await _step(session, change, item))
            continue
        if not item.before:
            raise _refusal("NOT_UNDONE", "there was no topology before", change)
        topology = await TopologyBack.look(session, item)
    return Plan(steps, topology)


async def _step(session: Session, change: api.Change, item: api.ObjectChange) -> Step:
    kind = WAYS.get(item.kind)
    if kind is None:
        raise _refusal("NOT_UNDONE", f"{audit_view.noun(item)} cannot be changed back", change)
    if item.action != api.OBJECT_ACTION_CREATED and not item.before:
        raise _refusal("NOT_KEPT", f"what {audit_view.noun(item)} was is not known", change)
    way = kind(session)
    return Step(item, way, await way.look(item.name), _read(way, item.before))


def _is_untouched(step: Step) -> bool:
    """Nobody changed the object since."""
    return step.is_done or _text(step.now) == _text(_read(step.way, step.item.after))


async def _refuse_touched(session: Session, change: api.Change, plan: Plan) -> None:
    """Raises Failure that names the later changes of the same objects."""
    touched = [step.item for step in plan.steps if not _is_untouched(step)]
    if plan.topology is not None and not plan.topology.is_untouched:
        touched.insert(0, plan.topology.item)
    if not touched:
        return
    audit = session.audit
    request = api.ListChangesRequest(
        kinds=[touched[0].kind], object=touched[0].name, after_revision=change.revision
    )
    later = await audit.every(
        audit.stub.ListChanges, request, lambda page: page.changes, limit=LATER_MOST
    )
    revisions = [str(one.revision) for one in reversed(later.items)]
    by = f", by {named(revisions)}" if revisions else ""
    nouns = [audit_view.noun(one) for one in touched]
    raise _refusal(
        "CHANGED_SINCE",
        f"{named(nouns)} changed after {change.revision}{by}: what came later would be lost",
        change,
        "undo the later ones first, or give --force",
    )


async def _carry_out(session: Session, plan: Plan) -> None:
    """What is removed goes first: nothing of it is then in the topology's way. What needs groups
    that are there again comes last."""
    done: list[str] = []
    topology = plan.topology_to_do
    try:
        for step in plan.to_do:
            if step.wanted is None:
                await step.way.remove(step.now)
                _tell(session, done, f"{audit_view.noun(step.item)} {step.verb}")
        if topology is not None:
            await topology.carry_out(session)
            _tell(session, done, "topology is as before")
        for step in plan.to_do:
            if step.wanted is not None:
                # the topology's way back may have placed nodes anew, which is another etag
                now = step.now if topology is None else await step.way.look(step.item.name)
                await step.way.put(step.wanted, now)
                _tell(session, done, f"{audit_view.noun(step.item)} {step.verb}")
    except Failure:
        if done:
            session.note(f"Done so far: {'; '.join(done)}. The rest is as it was")
        raise


def _tell(session: Session, done: list[str], what: str) -> None:
    done.append(what)
    if not session.out.for_programs:
        session.note(what)


def _show(session: Session, plan: Plan) -> None:
    if plan.topology_to_do is not None:
        plan.topology_to_do.show(session)
    for step in plan.to_do:
        session.out.line(f"{step.mark} {audit_view.noun(step.item)}")
        found = audit_view.differences(_text(step.now), _text(step.wanted))
        session.screen.table(found, audit_view.DIFFERENCES, wide=True)
        session.out.line()


def _plain(plan: Plan) -> list[dict[str, Any]]:
    topology = plan.topology_to_do
    return [
        *(
            [{"kind": "topology", "name": "", "now": topology.now, "wanted": topology.wanted}]
            if topology is not None
            else ()
        ),
        *(_plain_step(step) for step in plan.to_do),
    ]


def _plain_step(step: Step) -> dict[str, Any]:
    now, wanted = (
        json.loads(text) if (text := _text(one)) else None for one in (step.now, step.wanted)
    )
    kind = audit_view.NOUNS[step.item.kind]
    return {"kind": kind, "name": step.item.name, "now": now, "wanted": wanted}


def _read(way: Way[Any], text: str) -> Message | None:
    """The object of a record; without fields that this command does not know."""
    if not text:
        return None
    made = way.kind()
    ParseDict(json.loads(text), made, ignore_unknown_fields=True)
    return said(made)


def _text(message: Message | None) -> str:
    return "" if message is None else document(message)


def _refusal(reason: str, message: str, change: api.Change, hint: str = "") -> Failure:
    return Failure(
        f"{message}; nothing was done",
        status="FAILED_PRECONDITION",
        reason=reason,
        metadata={"revision": str(change.revision)},
        hint=hint,
    )
