"""`romana version`."""

from __future__ import annotations

import platform
from importlib import metadata

from services.common.process.version import version as installed
from services.ctl.calls.session import Session
from services.ctl.calls.verb import single, verb

app = single()


@verb(app, "version", examples="romana version -o json")
async def version(session: Session) -> None:
    """Shows the versions of this command, of Python and of gRPC."""
    versions = {
        "romana": installed(),
        "python": platform.python_version(),
        "grpc": metadata.version("grpcio"),
    }
    if session.out.for_programs:
        session.out.value({**versions})
    else:
        for name, number in versions.items():
            session.out.line(f"{name} {number}")
