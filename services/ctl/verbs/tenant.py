"""`romana tenant`: what policy knows of tenants."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from romana.policy.v1 import endpoint_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.table import Column
from services.ctl.calls import completion, option_syntax, options, waiting
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures.failure import Failure, of_status, usage
from services.ctl.views import enum_text
from services.ctl.views.output import Format

app = group("Tenants: their labels, and how their endpoints are kept apart.")


class Isolation(StrEnum):
    """How a tenant's endpoints are kept apart."""

    NETWORK = "network"
    NONE = "none"
    TENANT = "tenant"
    SEGMENT = "segment"


ISOLATIONS = {
    Isolation.NETWORK: endpoint_pb2.ISOLATION_UNSPECIFIED,
    Isolation.NONE: endpoint_pb2.ISOLATION_NONE,
    Isolation.TENANT: endpoint_pb2.ISOLATION_TENANT,
    Isolation.SEGMENT: endpoint_pb2.ISOLATION_SEGMENT,
}
COLUMNS: tuple[Column[endpoint_pb2.Tenant], ...] = (
    Column("NAME", lambda item: item.name),
    Column("ISOLATION", lambda item: enum_text.tenant_isolation(item.isolation)),
    Column("LABELS", lambda item: enum_text.pairs(item.labels)),
)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Tenant.", autocompletion=completion.tenants)
]


@verb(app, "list", examples="romana tenant list")
async def list_tenants(session: Session) -> None:
    """Lists tenants with labels or isolation."""
    session.out.listing(
        await _tenants(session),
        COLUMNS,
        document=plain,
        name=lambda item: item.name,
        empty="no tenant has labels or isolation: set them with `romana tenant set`",
    )


@verb(
    app,
    "set",
    mutates=True,
    examples="""
        romana tenant set shop --label team=web --isolation tenant --wait 30
        romana tenant set shop --label team-           takes the label away
        romana tenant set shop --isolation network     as its networks say
    """,
)
async def set_tenant(
    session: Session,
    name: NameArgument,
    label: Annotated[
        list[str],
        typer.Option(
            "--label",
            "-l",
            metavar="KEY=VALUE|KEY-",
            help="Set or remove a label; repeat for several.",
        ),
    ] = [],  # noqa: B006  # typer reads it, nobody writes to it
    isolation: Annotated[
        Isolation | None,
        typer.Option(help="Who cannot reach its endpoints; network: as their networks say."),
    ] = None,
    wait: waiting.PolicyWaitOption = 0,
) -> None:
    """Sets labels and isolation of a tenant; what is not named stays as it is."""
    if not label and isolation is None:
        raise usage("say what to set, such as --label team=web or --isolation tenant")
    known = {each.name: each for each in await _tenants(session)}
    tenant = known.get(name) or endpoint_pb2.Tenant(name=name)
    added, removed = option_syntax.label_changes(label)
    for key in removed:
        tenant.labels.pop(key, None)
    tenant.labels.update(added)
    if isolation is not None:
        if opens(tenant.isolation, ISOLATIONS[isolation]):
            session.require(f"Open {name}? It is kept apart now, and may not be then.")
        tenant.isolation = ISOLATIONS[isolation]
    before = await waiting.policy_revision(session, wait)
    policy = session.policy
    answer = await policy.once(
        policy.stub.PutTenants,
        api.PutTenantsRequest(tenants=[tenant], request_id=session.request_id),
    )
    (status,) = answer.results
    if status.code:
        raise of_status(status)
    tenant.ClearField("etag")
    if session.out.for_programs:
        session.out.value(plain(tenant))
    elif session.out.form is Format.NAME:
        session.out.line(name)
    else:
        session.screen.table([tenant], COLUMNS, wide=session.out.wide)
    await waiting.wait_for_policies(session, wait, [], before)


@verb(
    app,
    "delete",
    mutates=True,
    examples="""
        romana tenant delete shop
        romana tenant delete shop --ignore-not-found
    """,
)
async def delete(
    session: Session,
    name: NameArgument,
    ignore_not_found: options.IgnoreNotFoundOption = False,
    wait: waiting.PolicyWaitOption = 0,
) -> None:
    """Deletes a tenant's labels and isolation. Its endpoints stay."""
    existed = name in {each.name for each in await _tenants(session)}
    if not existed and not ignore_not_found:
        raise Failure(
            f"tenant {name!r} has no labels and no isolation",
            status="NOT_FOUND",
            reason="TENANT_NOT_FOUND",
            hint="`romana tenant list` names the tenants that have",
        )
    if existed:
        session.require(
            f"Forget labels and isolation of {name}? Policies select it by its labels no more, and "
            "what its isolation closes may be open then."
        )
    before = await waiting.policy_revision(session, wait)
    policy = session.policy
    await policy.once(
        policy.stub.DeleteTenant,
        api.DeleteTenantRequest(name=name, request_id=session.request_id),
    )
    if session.out.for_programs:
        session.out.value({"name": name, "existed": existed})
    elif session.out.form is Format.NAME:
        session.out.line(name)
    else:
        session.note(f"{name} is deleted" if existed else f"There is no tenant {name}")
    await waiting.wait_for_policies(session, wait, [], before)


def opens(
    before: endpoint_pb2.Isolation.ValueType, after: endpoint_pb2.Isolation.ValueType
) -> bool:
    """Whether somebody may reach a tenant's endpoints who did not before."""
    closed = (endpoint_pb2.ISOLATION_TENANT, endpoint_pb2.ISOLATION_SEGMENT)
    return before in closed and (after not in closed or (before, after) == tuple(reversed(closed)))


async def _tenants(session: Session) -> tuple[endpoint_pb2.Tenant, ...]:
    policy = session.policy
    listed = await policy.every(
        policy.stub.ListTenants, api.ListTenantsRequest(), lambda page: page.tenants
    )
    return listed.items
