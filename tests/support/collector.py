"""A collector of spans in the test's own process, by OTLP over gRPC."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from services.common.tls import TlsFiles

PAUSE = 0.1


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: bytes
    id: bytes
    parent: bytes
    begun: int
    """Unix time in nanoseconds."""
    ended: int


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - named by the API
        found = [
            Span(
                _service(resource),
                span.name,
                span.trace_id,
                span.span_id,
                span.parent_span_id,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.spans += found
        return pb.ExportTraceServiceResponse()

    def below(self, root: str) -> set[tuple[str, str]]:
        """Services and names of all spans that descend from one of that name, with itself."""
        with self._lock:
            spans = list(self.spans)
        ids = {span.id for span in spans if span.name == root}
        more = True
        while more:
            found = {span.id for span in spans if span.parent in ids}
            more, ids = not found <= ids, ids | found
        return {(span.service, span.name) for span in spans if span.id in ids}

    def wait(self, root: str, expected: set[tuple[str, str]], seconds: float) -> None:
        """Returns when all of these have come that descend from `root`."""
        end = time.monotonic() + seconds
        while missing := expected - self.below(root):
            assert time.monotonic() < end, f"{missing} not among {sorted(self.below(root))}"
            time.sleep(PAUSE)


def _service(resource: Any) -> str:
    values = {item.key: item.value.string_value for item in resource.resource.attributes}
    return values.get("service.name", "")


@contextlib.contextmanager
def collecting(path: Path) -> Iterator[Collector]:
    """A collector on a Unix socket, which is reached from any network namespace."""
    with _serving(f"unix:{path}", None) as (collector, _):
        yield collector


@contextlib.contextmanager
def collecting_with_tls(
    files: TlsFiles, *, address: str = "127.0.0.1:0", asks: bool = False
) -> Iterator[tuple[Collector, str]]:
    """A collector with a certificate, and its address; `asks`: for its clients' certificates."""
    credentials = grpc.ssl_server_credentials(
        [(files.key.read_bytes(), files.certificate.read_bytes())],
        root_certificates=files.ca.read_bytes() if asks else None,
        require_client_auth=asks,
    )
    with _serving(address, credentials) as (collector, port):
        yield collector, f"127.0.0.1:{port}"


@contextlib.contextmanager
def _serving(
    address: str, credentials: grpc.ServerCredentials | None
) -> Iterator[tuple[Collector, int]]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = (
        server.add_insecure_port(address)
        if credentials is None
        else server.add_secure_port(address, credentials)
    )
    assert port
    server.start()
    try:
        yield collector, port
    finally:
        server.stop(0).wait()
