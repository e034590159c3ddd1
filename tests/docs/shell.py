"""A bash as a reader's terminal, in a machine of its own: network, mounts and processes.

Its folder looks like a checkout, and files that commands write stay out of that. Nothing that runs
in it outlives it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
MARK: Final = "-- end of a command:"
PRELUDE: Final = r"""
set -o pipefail
mount --make-rprivate /
for folder in /run /var/lib; do mount -t tmpfs tmpfs $folder; done
mkdir -p /run/netns
ip link set lo up
umask 022
# cluster OPTIONS: `romana up` in the background, until it serves
cluster() {
  ( exec romana up --no-console "$@" ) >cluster.log 2>&1 &
  until grep -q '^Everything serves' cluster.log; do
    kill -0 $! 2>/dev/null || { cat cluster.log; return 1; }
    sleep 0.1
  done
}
# no_cluster: ends the program that was started last, and forgets what it kept
no_cluster() {
  kill $!
  wait $! || true
  rm -rf ~/.local
}
# datacenter: the lab; what follows is run in its `control`, and asks shared-1's agent
datacenter() {
  romana lab up lab/clusters/datacenter.yaml >lab.log 2>&1 || { cat lab.log; return 1; }
  at control shared-1
}
# at NAME [NODE]: from here on in this namespace of the lab, with this node's agent
at() {
  place=/run/netns/romana.datacenter.$1
  export $(python -c 'from lab.control import ENVIRONMENT as of; print(*map("=".join, of.items()))')
  export ROMANA_AGENT=unix:/run/romana-lab/datacenter/agent.${2:-$1}/agent.sock
}
romana() { ${place:+nsenter --net=$place} "$(type -P romana)" "$@"; }
ip() { ${place:+nsenter --net=$place} "$(type -P ip)" "$@"; }
# eventually COMMAND: again and again until it succeeds, at most for a minute
eventually() {
  local output end=$((SECONDS + 60))
  until output=$("$@" 2>&1); do
    [ $SECONDS -lt $end ] || { echo "$output"; return 1; }
    sleep 0.2
  done
}
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed, and how it ended."""

    lines: Sequence[str]
    exit_code: int


class Shell:
    """Runs one command after the other; what they change in the shell stays."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._going_on = 0

    def run(self, command: str) -> Done:
        """Runs a command to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(
            f"eval {shlex.quote(command)} </dev/null; printf '\\n%s %d\\n' '{MARK}' $?\n"
        )
        self._process.stdin.flush()
        lines: list[str] = []
        for line in iter(self._process.stdout.readline, ""):
            if line.startswith(MARK):
                return Done([*lines], int(line.removeprefix(MARK)))
            lines.append(line.rstrip("\n"))
        raise AssertionError("the shell ended:\n" + "\n".join(lines))

    def start(self, command: str, enough: Callable[[Sequence[str]], bool], seconds: float) -> Done:
        """Starts a command that goes on, and waits until what it has printed is `enough`.

        Its log, which is JSON where there is no terminal, is left out.
        """
        self._going_on += 1
        log = self._folder / f"goes-on-{self._going_on}.log"
        log.touch()
        end = time.monotonic() + seconds
        self.run(f"( exec {command} ) >{log} 2>&1 &")
        while True:
            lines = [line for line in log.read_text().splitlines() if not line.startswith("{")]
            if enough(lines) or time.monotonic() > end:
                return Done(lines, 0)
            time.sleep(0.1)


@contextlib.contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """A shell in a folder that has what a checkout has. Needs root."""
    for there in ROOT.iterdir():
        if there.name not in {".git", ".venv", "build", "dist"} and not there.name.endswith(
            "cache"
        ):
            (folder / there.name).symlink_to(there)
    home = folder / "home"
    home.mkdir()
    process = subprocess.Popen(
        [
            *("unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child"),
            *("--mount-proc", "bash", "--noprofile", "--norc"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=_environment(home),
    )
    made = Shell(process, folder)
    try:
        begun = made.run(PRELUDE)
        assert begun.exit_code == 0, "\n".join(begun.lines)
        yield made
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()


def _environment(home: Path) -> dict[str, str]:
    """Ours, without what would lead elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ROMANA", "XDG_")) and not name.lower().endswith("_proxy")
    }
    path = f"{Path(sys.executable).parent}:{kept.get('PATH', '')}:/usr/sbin:/sbin"
    return {**kept, "HOME": str(home), "PATH": path, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
