"""`romana policy test`: are expectations of policies met? Needs no cluster."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.common.errors import InvalidInput
from services.common.terminal.plural import count
from services.ctl.calls.session import Session
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure
from services.ctl.local import input_file

if TYPE_CHECKING:
    from services.policy.explain.trial import Outcome

EXAMPLES = """
    romana policy test examples/policies/tests.yaml
    romana policy test tests/*.yaml -o json
"""


async def test(
    session: Session,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Files with expectations and the policies that they test."
        ),
    ],
) -> ExitCode:
    """Checks expectations of policies without a cluster. Exit code 1: one is not met."""
    found = [(str(file), outcome) for file in files for outcome in outcomes(file)]
    failed = [(file, outcome) for file, outcome in found if not outcome.holds]
    out = session.out
    if out.for_programs:
        out.value(
            [{"file": file, **_plain(outcome), "holds": outcome.holds} for file, outcome in found]
        )
    else:
        for file, outcome in failed:
            for line in lines(file, outcome):
                out.line(line)
        held = len(found) - len(failed)
        session.note(f"{held} of {count(len(found), 'expectation')} met")
    return ExitCode.NEGATIVE if failed else ExitCode.OK


def outcomes(file: Path) -> list[Outcome]:
    """What becomes of the expectations of a file."""
    # policy's engine, which takes longer to import than all that other verbs need
    from services.policy.explain.trial import check_expectations, read_trial  # noqa: PLC0415

    try:
        trial = read_trial(
            input_file.content(file),
            lambda name: input_file.content(file.parent / name),
            source=input_file.called(file),
        )
        return check_expectations(trial)
    except InvalidInput as error:
        raise Failure(
            error.message,
            status="INVALID_ARGUMENT",
            reason=error.reason,
            violations=tuple(error.violations),
        ) from None


def lines(file: str, outcome: Outcome) -> list[str]:
    """An expectation that is not met, line by line."""
    place = f"{file}:{outcome.line}" if outcome.line else f"{file} {outcome.at}"
    return [
        f"{place}: {outcome.source} -> {outcome.destination}, {outcome.asked}",
        f"  - expected {outcome.expected}",
        f"  + found    {outcome.found}",
        *(f"      {line}" for line in outcome.why),
    ]


def _plain(outcome: Outcome) -> dict[str, str | int | list[str]]:
    return {**asdict(outcome), "why": list(outcome.why)}
