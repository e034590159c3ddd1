"""Romana's images for the test cluster, which has neither Docker nor a registry.

One image under the names of all targets of compose/Dockerfile: the test image, and on it the
packages of requirements/runtime.lock as they are installed here, these sources, and Debian's etcd.
"""

from __future__ import annotations

import io
import re
import sysconfig
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Final

from tests.kubernetes.make_image import add, write

ROOT: Final = Path(__file__).parents[2]
NAMES: Final = [f"docker.io/romana/{name}:test" for name in ("service", "agent", "etcd")]
_AT: Final = "opt/romana"
_ROMANA: Final = b"""#!/usr/bin/python3
import sys
from services.ctl.main import run
sys.exit(run())
"""
_PROGRAMS: Final = ("/usr/bin/etcd", "/usr/bin/etcdctl")
_LIBRARIES: Final = ("libgcc_s.so.1", "libstdc++.so.6")
"""Of wheels."""
_FOLDERS: Final = (("services", "services"), ("protos/romana", "romana"))


def make(box: Path, target: Path) -> None:
    """Writes the archive; `box` is that of the test image."""
    with tarfile.open(box) as tar:
        found = next(name for name in tar.getnames() if name.endswith(".tar"))
        below = tar.extractfile(found)
        assert below is not None
        first = below.read()
    config: dict[str, object] = {
        "Env": [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE=1",
            f"PYTHONPATH=/{_AT}",
            "ETCDCTL_API=3",
        ]
    }
    write(target, NAMES, [first, _layer()], config)


def _layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for package in _packages():
            _add_package(tar, package)
        for source, name in _FOLDERS:
            for path in sorted((ROOT / source).rglob("*")):
                if path.suffix not in {".proto", ".pyi"}:
                    inner = path.relative_to(ROOT / source)
                    tar.add(path, f"./{_AT}/{name}/{inner}", recursive=False)
        add(tar, "./usr/local/bin/romana", _ROMANA, 0o755)
        script = ROOT / "compose/image/writable-sysctls"
        add(tar, "./usr/local/bin/writable-sysctls", script.read_bytes(), 0o755)
        for program in _PROGRAMS:
            add(tar, f".{program}", Path(program).read_bytes(), 0o755)
        libraries = Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH"))
        for library in _LIBRARIES:
            content = (libraries / library).read_bytes()
            add(tar, f".{libraries}/{library}", content, 0o755)
    return buffer.getvalue()


def _packages() -> list[metadata.Distribution]:
    """What the lock names, but for what belongs to other systems; and this very package."""
    text = (ROOT / "requirements/runtime.lock").read_text()
    names = re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)
    there = {str(found.name).lower().replace("_", "-"): found for found in metadata.distributions()}
    return [there[name] for name in (*names, "romana") if name in there]


def _add_package(tar: tarfile.TarFile, package: metadata.Distribution) -> None:
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if ".." not in file.parts and file.suffix != ".pth" and path.exists():
            tar.add(path, f"./{_AT}/{file}", recursive=False)
