"""Client channels, the same for all clients: CLI, agents, forwarding between replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc.aio

from services.common.errors import InvalidInput
from services.common.grpc_channel import make_channel
from services.common.rpc.options import CLIENT_OPTIONS
from services.common.socket_address import UnixAddress, parse_address
from services.common.tls import FollowedFiles, TlsFiles

_ON_A_PATH: Final[Sequence[tuple[str, int | str]]] = (
    ("grpc.ssl_target_name_override", "localhost"),
)
"""A path is no name that a certificate could bear."""


def open_channel(
    target: str, *, tls: TlsFiles | None = None, insecure: bool = False, program: str = ""
) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:/path`; it connects when it is first used.

    Args:
        target: Where the server listens.
        tls: Files; without them only this machine is reached in the clear.
        insecure: Says that the clear is meant, wherever the server is.
        program: What the caller calls itself, for records of changes; empty: nothing.

    Raises:
        InvalidInput: No address, or one that needs TLS.
    """
    address = parse_address(target)
    common = (*CLIENT_OPTIONS, *((("grpc.primary_user_agent", program),) if program else ()))
    if tls is not None:
        name = _ON_A_PATH if isinstance(address, UnixAddress) else tls.channel_options
        options = (*common, *name)
        return make_channel(str(address), FollowedFiles(tls), options)
    if not (address.is_local or insecure):
        raise InvalidInput(
            f"{target} is not on this machine: give TLS files, or --insecure to do without",
            "INSECURE_TARGET",
        )
    return make_channel(str(address), None, common)
