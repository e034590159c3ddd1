"""The command, run by a user who is not root, wherever this interpreter and this project are.

Both may be in a folder that only root can enter, so that they are bound to where anybody can.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOBODY = "65534"
PLACES = {"python": Path(sys.base_prefix), "packages": Path(sysconfig.get_path("purelib"))}


@dataclass(frozen=True)
class Nobody:
    """A user without rights."""

    home: Path
    """Where it may write, and others may not read."""

    def romana(
        self, *arguments: str, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end, in the user's home."""
        places = {**PLACES, "project": ROOT}
        bind = " && ".join(f'mount --bind "{path}" {name}' for name, path in places.items())
        at = self.home.parent
        python = Path("python") / "bin" / Path(sys.executable).resolve().name
        rights = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --no-new-privs --"
        script = f'{bind} && cd "$HOME" && exec {rights} {at / python} -m services.ctl.main "$@"'
        path = ":".join(str(at / name) for name in ("project", "project/protos", "packages"))
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "romana", *arguments],
            cwd=at,
            env={
                **environment,
                "HOME": str(self.home),
                "XDG_DATA_HOME": str(self.home),
                "PYTHONPATH": path,
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )


@contextmanager
def nobody() -> Iterator[Nobody]:
    """Makes a user's home, and removes it."""
    with tempfile.TemporaryDirectory(prefix="romana-nobody-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name in (*PLACES, "project"):
            (folder / name).mkdir()
        home = folder / "home"
        home.mkdir(mode=0o700)
        subprocess.run(["chown", f"{NOBODY}:{NOBODY}", str(home)], check=True)
        yield Nobody(home)
