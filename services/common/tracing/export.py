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
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.errors import RomanaError
from services.common.process.version import version
from services.common.tls import NAME_OPTION
from services.common.tracing import spans
from services.common.tracing.collector import Collector

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


def exporter(collector: Collector) -> SpanExporter:
    """To a collector.

    Raises:
        InvalidInput: A file of TLS cannot be read.
    """
    return _Renewed(collector) if collector.tls else _to(collector, None)


class _Renewed(SpanExporter):
    """By TLS, with what the files hold now: they may be renewed while the process runs."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._content = collector.files.read()
        self._exporter = _to(collector, grpc.ssl_channel_credentials(*self._content))

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            content = self._collector.files.read()
        except RomanaError:  # while they are replaced
            content = self._content
        if content != self._content:
            self._exporter.shutdown()
            self._content = content
            self._exporter = _to(self._collector, grpc.ssl_channel_credentials(*content))
        return self._exporter.export(batch)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _to(collector: Collector, credentials: grpc.ChannelCredentials | None) -> OTLPSpanExporter:
    # a proxy for the world is not the way to it
    options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
    if collector.server_name:
        options.append((NAME_OPTION, collector.server_name))
    return OTLPSpanExporter(
        collector.address,
        insecure=credentials is None,
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
