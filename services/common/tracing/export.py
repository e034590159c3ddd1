"""Sends spans to a collector by OTLP over gRPC. Imported only if tracing is asked for: the library
is the extra `tracing` of this distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.process.version import version
from services.common.tls import TlsFiles
from services.common.tracing import spans

SECONDS: Final = 5.0
"""For a call to the collector."""
PAUSE: Final = 1.0
"""Seconds between two batches."""
LAST_SECONDS: Final = 2.0
"""At the end of the process."""
_NANO: Final = 1_000_000_000
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class OpenTelemetry:
    """Spans by OpenTelemetry's SDK."""

    def __init__(self, service: str, exporter: SpanExporter, share: float) -> None:
        """`share`: of the traces that begin here; those of callers are followed as they say."""
        resource = Resource.create({SERVICE_NAME: f"romana-{service}", SERVICE_VERSION: version()})
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(share))
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=PAUSE * 1000)
        )
        self._tracer = self._provider.get_tracer("romana")

    def span(
        self, name: str, parent: str, links: Sequence[str], begun: float | None, *, serves: bool
    ) -> AbstractContextManager[None]:
        return self._span(name, parent, links, begun, serves=serves)

    @contextmanager
    def _span(
        self, name: str, parent: str, links: Sequence[str], begun: float | None, *, serves: bool
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            context=_context(parent) if parent else None,
            kind=trace.SpanKind.SERVER if serves else trace.SpanKind.INTERNAL,
            links=_links(links),
            start_time=None if begun is None else int(begun * _NANO),
        ):
            yield

    def begin(self, name: str, parent: str, links: Sequence[str]) -> spans.Open:
        return _Open(self._tracer.start_span(name, context=_context(parent), links=_links(links)))

    def current(self) -> str:
        span = trace.get_current_span()
        return _parent(span) if span.is_recording() else ""

    def stop(self) -> None:
        self._provider.force_flush(int(LAST_SECONDS * 1000))
        self._provider.shutdown()


class _Open:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def parent(self) -> str:
        return _parent(self._span)

    def end(self) -> None:
        self._span.end()


def exporter(endpoint: str, tls: TlsFiles | None) -> SpanExporter:
    """To a collector at `host:port`."""
    credentials = None
    # a proxy for the world is not the way to it
    options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
    if tls is not None:
        options += tls.channel_options
        credentials = grpc.ssl_channel_credentials(
            tls.ca.read_bytes(), tls.key.read_bytes(), tls.certificate.read_bytes()
        )
    return OTLPSpanExporter(
        endpoint,
        insecure=tls is None,
        credentials=credentials,
        timeout=SECONDS,
        channel_options=tuple(options),  # type: ignore[arg-type]  # it says that values are text
    )


def _context(parent: str) -> Context:
    return _PROPAGATOR.extract({spans.KEY: parent}, Context())


def _links(parents: Sequence[str]) -> list[trace.Link]:
    found = (trace.get_current_span(_context(parent)).get_span_context() for parent in parents)
    return [trace.Link(each) for each in found]


def _parent(span: trace.Span) -> str:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get(spans.KEY, "")
