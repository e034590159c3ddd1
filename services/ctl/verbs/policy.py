"""`romana policy`: who may speak with whom."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from romana.policy.v1 import policy_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import Column, fields
from services.ctl.calls import agents, completion, option_syntax, options, waiting
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.calls.waiting import named
from services.ctl.failures.failure import Failure
from services.ctl.local import input_file
from services.ctl.verbs import policy_ask as ask
from services.ctl.verbs import policy_trial as trial
from services.ctl.verbs.topology import ExportFormat
from services.ctl.views import enum_text, policy_view
from services.ctl.views.output import Format, Json, nothing, yaml_text

app = group("Policies: who may talk to whom.")

NOT_FOUND = "POLICY_NOT_FOUND"


class Written(StrEnum):
    """How files are written."""

    AUTO = "auto"
    ROMANA = "romana"
    KUBERNETES = "kubernetes"
    ROMANA_V2 = "romana-v2"


class Tier(StrEnum):
    """Who comes first."""

    ADMIN = "admin"
    TENANT = "tenant"
    BASELINE = "baseline"


FORMATS = {
    Written.AUTO: api.POLICY_FORMAT_UNSPECIFIED,
    Written.ROMANA: api.POLICY_FORMAT_ROMANA,
    Written.KUBERNETES: api.POLICY_FORMAT_KUBERNETES,
    Written.ROMANA_V2: api.POLICY_FORMAT_ROMANA_V2,
}
TIERS = {
    Tier.ADMIN: policy_pb2.POLICY_TIER_ADMIN,
    Tier.TENANT: policy_pb2.POLICY_TIER_TENANT,
    Tier.BASELINE: policy_pb2.POLICY_TIER_BASELINE,
}
MARKS = {
    api.CHANGE_KIND_CREATED: "+",
    api.CHANGE_KIND_UPDATED: "~",
    api.CHANGE_KIND_REMOVED: "-",
}
POLICY = "policy/"
"""Before a policy's name, where tenants are listed as well."""
CHANGES: tuple[Column[api.PolicyChange], ...] = (
    Column("", lambda item: MARKS.get(item.kind, " ")),
    Column("RESOURCE", lambda item: item.resource),
    Column("CHANGE", lambda item: enum_text.policy_change(item.kind)),
)

FilesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Files with policies, in any format; -: stdin."),
]
FormatOption = Annotated[
    Written, typer.Option("--format", help="Format of the files; auto: detect it.")
]
NamespaceOption = Annotated[
    str,
    typer.Option(
        "--namespace", "-n", metavar="NAME", help="Namespace of Kubernetes objects that name none."
    ),
]
PruneOption = Annotated[
    list[str],
    typer.Option(
        "--prune",
        metavar="KEY=VALUE",
        help="Label what is applied, and delete what has the label and is not in the files.",
    ),
]
NamesArgument = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Policies.", autocompletion=completion.policies),
]


@verb(
    app,
    "apply",
    mutates=True,
    examples="""
        romana policy apply policies.yaml --wait 30
        romana policy apply *.yaml --prune set=shop
        kubectl get networkpolicies,namespaces -A -o json | romana policy apply -
    """,
)
async def apply(
    session: Session,
    files: FilesArgument,
    form: FormatOption = Written.AUTO,
    namespace: NamespaceOption = "",
    prune: PruneOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    dry_run: options.DryRunOption = False,
    wait: waiting.PolicyWaitOption = 0,
) -> None:
    """Applies policies and tenants from files: all of them, or none if anything is wrong."""
    request = _request(session, files, form, namespace, prune)
    if dry_run or prune:
        planned = await _plan(session, request)
        if dry_run:
            _show_changes(session, planned)
            return
        gone = sum(change.kind == api.CHANGE_KIND_REMOVED for change in planned.changes)
        if gone:
            if session.asks and not session.out.for_programs:
                _show_changes(session, planned)
            session.confirm(f"Remove {count(gone, 'policy')}?")
    before = await waiting.policy_revision(session, wait)
    policy = session.policy
    answer = await policy.once(policy.stub.ApplyPolicies, request)
    _show_changes(session, answer)
    await waiting.wait_for_policies(session, wait, [each.name for each in answer.policies], before)


@verb(
    app,
    "plan",
    examples="""
        romana policy plan policies.yaml
        romana policy plan *.yaml --prune set=shop -o json
    """,
)
async def plan(
    session: Session,
    files: FilesArgument,
    form: FormatOption = Written.AUTO,
    namespace: NamespaceOption = "",
    prune: PruneOption = [],  # noqa: B006  # typer reads it, nobody writes to it
) -> None:
    """Shows what applying the files would change."""
    _show_changes(session, await _plan(session, _request(session, files, form, namespace, prune)))


