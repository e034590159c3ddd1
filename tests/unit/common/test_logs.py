from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from services.common.process.logs import (
    LogEntry,
    configure_logs,
    current_request,
    write_entries,
)
from services.common.process.version import version


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_the_service_and_a_utc_time() -> None:
    stream = io.StringIO()
    configure_logs("ipam", stream=stream)
    structlog.get_logger().info("block_taken", network="net1")

    (line,) = lines(stream)
    assert line["event"] == "block_taken"
    assert line["network"] == "net1"
    assert (line["service"], line["version"], line["level"]) == ("ipam", version(), "info")
    assert datetime.fromisoformat(str(line["timestamp"])).utcoffset() == timedelta(0)


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure_logs("ipam", level="warning", stream=stream)
    structlog.get_logger().info("block_taken")
    logging.getLogger("grpc").info("chatter")

    assert stream.getvalue() == ""


def test_libraries_log_the_same_way_under_a_constant_event() -> None:
    stream = io.StringIO()
    configure_logs("ipam", stream=stream)
    logging.getLogger("grpc.aio").warning("sent %d", 5)

    (line,) = lines(stream)
    assert line["event"] == "library_log"
    assert (line["logger"], line["message"], line["service"]) == ("grpc.aio", "sent 5", "ipam")


def test_an_exception_is_one_line_with_its_traceback() -> None:
    stream = io.StringIO()
    configure_logs("ipam", stream=stream)
    try:
        int("seven")
    except ValueError:
        structlog.get_logger().exception("failed")

    (line,) = lines(stream)
    assert "ValueError: invalid literal" in str(line["exception"])


def test_a_line_of_a_call_has_its_request_id() -> None:
    stream = io.StringIO()
    configure_logs("ipam", stream=stream)
    token = current_request.set("req-7")
    structlog.get_logger().info("block_taken")
    current_request.reset(token)
    structlog.get_logger().info("block_taken")

    assert [line.get("request_id") for line in lines(stream)] == ["req-7", None]


def test_a_terminal_gets_text() -> None:
    stream = Terminal()
    configure_logs("ipam", stream=stream)
    structlog.get_logger().info("block_taken")

    assert "block_taken" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_json_may_be_asked_for_on_a_terminal() -> None:
    stream = Terminal()
    configure_logs("ipam", format="json", stream=stream)
    structlog.get_logger().info("block_taken")

    assert lines(stream)


class Given(LogEntry, frozen=True, kw_only=True):
    event: str = "given"
    address: str


def test_entries_have_the_form_of_other_lines() -> None:
    stream = io.StringIO()
    configure_logs("ipam", stream=stream)
    write_entries([Given(address="10.0.0.1", request_id='a"b'), Given(address="10.0.0.2")])
    structlog.get_logger().info("given", address="10.0.0.3", request_id="")

    first, second, other = lines(stream)
    assert (first["address"], first["request_id"]) == ("10.0.0.1", 'a"b')
    assert second["address"] == "10.0.0.2"
    assert set(first) == set(second) == set(other)
    assert (first["level"], first["service"], first["version"]) == (
        other["level"], other["service"], other["version"],
    )  # fmt: skip
    assert len(str(first["timestamp"])) == len(str(other["timestamp"]))


def test_entries_are_dropped_with_their_level_and_readable_on_a_terminal() -> None:
    quiet, terminal = io.StringIO(), Terminal()
    configure_logs("ipam", level="warning", stream=quiet)
    write_entries([Given(address="10.0.0.1")])
    assert quiet.getvalue() == ""
    structlog.reset_defaults()
    configure_logs("ipam", stream=terminal)
    write_entries([Given(address="10.0.0.1")])
    assert "given" in terminal.getvalue()
    assert "10.0.0.1" in terminal.getvalue()
