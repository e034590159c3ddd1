"""How the command ends: the exit codes, and the gRPC codes and errors behind them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    NEGATIVE = 1
    """The answer is no: the check found errors, nothing fits, not everything serves."""
    INVALID = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    INTERNAL = 70
    """EX_SOFTWARE of sysexits.h."""
    OUTPUT = 74
    """EX_IOERR: done, but what was to be said of it did not get out."""


EPILOG = """\b
Exit codes:
   0  done
   1  the answer is no: a check found errors, nothing fits, something does not serve
   2  wrong usage or invalid input
   3  not found
   4  refused by the state: exists, in use, exhausted, conflict, forbidden
   5  unreachable, unavailable, or no answer in time
  70  a defect
  74  done, but the output could not be written
 130  interrupted by Ctrl-C
"""

BY_STATUS = {
    "OK": ExitCode.OK,
    "INVALID_ARGUMENT": ExitCode.INVALID,
    "OUT_OF_RANGE": ExitCode.INVALID,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "ALREADY_EXISTS": ExitCode.REFUSED,
    "RESOURCE_EXHAUSTED": ExitCode.REFUSED,
    "FAILED_PRECONDITION": ExitCode.REFUSED,
    "ABORTED": ExitCode.REFUSED,
    "PERMISSION_DENIED": ExitCode.REFUSED,
    "UNAUTHENTICATED": ExitCode.REFUSED,
    "UNAVAILABLE": ExitCode.UNREACHABLE,
    "DEADLINE_EXCEEDED": ExitCode.UNREACHABLE,
    "CANCELLED": ExitCode.UNREACHABLE,
    "UNIMPLEMENTED": ExitCode.UNREACHABLE,  # another service listens there, or an older one
}
"""By name of the gRPC code; every other one is INTERNAL."""


def exit_code(status: str) -> ExitCode:
    """The exit code for a gRPC code's name."""
    return BY_STATUS.get(status, ExitCode.INTERNAL)
