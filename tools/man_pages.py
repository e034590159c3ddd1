"""man_pages FOLDER: writes romana(1), and a page for each noun, from the help of the command."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from services.common.process.version import version
from services.ctl.failures.exit_codes import EPILOG
from services.ctl.main import HELP, NOUNS, root

NAME, _, _ = HELP.partition("\n")


def page(title: str, summary: str, body: Iterator[str]) -> str:
    head = [
        f'.TH {title.upper()} 1 "" "romana {version()}" "Romana"',
        *(".nh", ".SH NAME", f"{escaped(title)} \\- {escaped(summary.rstrip('.'))}"),
    ]
    return "\n".join([*head, *body]) + "\n"


def escaped(text: str) -> str:
    """As plain text of roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in text.split("\n"))


def prose(text: str) -> Iterator[str]:
    """Help, whose paragraphs after a line with \\b alone keep their lines."""
    for paragraph in filter(None, text.strip().split("\n\n")):
        kept = paragraph.startswith("\b")
        lines = [line for line in paragraph.strip("\b\n").split("\n") if line]
        yield ".PP"
        if kept:
            yield from (".nf", *(escaped(line) for line in lines), ".fi")
        else:
            yield escaped(" ".join(line.strip() for line in lines))


def options(command: Any, name: str) -> Iterator[str]:
    """Usage, text and options of a verb."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (".PP", f".B {escaped(name)}", escaped(usage))
    yield from prose(command.help or "")
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    for record in filter(None, records):
        yield from (".TP", f".B {escaped(record[0])}", escaped(record[1]))


def noun_body(noun: str) -> Iterator[str]:
    module, _ = NOUNS[noun]
    app: typer.Typer = importlib.import_module(f"services.ctl.verbs.{module}").app
    command: Any = typer.main.get_command(app)
    verbs = getattr(command, "commands", None)
    if verbs is None:
        yield ".SH DESCRIPTION"
        yield from options(command, f"romana {noun}")
    else:
        yield ".SH DESCRIPTION"
        yield from prose(command.help or "")
        for name, verb in verbs.items():
            if not verb.hidden:
                yield f'.SH "{escaped(name.upper())}"'
                yield from options(verb, f"romana {noun} {name}")
    yield from (".SH SEE ALSO", ".BR romana (1)")


def root_body() -> Iterator[str]:
    yield from (".SH SYNOPSIS", ".B romana", escaped("NOUN VERB [OPTIONS]"), ".SH DESCRIPTION")
    yield from prose(HELP.partition("\n")[2])
    yield ".SH NOUNS"
    for noun, (_, summary) in NOUNS.items():
        yield from (".TP", f".BR romana\\-{escaped(noun)} (1)", escaped(summary))
    yield ".SH EXIT CODES"
    yield from prose(EPILOG)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    assert root().name == "romana"
    (folder / "romana.1").write_text(page("romana", NAME, root_body()))
    for noun, (_, summary) in NOUNS.items():
        text = page(f"romana-{noun}", summary, noun_body(noun))
        (folder / f"romana-{noun}.1").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
