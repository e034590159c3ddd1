"""A libvirtd of one's own, in a node's namespace, with files of its own, without an init.

To libvirt each is a host of its own, by name and number, so that domains migrate between two.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Self

from lab.cluster import Cluster
from lab.namespaces import name_of
from tests.support.agent_node import ROOT
from tests.support.netns import Namespace
from tests.vm.guest import probing
from tests.vm.guest.image import KERNEL
from tests.vm.guest.machine import MEGABYTES

REASON = probing.REASON or ("" if shutil.which("libvirtd") else "libvirtd")

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
DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{megabytes}</memory>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <metadata>
    <romana:domain xmlns:romana='urn:romana:libvirt:1'>
      <romana:interface tenant='{tenant}'><romana:label name='app' value='db'/></romana:interface>
    </romana:domain>
  </metadata>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <interface type='ethernet'>
      <mac address='52:54:00:00:00:01'/><target dev='{name}'/><model type='virtio'/>
    </interface>
    <controller type='virtio-serial'/>
    <channel type='pty'><target type='virtio' name='control'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>
"""
SCRIPT = r"""
set -eu
hostname {name}
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
printf 'unix_sock_dir = "{folder}"\nhost_uuid = "{number}"\n' >/etc/libvirt/libvirtd.conf
libvirtd --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid &
wait  # not exec: the first process has to see others off
"""


class Libvirtd:
    """It runs until `stop`, and its domains with it."""

    def __init__(self, node: Namespace, folder: Path, hook: Path, variables: list[str]) -> None:
        self._folder = folder
        (folder / "qemu.conf").write_text(QEMU)
        (folder / "romana.env").write_text("\n".join(variables))
        script = SCRIPT.format(folder=folder, hook=hook, name=node.name, number=uuid.uuid4())
        with (folder / "libvirtd.log").open("ab") as log:
            self._process = node.start(
                [
                    *shlex.split(
                        "unshare --uts --mount --pid --fork --kill-child --mount-proc bash -c"
                    ),
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

    @classmethod
    def of_node(cls, cluster: Cluster, node: str, folder: Path, **more: str) -> Self:
        """On a lab's node, with our hook; `more`: variables of the hook beside the usual ones."""
        variables = {
            "ROMANA": str(Path(sys.executable).with_name("romana")),
            "ROMANA_AGENT": probing.agent(cluster, node)[1],
            **more,
        }
        return cls(
            Namespace(name_of(cluster.lab.name, node), there=True),
            folder,
            ROOT / "deploy/libvirt/qemu",
            [f"{key}={value}" for key, value in variables.items()],
        )

    def log(self) -> str:
        return (self._folder / "libvirtd.log").read_text()[-3000:]

    def virsh(self, *words: str) -> tuple[int, str]:
        """Status, and all that it says."""
        done = subprocess.run(
            ["virsh", "-c", self.uri, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self._folder}/libvirt-sock"

    def define(self, name: str, tenant: str, initrd: Path) -> None:
        """A domain that is not started."""
        file = self._folder / f"{name}.xml"
        text = DOMAIN.format(
            name=name, tenant=tenant, megabytes=MEGABYTES, kernel=KERNEL, initrd=initrd
        )
        file.write_text(text)
        status, said = self.virsh("define", str(file))
        assert status == 0, said

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(30)
