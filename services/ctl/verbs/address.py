"""`romana address`: allocate, release and find addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from google.rpc import status_pb2
from romana.ipam.v1 import allocation_pb2
from romana.ipam.v1 import ipam_service_pb2 as api

from services.common.model.addresses import looks_like_address
from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import Column
from services.ctl.calls import completion, option_syntax, options, waiting
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures import failure, failure_view
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure, usage
from services.ctl.views import enum_text
from services.ctl.views.output import Format, nothing
from services.ctl.views.standard_streams import between_messages

app = group("Allocate, release and find addresses.")

COLUMNS: tuple[Column[allocation_pb2.Allocation], ...] = (
    Column("ADDRESS", lambda item: item.address),
    Column("NAME", lambda item: item.name),
    Column("NODE", lambda item: item.node),
    Column("OWNER", lambda item: enum_text.owner(item.tenant, item.segment)),
    Column("NETWORK", lambda item: item.network),
    Column("BLOCK", lambda item: item.block, wide=True),
    Column("ALLOCATED", lambda item: enum_text.moment(item.allocate_time), wide=True),
)

RELEASED: tuple[Column[tuple[str, api.ReleaseResult]], ...] = (
    Column("NAME", lambda item: item[0]),
    Column("RELEASED", lambda item: ", ".join(item[1].addresses) or "nothing"),
)

NamesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME|ADDRESS...",
        help="Names. An address stands for the name that has it, with all its addresses.",
    ),
]
MOST_NAMED = 5
"""Names in a sentence; the table has them all."""
RELEASE_BATCH = 10_000
"""ReleaseAddressesRequest.specs."""


@verb(
    app,
    "allocate",
    mutates=True,
    examples="""
        romana address allocate web-1 --node n1 --tenant shop
        romana address allocate web-2 --node n1 --tenant shop --segment front --network prod
        romana address allocate web-3 --node n1 --tenant shop --address 10.1.0.77
        romana address allocate web-4 --node n1 --tenant shop --want family=4 --want family=6
        romana address allocate web-5 --node n1 --tenant shop --wait 30
    """,
)
async def allocate(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the endpoint that gets the addresses.")
    ],
    node: options.NodeOption,
    tenant: options.TenantOption,
    segment: options.SegmentOption = "",
    network: options.NetworkOption = "",
    family: options.FamilyOption = "",
    address: options.AddressOption = "",
    want: options.WantOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    wait: waiting.RoutesWaitOption = 0,
) -> None:
    """Allocates addresses to a name, or shows those that the same request was given before."""
    ipam = session.ipam
    answer = await ipam.once(
        ipam.stub.AllocateAddress,
        api.AllocateAddressRequest(
            spec=allocation_pb2.AllocationSpec(
                name=name,
                node=node,
                tenant=tenant,
                segment=segment,
                addresses=option_syntax.wants(
                    want, network=network, family=family, address=address
                ),
            ),
            request_id=session.request_id,
        ),
    )
    _show_given(session, name, answer)
    await waiting.wait_for_routes(session, wait)


def _show_given(session: Session, name: str, answer: api.AllocateAddressResponse) -> None:
    if session.out.for_programs:
        session.out.value(plain(answer))
        return
    if session.out.form is Format.NAME:
        for allocation in answer.allocations:
            session.out.line(allocation.address)
    else:
        session.screen.table(answer.allocations, COLUMNS, wide=session.out.wide)
    if answer.existed:
        session.note(f"{name} had that already")


@verb(
    app,
    "release",
    mutates=True,
    examples="""
        romana address release web-1
        romana address release web-1 web-2 --tenant shop --segment front
        romana address release 10.1.0.77
        romana address list --node n1 -o name | xargs romana address release
    """,
)
async def release(
    session: Session,
    names: NamesArgument,
    tenant: Annotated[
        str,
        typer.Option(
            "--tenant",
            metavar="NAME",
            help="Refuse if the name belongs to another tenant.",
            autocompletion=completion.tenants,
        ),
    ] = "",
    segment: Annotated[
        str,
        typer.Option(
            "--segment",
            metavar="NAME",
            help="With --tenant: refuse if the name belongs to another segment.",
        ),
    ] = "",
    node: Annotated[
        str,
        typer.Option(
            "--node",
            metavar="NAME",
            help="Refuse if the name is on another node.",
            autocompletion=completion.nodes,
        ),
    ] = "",
    ignore_not_found: options.IgnoreNotFoundOption = False,
) -> ExitCode:
    """Releases all addresses of each name. Exit code 3: a name has none."""
    if segment and not tenant:
        raise usage("--segment is only checked with --tenant")
    ipam = session.ipam
    names = await _names(session, names, ignore_not_found=ignore_not_found)
    results: list[tuple[str, api.ReleaseResult]] = []
    for start in range(0, len(names), RELEASE_BATCH):
        batch = names[start : start + RELEASE_BATCH]
        answer = await ipam.once(
            ipam.stub.ReleaseAddresses,
            api.ReleaseAddressesRequest(
                specs=[
                    api.ReleaseSpec(name=name, tenant=tenant, segment=segment, node=node)
                    for name in batch
                ],
                request_id=session.request_id,
            ),
        )
        results += zip(batch, answer.results, strict=True)
    failures = {name: result.status for name, result in results if result.status.code}
    if session.out.for_programs:
        session.out.value([{"name": name, **plain(result)} for name, result in results])
    else:
        done = [item for item in results if item[0] not in failures]
        if session.out.form is Format.NAME:
            for _, result in done:
                for address in result.addresses:
                    session.out.line(address)
        elif done:
            session.screen.table(done, RELEASED, wide=session.out.wide)
        if done:
            session.note(_summary([(name, len(result.addresses)) for name, result in done]))
    code = _refused(session, failures)
    if code or ignore_not_found or all(result.addresses for _, result in results):
        return code
    return ExitCode.NOT_FOUND


async def _names(session: Session, given: Sequence[str], *, ignore_not_found: bool) -> list[str]:
    """Puts names in the place of addresses, each once; nothing is released before all are found."""
    names = []
    for text in given:
        name = text
        if looks_like_address(text):
            try:
                name = (await _get(session, text)).allocations[0].name
            except Failure as error:
                if not (ignore_not_found and error.exit_code is ExitCode.NOT_FOUND):
                    raise
                session.note(f"{text} is not in use")
                continue
        names.append(name)
    return list(dict.fromkeys(names))


@verb(
    app,
    "show",
    examples="""
        romana address show web-1
        romana address show 10.1.0.77 -o json
    """,
)
async def show(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME|ADDRESS", help="A name or an address.")],
) -> None:
    """Shows the addresses of a name, or who has an address."""
    session.out.listing(
        (await _get(session, name)).allocations,
        tuple(Column(each.title, each.text) for each in COLUMNS),
        document=plain,
        name=lambda item: item.address,
        empty="none",
    )


@verb(
    app,
    "list",
    examples="""
        romana address list --tenant shop
        romana address list --node n1 -o wide
        romana address list --block 10.1.0.0/29 -o json
    """,
)
async def list_addresses(
    session: Session,
    node: options.NodeFilter = "",
    tenant: options.TenantFilter = "",
    segment: options.SegmentFilter = "",
    network: options.NetworkFilter = "",
    block: Annotated[str, typer.Option(metavar="CIDR", help="Only in this block.")] = "",
    limit: options.LimitOption = 0,
) -> None:
    """Lists addresses in use, by network and address."""
    ipam = session.ipam
    listed = await ipam.every(
        ipam.stub.ListAddresses,
        api.ListAddressesRequest(
            node=node, tenant=tenant, segment=segment, network=network, block=block
        ),
        lambda page: page.allocations,
        limit=limit,
        page_size=5000,
    )
    session.listing(
        listed,
        COLUMNS,
        name=lambda item: item.address,
        empty=nothing("no addresses in use", node, tenant, segment, network, block),
    )


@verb(
    app,
    "watch",
    examples="""
        romana address watch --node n1
        romana address watch --tenant shop -o json | jq .allocated
    """,
)
async def watch(
    session: Session,
    node: options.NodeFilter = "",
    tenant: options.TenantFilter = "",
    segment: options.SegmentFilter = "",
    network: options.NetworkFilter = "",
) -> None:
    """Follows addresses in use: first all there are, then every change, until interrupted."""
    ipam = session.ipam
    out = session.out
    addresses = 0
    request = api.WatchAllocationsRequest(
        node=node, tenant=tenant, segment=segment, network=network
    )
    async for message in ipam.stream(ipam.stub.WatchAllocations, request, patient=True):
        if out.for_programs:
            out.event(plain(message))
        else:
            for item in message.allocated:
                owner = enum_text.owner(item.tenant, item.segment)
                out.line(f"+ {item.address}  {item.name}  {item.node}  {owner}")
            for address in message.released:
                out.line(f"- {address}")
        between_messages()
        addresses += len(message.allocated)
        if message.in_sync and not out.for_programs:
            session.note(f"{count(addresses, 'address')}; now every change")


async def _get(session: Session, text: str) -> api.GetAddressResponse:
    """What a name has, or the name that has an address."""
    ipam = session.ipam
    by_name = api.GetAddressRequest(name=text)
    if not looks_like_address(text):
        return await ipam.read(ipam.stub.GetAddress, by_name)
    try:
        return await ipam.read(ipam.stub.GetAddress, api.GetAddressRequest(address=text))
    except Failure as error:
        if error.exit_code is not ExitCode.NOT_FOUND:
            raise
        try:
            # a caller may well have named an endpoint by an address
            return await ipam.read(ipam.stub.GetAddress, by_name)
        except Failure:
            raise error from None


def _summary(released: Sequence[tuple[str, int]]) -> str:
    """How many addresses, and who had none: most likely a name that was mistyped."""
    total = sum(number for _, number in released)
    text = f"{count(total, 'address')} released"
    empty = [name for name, number in released if not number]
    if not empty:
        return text
    if len(empty) > MOST_NAMED:
        return f"{text}: {count(len(empty), 'name')} had none"
    return f"{text}: {', '.join(empty)} had none"


def _refused(session: Session, failures: dict[str, status_pb2.Status]) -> ExitCode:
    """Shows each name's refusal; the exit code is that of the first."""
    code = ExitCode.OK
    for name, status in failures.items():
        refused = failure.of_status(status)
        refused.message = f"{name}: {refused.message}"
        refused.request_id = refused.request_id or session.request_id
        failure_view.show(refused, form=session.out.form)
        code = code or refused.exit_code
    return code
