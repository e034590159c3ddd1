#!/usr/bin/env python3
"""make_image.py ROOTFS PROBE FILE: an image for `ctr images import`, of unpacked Debian packages.

Without a command it does nothing, so it is the pause container, too.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile
from pathlib import Path

NAME = "test.local/box:1"
KEEP = (
    "bin/busybox", "usr/bin/python3.11", "usr/lib/python3.11/", "lib/", "lib64/",
    "usr/lib/x86_64-linux-gnu/", "usr/lib/aarch64-linux-gnu/",
)  # fmt: skip
DROP = (
    "/gconv/", "/test/", "/idlelib/", "/ensurepip/", "/pydoc_data/", "/lib2to3/", "/distutils/",
    "/audit/", "/perl",
)  # fmt: skip
APPLETS = "sh ls cat sleep ip ping wget nc ps mount env hostname kill"
PASSWD = b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"


def add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(content)
    tar.addfile(entry, io.BytesIO(content))


def link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def layer(root: Path, probe: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if name.startswith(KEEP) and not any(part in f"/{name}/" for part in DROP):
                tar.add(path, f"./{name}", recursive=False)
        for applet in APPLETS.split():
            link(tar, f"./bin/{applet}", "busybox")
        link(tar, "./usr/bin/python3", "python3.11")
        add(tar, "./bin/probe", probe.read_bytes(), 0o755)
        add(tar, "./etc/passwd", PASSWD)
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(target: Path, names: list[str], layers: list[bytes], config: dict[str, object]) -> None:
    """An archive with one image."""
    described = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
            "os": "linux",
            "config": config,
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{digest(content)}" for content in layers],
            },
        }
    ).encode()
    files = {f"layer-{number}.tar": content for number, content in enumerate(layers)}
    name = f"{digest(described)}.json"
    manifest = [{"Config": name, "RepoTags": names, "Layers": list(files)}]
    part = target.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        add(tar, name, described)
        for file, content in files.items():
            add(tar, file, content)
        add(tar, "manifest.json", json.dumps(manifest).encode())
    part.rename(target)


def main() -> None:
    root, probe, target = map(Path, sys.argv[1:])
    config: dict[str, object] = {
        "Cmd": ["/bin/sleep", "2147483647"],
        "Env": ["PATH=/bin:/usr/bin", "PYTHONDONTWRITEBYTECODE=1"],
    }
    write(target, [NAME], [layer(root, probe)], config)


if __name__ == "__main__":
    main()
