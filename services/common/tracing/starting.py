"""Begins tracing in a process, if it is asked for."""

from __future__ import annotations

from services.common.errors import WrongState
from services.common.tls import TlsFiles
from services.common.tracing import spans


def start(service: str, endpoint: str, *, share: float = 1.0, tls: TlsFiles | None = None) -> None:
    """Traces to the collector at `endpoint` from now on; nothing if that is empty.

    Raises:
        WrongState: What it takes is not installed.
    """
    if not endpoint:
        return
    try:
        from services.common.tracing.export import (  # noqa: PLC0415  # an extra that few install
            OpenTelemetry,
            exporter,
        )
    except ImportError as error:
        raise WrongState(
            f"tracing needs OpenTelemetry ({error}): pip install 'romana[tracing]'",
            "TRACING_NOT_INSTALLED",
        ) from error
    spans.use(OpenTelemetry(service, exporter(endpoint, tls), share))
