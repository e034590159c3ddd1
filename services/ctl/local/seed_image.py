"""A NoCloud seed as cloud-init looks for it: a small ISO 9660 image with the label `cidata`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

LABEL: Final = "cidata"


def image(files: Mapping[str, bytes]) -> bytes:
    """An image with these files in its root, by their names (Rock Ridge and Joliet)."""
    import pycdlib  # noqa: PLC0415  # of the whole command only a seed has to pay for it

    made = pycdlib.PyCdlib()
    made.new(interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    try:
        for number, (name, content) in enumerate(files.items()):
            made.add_fp(
                io.BytesIO(content),
                len(content),
                iso_path=f"/FILE{number}.;1",
                rr_name=name,
                joliet_path=f"/{name}",
            )
        written = io.BytesIO()
        made.write_fp(written)
    finally:
        made.close()
    return written.getvalue()