@verb(
    app,
    "convert",
    examples="""
        romana policy convert networkpolicy.yaml > policies.yaml
        romana policy convert old-romana.json -o json
    """,
)
async def convert(
    session: Session,
    files: FilesArgument,
    form: FormatOption = Written.AUTO,
    namespace: NamespaceOption = "",
    output: Annotated[
        ExportFormat, typer.Option("-o", "--output", help="The document's format.")
    ] = ExportFormat.YAML,
) -> None:
    """Prints the policies of files in Romana's own format. Changes nothing."""
    planned = await _plan(session, _request(session, files, form, namespace, []))
    _write({"policies": [policy_view.document(each) for each in planned.policies]}, output)


@verb(
    app,
    "list",
    examples="""
        romana policy list
        romana policy list --label set=shop -o wide
        romana policy list --endpoint web-1      those that select it
    """,
)
async def list_policies(
    session: Session,
    label: options.LabelOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    endpoint: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Only policies that select it.",
            autocompletion=completion.endpoints_known,
        ),
    ] = "",
    tier: Annotated[Tier | None, typer.Option(help="Only of this tier.")] = None,
    limit: options.LimitOption = 0,
) -> None:
    """Lists policies, with how many of the nodes that need them have applied them."""
    policy = session.policy
    listed = await policy.every(
        policy.stub.ListPolicies,
        api.ListPoliciesRequest(
            labels=option_syntax.labels(label),
            endpoint=endpoint,
            tier=TIERS[tier] if tier else policy_pb2.POLICY_TIER_UNSPECIFIED,
        ),
        lambda page: page.policies,
        limit=limit,
    )
    shown = session.out.form in {Format.TABLE, Format.WIDE} and listed.items
    known = await agents.realization(session) if shown else {}
    session.listing(
        listed,
        columns(known),
        name=lambda item: item.name,
        empty=nothing(
            "there are no policies: `romana policy apply` makes them", label, endpoint, tier
        ),
    )


def columns(known: Mapping[str, api.PolicyRealization]) -> tuple[Column[policy_pb2.Policy], ...]:
    """The columns of the list; `known` says how far policies are."""
    return (
        Column("NAME", lambda item: item.name),
        Column("TIER", lambda item: enum_text.policy_tier(item.tier)),
        Column("PRIORITY", _priority, right=True),
        Column("MODE", lambda item: enum_text.policy_mode(item.mode)),
        Column("TARGETS", policy_view.targets),
        Column("RULES", policy_view.rule_counts),
        Column("NODES", lambda item: agents.policy_in_short(known.get(item.name)), right=True),
        Column("LABELS", lambda item: enum_text.pairs(item.labels), wide=True),
        Column("FROM", lambda item: item.origin.kind or "-", wide=True),
    )


@verb(
    app,
    "show",
    examples="""
        romana policy show shop/web
        romana policy show shop/web -o json | jq -r .origin.document
    """,
)
async def show(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Policy.", autocompletion=completion.policies)
    ],
) -> None:
    """Shows a policy with its rules, and which nodes have not applied it."""
    policy = session.policy
    found = (await policy.read(policy.stub.GetPolicy, api.GetPolicyRequest(name=name))).policy
    out = session.out
    if out.for_programs:
        out.value(plain(found))
        return
    if out.form is Format.NAME:
        out.line(found.name)
        return
    known = (await agents.realization(session, [name])).get(name)
    out.sheet(
        fields(
            [
                ("Name", found.name),
                ("Description", found.description),
                ("Tier", f"{enum_text.policy_tier(found.tier)} {_priority(found)}".strip("- ")),
                ("Mode", enum_text.policy_mode(found.mode)),
                ("Targets", policy_view.targets(found)),
                ("Labels", enum_text.pairs(found.labels)),
                ("Written as", found.origin.kind),
                ("Changed", enum_text.moment(found.update_time)),
                ("Applied by", f"{agents.policy_in_short(known)} nodes"),
                ("Missing", ", ".join(known.missing) if known else ""),
            ]
        )
    )
    out.line()
    session.screen.table(policy_view.rule_rows(found), policy_view.RULES, wide=out.wide)
    for failure in known.failures if known else ():
        session.note(f"{failure.resource}: {failure.reason}: {failure.message}")


