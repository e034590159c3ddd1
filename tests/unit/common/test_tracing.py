"""Which spans there are, and what they cost when nobody asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common.errors import InvalidInput
from services.common.process.logs import current_request
from services.common.process.settings import TracesSettings
from services.common.rpc.request_id import passed_on
from services.common.tracing import spans, starting
from services.common.tracing.collector import CollectorFiles, collector
from services.common.tracing.export import OpenTelemetry

GIVEN = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


class Traced:
    def __init__(self, share: float = 1.0) -> None:
        self.exporter = InMemorySpanExporter()
        self._tracer = OpenTelemetry("test", self.exporter, share)
        spans.use(self._tracer)

    def spans(self) -> dict[str, ReadableSpan]:
        """By name."""
        self._tracer._provider.force_flush()
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traced() -> Iterator[Traced]:
    yield Traced()
    spans.stop()


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def test_without_a_tracer_there_is_nothing() -> None:
    with spans.span("a", parent=GIVEN), spans.child("b"), spans.shared("c", [GIVEN]):
        assert spans.current() == ""
        assert spans.begin("d", [GIVEN]) is None
    spans.heard(1, GIVEN.encode())
    assert spans.changes(0, 9) == []
    starting.start("test", None)
    assert not spans.is_on()


def test_a_span_goes_on_with_the_callers_trace(traced: Traced) -> None:
    with spans.span("served", parent=GIVEN, serves=True), spans.child("inner"):
        assert spans.current().startswith(GIVEN[:36])
    found = traced.spans()
    assert parent_of(found["served"]) == int(GIVEN[36:52], 16)
    assert parent_of(found["inner"]) == id_of(found["served"])


def test_a_child_without_a_span_is_nothing(traced: Traced) -> None:
    with spans.child("alone"), spans.shared("for nobody", ["", ""]):
        pass
    assert traced.spans() == {}


def test_what_is_done_for_several_belongs_to_the_first_with_links(traced: Traced) -> None:
    with spans.span("one"):
        one = spans.current()
    with spans.span("two"):
        two = spans.current()
    with spans.shared("both", [one, "", two, one]):
        pass
    found = traced.spans()
    assert parent_of(found["both"]) == id_of(found["one"])
    assert [link.context.span_id for link in found["both"].links] == [id_of(found["two"])]


def test_an_open_span_is_nobodys_current_one(traced: Traced) -> None:
    opened = spans.begin("stream", [GIVEN])
    assert opened is not None
    assert spans.current() == ""
    with spans.span("apply", parent=opened.parent):
        pass
    opened.end()
    found = traced.spans()
    assert parent_of(found["apply"]) == id_of(found["stream"])


def test_what_callers_do_not_record_is_not_recorded(traced: Traced) -> None:
    with spans.span("served", parent=f"{GIVEN[:-1]}0"):
        assert spans.current() == ""
    assert traced.spans() == {}


def test_a_share_of_nothing_begins_no_trace_and_follows_those_of_callers() -> None:
    traced = Traced(share=0.0)
    with spans.span("own"), spans.child("inner"):
        pass
    with spans.span("followed", parent=GIVEN):
        pass
    assert set(traced.spans()) == {"followed"}
    spans.stop()


def test_changes_are_known_by_revision(traced: Traced) -> None:
    for revision, value in (
        (3, GIVEN.encode()),
        (4, b"1"),
        (5, b"00-x"),
        (6, GIVEN[::-1].encode()),
    ):
        spans.heard(revision, value)
    assert spans.changes(2, 3) == [GIVEN]
    assert spans.changes(3, 9) == []


def test_what_is_asked_of_others_carries_the_span(traced: Traced) -> None:
    token = current_request.set("r1")
    try:
        with spans.span("served"):
            metadata = passed_on()
            assert spans.of_metadata(metadata) == spans.current() != ""
        assert dict(passed_on()) == {"x-request-id": "r1"}
    finally:
        current_request.reset(token)  # else it is that of later tests


@pytest.mark.parametrize("value", ["", "nonsense", GIVEN + "0"])
def test_what_a_caller_says_may_be_nonsense(traced: Traced, value: str) -> None:
    with spans.span("served", parent=spans.of_metadata([(spans.KEY, value)])):
        pass
    assert traced.spans()["served"].parent is None


def test_other_machines_are_not_told_in_the_clear() -> None:
    with pytest.raises(ValueError, match=r"https://10\.0\.0\.5:4317 reaches it with TLS"):
        TracesSettings(endpoint="10.0.0.5:4317")
    assert TracesSettings(endpoint="10.0.0.5:4317", insecure=True).endpoint
    assert TracesSettings(endpoint="127.0.0.1:4317").endpoint
    assert TracesSettings(endpoint="https://10.0.0.5:4317").endpoint


@pytest.mark.parametrize(
    ("endpoint", "files", "tls"),
    [
        ("127.0.0.1:4317", CollectorFiles(), False),
        ("unix:/run/otlp.sock", CollectorFiles(), False),
        ("http://localhost:4317", CollectorFiles(), False),
        ("https://collector.example:4317", CollectorFiles(), True),
        ("https://127.0.0.1:4317/", CollectorFiles(), True),
        ("10.0.0.5:4317", CollectorFiles(ca=Path("/ca.pem")), True),
    ],
)
def test_a_collector_is_reached_with_tls_if_anything_says_so(
    endpoint: str, files: CollectorFiles, *, tls: bool
) -> None:
    found = collector(endpoint, files)
    assert found.tls == tls
    assert "//" not in found.address
    assert found.address in endpoint


@pytest.mark.parametrize("endpoint", ["https://", "nonsense", "http://10.0.0.5"])
def test_a_collector_has_an_address(endpoint: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        TracesSettings(endpoint=endpoint)


def test_a_collectors_certificate_and_key_come_together() -> None:
    with pytest.raises(InvalidInput, match="come together"):
        collector("https://10.0.0.5:4317", CollectorFiles(key=Path("/me.key")))
