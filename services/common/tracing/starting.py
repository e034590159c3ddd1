"""Begins tracing in a process, if it is asked for."""

from __future__ import annotations

from services.common.errors import WrongState
from services.common.tracing import spans
from services.common.tracing.collector import Collector


def start(service: str, collector: Collector | None, *, share: float = 1.0) -> None:
    """Traces to a collector from now on; nothing if there is none.

    Raises:
        WrongState: What it takes is not installed.
        InvalidInput: A file of TLS cannot be read.
    """
    if collector is None:
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
    spans.use(OpenTelemetry(service, exporter(collector), share))
