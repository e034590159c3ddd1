"""`romana examples`: the files that the documents' commands read, for who has no checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab import example_files
from services.common.errors import AlreadyExists
from services.common.terminal.table import Screen
from services.ctl.calls.verb import finish, single
from services.ctl.views.output import Format

app = single()


@app.command("examples")
def examples(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", file_okay=False, help="Where to write them.")
    ] = Path(),
) -> None:
    """Writes the example files into a folder, by default the current one.

    They get the paths that the documents name: examples/datacenter.yaml,
    lab/clusters/datacenter.yaml. A file that is there with other content is left alone, and then
    nothing is written.

    \b
    Examples:
      romana examples
      romana examples /tmp/romana
    """

    async def main() -> None:
        wanted = {folder / name: path.read_bytes() for name, path in example_files.files().items()}
        for path, content in wanted.items():
            if path.exists() and path.read_bytes() != content:
                raise AlreadyExists(f"{path} is there, and has other content", "FILE_EXISTS")
        for path, content in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        Screen().note(f"{len(wanted)} example files are in {folder.resolve()}")

    finish(main, form=Format.TABLE)