@verb(
    app,
    "delete",
    mutates=True,
    examples="""
        romana policy delete shop/web --wait 30
        romana policy delete shop/web shop/db --ignore-not-found
    """,
)
async def delete(
    session: Session,
    names: NamesArgument,
    ignore_not_found: options.IgnoreNotFoundOption = False,
    wait: waiting.PolicyWaitOption = 0,
) -> None:
    """Deletes policies. If one of them does not exist, none is deleted."""
    policy = session.policy
    found = await _found(session, names, ignore_not_found=ignore_not_found)
    missing = set(names) - {each.name for each in found}
    if found:
        if session.asks and not session.out.for_programs:
            session.screen.table(found, columns({}), wide=False)
        session.require(
            f"Delete {count(len(found), 'policy')} ({named([each.name for each in found])})? What "
            "they deny may be open then."
        )
    before = await waiting.policy_revision(session, wait)
    for name in dict.fromkeys(names):
        if name in missing:
            continue
        await policy.once(
            policy.stub.DeletePolicy,
            api.DeletePolicyRequest(name=name, request_id=session.request_id),
        )
        if session.out.form is Format.NAME:
            session.out.line(name)
        elif not session.out.for_programs:
            session.note(f"{name} is deleted")
    if session.out.for_programs:
        session.out.value(
            [{"name": name, "existed": name not in missing} for name in dict.fromkeys(names)]
        )
    await waiting.wait_for_policies(session, wait, [], before)


@verb(
    app,
    "export",
    examples="""
        romana policy export > policies.yaml
        romana policy export --label set=shop -o json
    """,
)
async def export(
    session: Session,
    label: options.LabelOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    output: Annotated[
        ExportFormat, typer.Option("-o", "--output", help="The document's format.")
    ] = ExportFormat.YAML,
) -> None:
    """Writes policies and tenants as a document from which `apply` makes the same again.

    With --label only the policies that are labelled so.
    """
    policy = session.policy
    listed = await policy.every(
        policy.stub.ListPolicies,
        api.ListPoliciesRequest(labels=option_syntax.labels(label)),
        lambda page: page.policies,
    )
    policies = [policy_view.document(each) for each in listed.items]
    if label:
        _write({"policies": policies}, output)
        return
    tenants = await policy.every(
        policy.stub.ListTenants, api.ListTenantsRequest(), lambda page: page.tenants
    )
    _write(
        {
            "tenants": [policy_view.tenant_document(each) for each in tenants.items],
            "policies": policies,
        },
        output,
    )


verb(app, "endpoints", examples=ask.ENDPOINTS_EXAMPLES)(ask.endpoints)
verb(app, "explain", examples=ask.EXPLAIN_EXAMPLES)(ask.explain)
verb(app, "matrix", examples=ask.MATRIX_EXAMPLES)(ask.matrix)
verb(app, "test", examples=trial.EXAMPLES)(trial.test)


async def _found(
    session: Session, names: list[str], *, ignore_not_found: bool
) -> list[policy_pb2.Policy]:
    """Policies by their names."""
    policy = session.policy
    found: list[policy_pb2.Policy] = []
    for name in dict.fromkeys(names):
        try:
            answer = await policy.read(policy.stub.GetPolicy, api.GetPolicyRequest(name=name))
            found.append(answer.policy)
        except Failure as error:
            if not (ignore_not_found and error.reason == NOT_FOUND):
                raise
            session.note(f"There is no policy {name}")
    return found


def _priority(item: policy_pb2.Policy) -> str:
    tenant = item.tier in {policy_pb2.POLICY_TIER_UNSPECIFIED, policy_pb2.POLICY_TIER_TENANT}
    return "-" if tenant else str(item.priority)


def _request(
    session: Session, files: list[Path], form: Written, namespace: str, prune: list[str]
) -> api.ApplyPoliciesRequest:
    return api.ApplyPoliciesRequest(
        documents=[
            api.PolicyDocument(
                content=input_file.content(file),
                format=FORMATS[form],
                source=input_file.called(file),
                default_namespace=namespace,
            )
            for file in files
        ],
        prune_labels=option_syntax.labels(prune, "--prune"),
        request_id=session.request_id,
    )


async def _plan(session: Session, request: api.ApplyPoliciesRequest) -> api.ApplyPoliciesResponse:
    trial = api.ApplyPoliciesRequest()
    trial.CopyFrom(request)
    trial.validate_only = True
    policy = session.policy
    return await policy.read(policy.stub.ApplyPolicies, trial)


def _show_changes(session: Session, answer: api.ApplyPoliciesResponse) -> None:
    out = session.out
    if out.for_programs:
        out.value(plain(answer))
        return
    changed = [each for each in answer.changes if each.kind != api.CHANGE_KIND_UNCHANGED]
    if out.form is Format.NAME:
        for change in changed:  # names that the other verbs take
            if change.resource.startswith(POLICY) and change.kind != api.CHANGE_KIND_REMOVED:
                out.line(change.resource.removeprefix(POLICY))
        return
    if changed or out.wide:
        session.screen.table(answer.changes if out.wide else changed, CHANGES, wide=out.wide)
    same = len(answer.changes) - len(changed)
    if same:
        session.note(f"{count(same, 'resource')} unchanged")
    for warning in answer.warnings:
        session.note(f"{warning.policy}: {warning.field}: {warning.message}")


def _write(value: dict[str, Json], form: ExportFormat) -> None:
    if form is ExportFormat.JSON:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(yaml_text(value))
