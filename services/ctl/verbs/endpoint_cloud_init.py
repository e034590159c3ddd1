"""What cloud-init in a VM is told of its endpoint: printed, or in the image of a seed."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from services.ctl.calls import by_address
from services.ctl.calls.agent_option import AgentOption
from services.ctl.calls.session import Session
from services.ctl.failures.failure import Failure, usage
from services.ctl.local import input_file, private_file, seed_image
from services.ctl.views import cloud_init

EXAMPLES: Final = """
    romana endpoint cloud-init vm-1
    romana endpoint cloud-init vm-1 --seed vm-1.iso --user-data user-data.yaml
"""
_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


async def show(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Endpoint's name, or address.")],
    seed: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a NoCloud seed there, for a CD of the VM."),
    ] = None,
    mac: Annotated[
        str,
        typer.Option(
            metavar="MAC", help="Of the interface that is meant.  [default: any Ethernet]"
        ),
    ] = "",
    hostname: Annotated[
        str, typer.Option(metavar="NAME", help="In the seed.  [default: the endpoint's name]")
    ] = "",
    user_data: Annotated[
        Path | None,
        typer.Option("--user-data", metavar="FILE", help="In the seed.  [default: an empty one]"),
    ] = None,
    agent_socket: AgentOption = "",
) -> None:
    """Prints the network configuration (version 2) of a VM for cloud-init, or writes a seed."""
    if seed is None and (hostname or user_data):
        raise usage("--hostname and --user-data are for a seed: give --seed, too")
    if mac and not _MAC.fullmatch(mac):
        raise usage(f"{mac!r} is not a MAC address")
    found = await by_address.endpoint(session.agent(agent_socket), name)
    if found.target.WhichOneof("target") != "interface" or not found.addresses:
        raise Failure(
            f"{name!r} is not an attached VM", status="FAILED_PRECONDITION", reason="NOT_A_VM"
        )
    if seed is None:
        session.out.value(cloud_init.network_config(found, mac.lower()))
        return
    text = await asyncio.to_thread(input_file.content, user_data) if user_data else b""
    files = cloud_init.seed(found, mac.lower(), hostname, text)
    content = await asyncio.to_thread(seed_image.image, files)
    await asyncio.to_thread(private_file.write, seed, content)
    if session.out.for_programs:
        session.out.value({"file": str(seed), "bytes": len(content)})
    else:
        session.out.line(str(seed))
