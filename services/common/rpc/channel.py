"""Client channels, the same for all clients: CLI, agents, forwarding between replicas."""

from __future__ import annotations

import grpc.aio

from services.common.errors import InvalidInput
from services.common.rpc.options import CLIENT_OPTIONS
from services.common.socket_address import parse_address
from services.common.tls import TlsFiles


def open_channel(
    target: str, *, tls: TlsFiles | None = None, insecure: bool = False
) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:/path`; it connects when it is first used.

    Args:
        target: Where the server listens.
        tls: Files; without them only this machine is reached in the clear.
        insecure: Says that the clear is meant, wherever the server is.

    Raises:
        InvalidInput: No address, or one that needs TLS.
    """
    address = parse_address(target)
    if tls is not None:
        return grpc.aio.secure_channel(
            str(address), tls.channel_credentials(), options=CLIENT_OPTIONS
        )
    if not (address.is_local or insecure):
        raise InvalidInput(
            f"{target} is not on this machine: give TLS files, or --insecure to do without",
            "INSECURE_TARGET",
        )
    return grpc.aio.insecure_channel(str(address), options=CLIENT_OPTIONS)
