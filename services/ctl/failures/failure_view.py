"""How failures look on stderr: for people as text, for programs as one JSON or YAML document."""

from __future__ import annotations

import json
import sys

from romana.ipam.v1 import utilization_pb2

from services.common.rpc.message_json import plain
from services.common.terminal.table import Column, Screen
from services.ctl.failures.failure import Failure
from services.ctl.views.enum_text import refusal
from services.ctl.views.output import Format, Json

HINTS = {
    "NODE_NOT_FOUND": "`romana node list` names those there are",
    "NETWORK_NOT_FOUND": "`romana network list` names those there are",
    "POLICY_NOT_FOUND": "`romana policy list` names those there are",
    "ENDPOINT_NOT_FOUND": "`romana policy endpoints` names those that policy knows",
    "DEVICE_GROUP_NOT_FOUND": "`romana device list` names those there are",
    "ALLOCATION_NOT_FOUND": "`romana address list` shows what is in use",
    "NAME_TAKEN": "`romana address show NAME` says who has it",
    "NO_ACTIVE_REPLICA": "an election takes about a second; `romana status` shows the outcome",
    "NOT_IN_SYNC": "it reads etcd; if it stays so, look at etcd, and at the service's log",
    "STORE_UNAVAILABLE": "look at etcd, and at the service's setting etcd.endpoints",
    "STORE_OUTCOME_UNKNOWN": "the same again, once etcd is back",
    "ABORTED": "it changed meanwhile: look at it again, then try again",
    "INTERNAL": "this is a defect; the service's log says more",
    "UNKNOWN": "this is a defect; the service's log says more",
}
"""What to do, by reason or gRPC code, where that alone says it."""


def _detail(item: utilization_pb2.NetworkRefusal) -> str:
    if item.refusal == utilization_pb2.REFUSAL_RESTING and item.resting:
        wait = f"{item.resting} rest, the first for {item.retry_after_seconds} s more"
        return f"{item.message}; {wait}" if item.message else wait
    return item.message


EXHAUSTION_COLUMNS: tuple[Column[utilization_pb2.NetworkRefusal], ...] = (
    Column("NETWORK", lambda item: item.network),
    Column("WHY NOT", lambda item: refusal(item.refusal)),
    Column("GROUP", lambda item: item.group),
    Column("DETAIL", _detail),
)


def show(failure: Failure, *, form: Format) -> None:
    if form in {Format.JSON, Format.YAML}:
        sys.stderr.write(json.dumps({"error": document(failure)}, indent=2) + "\n")
        return
    screen = Screen()
    _headline(screen, failure)
    if len(failure.violations) > 1:
        for violation in failure.violations:
            screen.note(f"  {violation.path or 'request'}: {violation.message}")
    for exhaustion in failure.exhaustions:
        screen.note("")
        if len(failure.exhaustions) > 1 or exhaustion.address_index:
            screen.note(f"address {exhaustion.address_index + 1} of the request:")
        screen.problem_table(exhaustion.networks, EXHAUSTION_COLUMNS)
        screen.note("")
    if hint := failure.hint or HINTS.get(failure.reason) or HINTS.get(failure.status):
        screen.note(f"Hint: {hint}")
    if failure.request_id:
        screen.note(f"Request id: {failure.request_id}", style="dim")


def document(failure: Failure) -> dict[str, Json]:
    return {
        "status": failure.status,
        "reason": failure.reason,
        "message": _in_file(failure, failure.message),
        "metadata": dict(sorted(failure.metadata.items())),
        "field_violations": [
            {"field": violation.path, "description": violation.message}
            for violation in failure.violations
        ],
        "exhaustions": [plain(exhaustion) for exhaustion in failure.exhaustions],
        "service": failure.service,
        "request_id": failure.request_id,
        "hint": failure.hint,
        "exit_code": int(failure.exit_code),
    }


def _headline(screen: Screen, failure: Failure) -> None:
    word = failure.reason or failure.status
    wrong = len(failure.violations)
    # a message about several violations repeats the first of them
    message = f"{wrong} things are wrong" if wrong > 1 else failure.message
    screen.note(f"Error: {_in_file(failure, message)} [{word}]", style="bold red")


def _in_file(failure: Failure, message: str) -> str:
    return f"{failure.file}: {message}" if failure.file else message
