"""The one place that makes a gRPC channel: to a service, an agent or a member of etcd.

What a channel must never take from the environment is turned off here, for all of them. ruff
refuses `grpc.aio.insecure_channel` and `secure_channel` elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc
import grpc.aio

from services.common.renewing_channel import RenewingChannel
from services.common.tls import FollowedFiles

_ALWAYS: Final = (
    # a proxy that is set for the world is no way to the machine next door
    ("grpc.enable_http_proxy", 0),
)


def make_channel(
    target: str,
    files: FollowedFiles | None,
    options: Sequence[tuple[str, int | str]],
) -> grpc.aio.Channel:
    """A channel that connects when it is first used; without files, in the clear."""
    given = (*options, *_ALWAYS)
    if files is None:
        return grpc.aio.insecure_channel(target, options=given)  # noqa: TID251

    def make(credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, credentials, options=given)  # noqa: TID251

    return RenewingChannel(files, make)


def make_blocking_channel(
    target: str,
    files: FollowedFiles | None,
    options: Sequence[tuple[str, int | str]],
) -> grpc.Channel:
    """The same for a thread without an event loop; goes on with the files of this moment."""
    given = (*options, *_ALWAYS)
    if files is None:
        return grpc.insecure_channel(target, options=given)  # noqa: TID251
    credentials = files.current().channel_credentials()
    return grpc.secure_channel(target, credentials, options=given)  # noqa: TID251
