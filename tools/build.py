"""Build hook: makes `romana.*` of `protos/` and compiles the CNI plug-in, next to the sources.

Run by hatch at every install (editable or wheel) and, by hand, as `python tools/build.py`. What is
made is never committed. Generated files are rewritten only when their content changes, so that a
repeated run touches nothing. Without a C compiler the plug-in is the Python script beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent


def generate(root: Path = ROOT) -> int:
    """Generates all packages below `root/protos`; returns how many files changed."""
    with tempfile.TemporaryDirectory() as name:
        generate_into(Path(name), root)
        return install(Path(name), root / "protos")


def generate_into(target: Path, root: Path) -> list[str]:
    """Generates all packages below `root/protos` into a folder; returns their sources' names."""
    from grpc_tools import protoc

    protos = root / "protos"
    sources = sorted(str(path.relative_to(protos)) for path in protos.glob("romana/**/*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"-I{protos}",
            f"-I{root / 'third_party' / 'googleapis'}",
            f"-I{resources.files('grpc_tools') / '_proto'}",
            *plugins(),
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
    return sources


def plugins() -> list[str]:
    """Names protoc's plug-ins by path: those of the build's own environment, which pip puts first
    on PATH, else those beside Python, since a virtual environment need not be on PATH."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"
    names = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    return [f"--plugin={name}={shutil.which(name, path=path) or name}" for name in names]


def install(made: Path, target: Path) -> int:
    """Copies what differs from `made` into `target` and removes what is no longer made."""
    changed = 0
    wanted = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    for relative in wanted:
        destination = target / relative
        content = (made / relative).read_bytes()
        if not destination.exists() or destination.read_bytes() != content:
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made / relative, destination)
            changed += 1
    for pattern in ("*.py", "*.pyi"):
        for path in (target / "romana").rglob(pattern):
            if path.relative_to(target) not in wanted:
                path.unlink()
                changed += 1
    return changed


def compile_plugin(root: Path = ROOT) -> bool:
    """Makes the static program of the CNI plug-in; says whether it is there."""
    source = root / "services" / "agent" / "cni" / "plugin.c"
    program = source.with_name("romana-cni")
    compiler = shutil.which("musl-gcc") or shutil.which("cc")
    if compiler is None:
        program.unlink(missing_ok=True)
        print("no C compiler: the CNI plug-in is the Python script", file=sys.stderr)
        return False
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        new = program.with_suffix(".new")
        flags = ("-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror")
        subprocess.run([compiler, *flags, "-o", str(new), str(source)], check=True)
        new.replace(program)
    return True


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate(Path(self.root))
        if compile_plugin(Path(self.root)) and self.target_name == "wheel":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_')}"
        if self.target_name == "wheel" and version == "standard":
            build_data["force_include"]["examples"] = "lab/examples"


if __name__ == "__main__":
    print(f"{generate()} generated files changed", file=sys.stderr)
    compile_plugin()
