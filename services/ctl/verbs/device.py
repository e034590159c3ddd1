"""`romana device`: groups of devices that policies lead connections through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from romana.policy.v1 import device_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.table import Column, fields
from services.ctl.calls import completion, options
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures.failure import usage
from services.ctl.local import input_file
from services.ctl.views import enum_text
from services.ctl.views.output import Format

app = group("Groups of devices that policies lead connections through.")

GroupArgument = Annotated[
    str,
    typer.Argument(
        metavar="GROUP", help="Group of devices.", autocompletion=completion.device_groups
    ),
]


def when_down(item: device_pb2.DeviceGroup) -> str:
    """Such as "closed" or "next: others"."""
    return f"next: {item.next}" if item.next else enum_text.when_down(item.when_down)


def seen_by(status: device_pb2.DeviceStatus) -> str:
    """Such as "2 of 3 nodes"."""
    known = status.nodes_up + status.nodes_down
    return f"{status.nodes_up} of {known} nodes" if known else "no node yet"


def where(item: device_pb2.DeviceAddress) -> str:
    """Such as "10.40.0.251 on production"; of two arms both."""
    text = f"{item.address} on {item.network}"
    if not item.HasField("outside"):
        return text
    outside = item.outside
    return f"inside {text}, outside {outside.address} on {outside.network or item.network}"


def states(devices: Sequence[device_pb2.DeviceStatus]) -> str:
    """Such as "2 of 2 up", or "1 of 3 up, 1 draining, 1 unknown"."""
    number = Counter(device.state for device in devices)
    up = number.pop(device_pb2.DEVICE_STATE_UP, 0)
    others = (f"{count} {enum_text.device_state(state)}" for state, count in sorted(number.items()))
    return ", ".join((f"{up} of {len(devices)} up", *others))


GROUPS: tuple[Column[device_pb2.DeviceGroupStatus], ...] = (
    Column("NAME", lambda item: item.group.name),
    Column("STATE", lambda item: "down" if item.down else "up"),
    Column("DEVICES", lambda item: states(item.devices)),
    Column("WHEN DOWN", lambda item: when_down(item.group)),
    Column("NETWORKS", lambda item: ", ".join(item.group.networks)),
    Column("POLICIES", lambda item: ", ".join(item.policies)),
)


class Row:
    """A device as a row of a table."""

    def __init__(self, device: device_pb2.Device, status: device_pb2.DeviceStatus) -> None:
        self.device = device
        self.status = status


DEVICES: tuple[Column[Row], ...] = (
    Column("DEVICE", lambda item: item.device.name),
    Column("STATE", lambda item: enum_text.device_state(item.status.state)),
    Column(
        "ADDRESSES",
        lambda item: ", ".join(map(where, item.device.addresses)),
    ),
    Column("WEIGHT", lambda item: str(item.device.weight), right=True),
    Column("SEEN BY", lambda item: seen_by(item.status), right=True),
    Column("WHY", lambda item: item.status.reason),
)


@verb(app, "list", examples="romana device list")
async def list_groups(session: Session) -> None:
    """Lists groups of devices, and how many of each are up."""
    policy = session.policy
    listed = await policy.every(
        policy.stub.ListDeviceGroups, api.ListDeviceGroupsRequest(), lambda page: page.groups
    )
    session.out.listing(
        listed.items,
        GROUPS,
        document=plain,
        name=lambda item: item.group.name,
        empty="there are no groups of devices: `romana device apply` makes one",
    )


@verb(app, "show", examples="romana device show firewalls")
async def show(session: Session, name: GroupArgument) -> None:
    """Shows a group and the state of each of its devices."""
    policy = session.policy
    answer = await policy.read(policy.stub.ListDeviceGroups, api.ListDeviceGroupsRequest(name=name))
    (found,) = answer.groups
    out, item = session.out, found.group
    if out.for_programs:
        out.value(plain(found))
        return
    if out.form is Format.NAME:
        out.line(item.name)
        return
    probe = item.probe
    interval = probe.interval.ToMilliseconds()
    asked = f"{enum_text.probe_kind(probe.kind)}{f' port {probe.port}' if probe.port else ''}"
    out.sheet(
        fields(
            [
                ("Name", item.name),
                ("Description", item.description),
                ("State", "down: too few devices are up" if found.down else "up"),
                ("Networks", ", ".join(item.networks)),
                ("When down", when_down(item)),
                ("Threshold", f"{item.threshold_percent} %" if item.threshold_percent else ""),
                ("On loss", f"{enum_text.on_loss(item.on_loss)} the connections of a device"),
                ("Probe", f"{asked} every {interval} ms, {probe.threshold} in a row"),
                ("Policies", ", ".join(found.policies)),
            ]
        )
    )
    out.line()
    rows = [Row(device, status) for device, status in zip(item.devices, found.devices, strict=True)]
    session.screen.table(rows, DEVICES, wide=out.wide)


@verb(
    app,
    "apply",
    mutates=True,
    examples="""
        romana device apply firewalls.yaml
        romana device apply firewalls.yaml --dry-run
    """,
)
async def apply(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A group, YAML or JSON; -: stdin.")],
    dry_run: options.DryRunOption = False,
) -> None:
    """Adds or replaces a group of devices."""
    text = input_file.text(file)
    if not text:  # to the service that is none
        raise usage(f"{input_file.called(file)} is empty")
    policy = session.policy
    answer = await policy.once(
        policy.stub.PutDeviceGroup,
        api.PutDeviceGroupRequest(
            document=text,
            source=input_file.called(file),
            validate_only=dry_run,
            request_id=session.request_id,
        ),
    )
    done = "is sound" if dry_run else "is applied"
    _said(session, answer.group, f"group {answer.group.name} {done}")


@verb(
    app,
    "drain",
    mutates=True,
    examples="""
        romana device drain firewalls fw-1
        romana device drain firewalls fw-1 --undo
    """,
)
async def drain(
    session: Session,
    name: GroupArgument,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="One of the group.")],
    undo: Annotated[bool, typer.Option("--undo", help="It takes new connections again.")] = False,
) -> None:
    """Has a device take no new connections; those that it has stay."""
    policy = session.policy
    answer = await policy.once(
        policy.stub.DrainDevice,
        api.DrainDeviceRequest(
            group=name, device=device, drain=not undo, request_id=session.request_id
        ),
    )
    takes = "new connections again" if undo else "no new connections"
    _said(session, answer.group, f"{device} of {name} takes {takes}")


@verb(
    app,
    "delete",
    mutates=True,
    examples="romana device delete firewalls",
    old_name="remove",
)
async def delete(session: Session, name: GroupArgument) -> None:
    """Deletes a group that no rule and no other group names."""
    policy = session.policy
    await policy.once(
        policy.stub.DeleteDeviceGroup,
        api.DeleteDeviceGroupRequest(name=name, request_id=session.request_id),
    )
    if session.out.for_programs:
        session.out.value({"name": name})
    elif session.out.form is Format.NAME:
        session.out.line(name)
    else:
        session.note(f"group {name} is deleted")


def _said(session: Session, group_: device_pb2.DeviceGroup, note: str) -> None:
    if session.out.for_programs:
        session.out.value(plain(group_))
    elif session.out.form is Format.NAME:
        session.out.line(group_.name)
    else:
        session.note(note)
