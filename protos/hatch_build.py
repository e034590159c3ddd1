"""Build hook of `romana-api`: generates `romana.*` into the wheel, and nothing beside the sources.

With the oldest generator whose code runs on every protobuf and grpcio that the wheel allows: code
that is generated later refuses older runtimes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent / "tools"))

from build import generate_into  # noqa: E402 - of this checkout


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._made = tempfile.TemporaryDirectory(prefix="romana-api-")
        target = Path(self._made.name)
        sources = generate_into(target, ROOT.parent)
        for source in sources:
            (target / source).write_bytes((ROOT / source).read_bytes())
        build_data["force_include"][str(target / "romana")] = "romana"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._made.cleanup()
