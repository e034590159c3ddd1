"""What reaches the top of the command: a failure from before a verb began, or a defect."""

from __future__ import annotations

import os
import sys
import traceback

from services.common.errors import RomanaError
from services.ctl.failures import failure, failure_view
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.views.output import Format


def exit_code_of(error: Exception) -> ExitCode:
    """Tells people of an error, and with which code the command ends."""
    if isinstance(error, RomanaError):
        error = failure.of_error(error)
    if isinstance(error, failure.Failure):
        failure_view.show(error, form=Format.TABLE)
        return error.exit_code
    if os.environ.get("ROMANA_DEBUG"):
        traceback.print_exception(error)
    else:
        sys.stderr.write(
            f"Error: this is a defect in romana: {type(error).__name__}: {error}\n"
            "Hint: the same again with ROMANA_DEBUG=1 shows where\n"
        )
    return ExitCode.INTERNAL
