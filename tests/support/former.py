"""The version before this one, as a tree of sources that processes run from."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from lab.processes import Program

ROOT = Path(__file__).parents[2]
BASE = "71722740e579f8101d545e993bec52641b6344e3"
"""What stands for the version before 0.1.0, of which nothing was released."""


def revision() -> str:
    """The newest release before this commit, else BASE; empty: this clone does not have it."""
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^")
    found = tag or BASE
    return found if _git("cat-file", "-t", f"{found}^{{commit}}") == "commit" else ""


def unpack(commit: str, folder: Path) -> None:
    """Writes that commit's sources into a folder, with its own API generated."""
    wanted = ("services", "protos", "third_party", "lab")
    archive = subprocess.run(
        ["git", "archive", commit, *wanted], cwd=ROOT, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    protos = folder / "protos"
    sources = [str(path.relative_to(protos)) for path in protos.glob("romana/**/*.proto")]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            *(f"-I{protos}", f"-I{folder / 'third_party' / 'googleapis'}"),
            *(f"--python_out={protos}", f"--grpc_python_out={protos}", *sources),
        ],
        check=True,
        cwd=folder,
    )


def run_from(program: Program, folder: Path) -> Program:
    """The same program of the sources in that folder."""
    # -P: what `python -m` starts must not take this checkout, in which it is started
    path = {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'protos'}", "PYTHONSAFEPATH": "1"}
    return dataclasses.replace(program, environment={**program.environment, **path})


def _git(*words: str) -> str:
    """What git prints; nothing where it fails or there is no repository."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
