"""Files that only their owner may read."""

from __future__ import annotations

import os
from pathlib import Path

from services.ctl.failures.failure import Failure


def write(path: Path, content: bytes) -> None:
    """Writes the file whole or not at all; raises Failure."""
    made = path.with_name(f".{path.name}.new")
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise Failure(
            f"{path} cannot be written: {error.strerror}",
            status="FAILED_PRECONDITION",
            reason="FILE_UNWRITABLE",
        ) from error
