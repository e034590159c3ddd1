"""The example files: those of the checkout, or those that the wheel brought into this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

LAB: Final = Path(__file__).parent
_IN_WHEEL: Final = LAB / "examples"
EXAMPLES: Final = _IN_WHEEL if _IN_WHEEL.is_dir() else LAB.parent / "examples"
CLUSTERS: Final = LAB / "clusters"


def files() -> Mapping[str, Path]:
    """Each example by its path in a checkout, which is the one that documents name."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in (("examples", EXAMPLES), ("lab/clusters", CLUSTERS))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
