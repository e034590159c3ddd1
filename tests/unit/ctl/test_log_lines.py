from __future__ import annotations

import json

from services.ctl.views.log_lines import compact


def test_a_log_line_is_its_time_event_and_details() -> None:
    line = json.dumps(
        {
            "event": "rpc_serving",
            "serving": True,
            "request": "r-1",
            "level": "info",
            "timestamp": "2026-11-23T19:11:31.164144Z",
            "service": "ipam",
            "version": "1",
        }
    )
    assert compact("ipam", line).plain == "ipam     19:11:31 rpc_serving serving=true request=r-1"


def test_a_traceback_follows_its_line() -> None:
    line = json.dumps({"event": "failed", "level": "error", "exception": "Traceback\n  x"})
    assert compact("ipam", line).plain.splitlines()[1:] == ["Traceback", "  x"]


def test_what_is_no_log_line_is_shown_as_it_is() -> None:
    for line in ("Traceback (most recent call last):", "[1, 2]", '{"a": 1}', ""):
        assert compact("topology", line).plain == f"topology {line}"
