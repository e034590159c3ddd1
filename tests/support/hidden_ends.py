"""What grpc.aio's client says of a stream's end when a write failed just then."""

from __future__ import annotations

import grpc
import grpc.aio


def hides_its_end(error: grpc.aio.AioRpcError) -> bool:
    """Says whether it is INTERNAL of grpc's own making, which hides the status that the server sent
    (grpc/grpc#36066). No server of ours ever says that.
    """
    return (
        error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"
    )
