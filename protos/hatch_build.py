"""Build hook of `romana-api`: generates `romana.*` into the wheel, and nothing beside the sources.

With the oldest generator whose code runs on every protobuf and grpcio that the wheel allows: code
that is generated later refuses older runtimes.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        from grpc_tools import protoc

        self._made = tempfile.TemporaryDirectory(prefix="romana-api-")
        target = Path(self._made.name)
        sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("romana/**/*.proto"))
        stubs = Path(sys.executable).parent / "protoc-gen-mypy"
        status = protoc.main(
            [
                "protoc",
                f"-I{ROOT}",
                f"-I{ROOT.parent / 'third_party' / 'googleapis'}",
                f"-I{resources.files('grpc_tools') / '_proto'}",
                f"--plugin=protoc-gen-mypy={stubs}",
                f"--plugin=protoc-gen-mypy_grpc={stubs}_grpc",
                f"--python_out={target}",
                f"--grpc_python_out={target}",
                f"--mypy_out=quiet:{target}",
                f"--mypy_grpc_out=quiet:{target}",
                *sources,
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status}")
        for folder in {path.parent for path in target.rglob("*_pb2.py")}:
            for package in (folder, *folder.parents):
                if package.is_relative_to(target / "romana"):
                    (package / "__init__.py").touch()
        (target / "romana" / "py.typed").touch()
        for source in sources:
            (target / source).write_bytes((ROOT / source).read_bytes())
        build_data["force_include"][str(target / "romana")] = "romana"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._made.cleanup()
