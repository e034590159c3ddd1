"""A libvirtd of one's own, in a node's namespace, with files of its own, without an init."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path

from tests.support.netns import Namespace

START_SECONDS = 90.0
CALL_SECONDS = 120.0
QEMU = """
cgroup_controllers = []
security_driver = "none"
user = "root"
group = "root"
namespaces = []
clear_emulator_capabilities = 0
stdio_handler = "file"
remember_owner = 0
"""
SCRIPT = """
set -eu
for folder in /etc/libvirt /var/lib/libvirt /run/libvirt /var/log/libvirt /var/cache/libvirt; do
  mkdir -p $folder; mount -t tmpfs tmpfs $folder
done
# users that Debian's libvirt-daemon-system would make
cp /etc/passwd {folder}/passwd; cp /etc/group {folder}/group
grep -q ^libvirt-qemu: {folder}/passwd ||
  echo libvirt-qemu:x:64055:64055::/:/bin/false >>{folder}/passwd
for name in libvirt-qemu:64055 kvm:64056 libvirt:64057; do
  grep -q ^${{name%:*}}: {folder}/group || echo ${{name%:*}}:x:${{name#*:}}: >>{folder}/group
done
mount --bind {folder}/passwd /etc/passwd; mount --bind {folder}/group /etc/group
mkdir -p /etc/libvirt/hooks /etc/libvirt/qemu
cp {folder}/qemu.conf /etc/libvirt/
cp {hook} /etc/libvirt/hooks/qemu; cp {folder}/romana.env /etc/libvirt/hooks/
echo 'unix_sock_dir = "{folder}"' >/etc/libvirt/libvirtd.conf
libvirtd --config /etc/libvirt/libvirtd.conf &
wait  # not exec: the first process has to see others off
"""


class Libvirtd:
    """It runs until `stop`, and its domains with it."""

    def __init__(self, node: Namespace, folder: Path, hook: Path, variables: list[str]) -> None:
        self._folder = folder
        (folder / "qemu.conf").write_text(QEMU)
        (folder / "romana.env").write_text("\n".join(variables))
        script = SCRIPT.format(folder=folder, hook=hook)
        with (folder / "libvirtd.log").open("ab") as log:
            self._process = node.start(
                [
                    *shlex.split("unshare --mount --pid --fork --kill-child --mount-proc bash -c"),
                    script,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.virsh("version")[0]:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def log(self) -> str:
        return (self._folder / "libvirtd.log").read_text()[-3000:]

    def virsh(self, *words: str) -> tuple[int, str]:
        """Status, and all that it says."""
        done = subprocess.run(
            ["virsh", "-c", f"qemu+unix:///system?socket={self._folder}/libvirt-sock", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(30)
