"""The topology of the setting `initial_topology`."""

from __future__ import annotations

from pathlib import Path

from services.common.errors import InvalidInput
from services.topology.forms.apply_request import ApplyRequest
from services.topology.forms.builtin import Builtin, builtin
from services.topology.forms.file import read_document


def read_initial(name: str) -> ApplyRequest:
    """A built-in name, or the path of a file.

    Raises:
        InvalidInput: it cannot be read.
    """
    if name in set(Builtin):
        return ApplyRequest.of(builtin(Builtin(name)))
    try:
        text = Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput.at("initial_topology", f"cannot read {name}: {error}") from error
    return read_document(text)
