"""A real container runtime that starts romana-cni: containerd, with `ctr run --cni`."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ctl.verbs.agent import install_cni
from tests.support.agent_node import Node
from tests.support.ipam_process import poll

PROGRAMS = ("containerd", "ctr", "runc", "busybox")
lacking = [name for name in PROGRAMS if shutil.which(name) is None]
if not any(Path("/sys/fs/cgroup").iterdir()):
    lacking.append("cgroups")
pytestmark = pytest.mark.skipif(
    bool(lacking), reason=f"needs {', '.join(lacking)}: `make test` installs what it can, as root"
)

MINE = """
set -e
own={folder}/etc.$$
mkdir -p $own/over $own/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=$own/over,workdir=$own/work /etc
mkdir -p /etc/cni/net.d
cp {folder}/romana.conflist /etc/cni/net.d/
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni/bin
cp {folder}/bin/* /opt/cni/bin/
exec "$@"
"""
"""What `ctr` reads has fixed places: it gets them in a mount namespace of its own, each time."""


class Runtime:
    """A containerd of ours, and its command."""

    def __init__(self, folder: Path, node: Node) -> None:
        self._folder = folder
        self._socket = folder / "containerd.sock"
        (folder / "containerd.toml").write_text(
            f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/run"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self._socket}"\n'
        )
        plugin = {"type": "romana-cni", "socket": str(node.cni_socket), "tenant": "t"}
        plugin["network"] = "net"
        conflist = {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}
        (folder / "romana.conflist").write_text(json.dumps(conflist))
        install_cni(folder / "bin")
        for name in ("bin", "proc", "sys", "dev"):
            (folder / "rootfs" / name).mkdir(parents=True)
        shutil.copy(str(shutil.which("busybox")), folder / "rootfs" / "bin" / "busybox")
        (folder / "private").write_text(MINE.format(folder=folder))
        with (folder / "containerd.log").open("w") as log:
            self.process = subprocess.Popen(
                ["containerd", "--config", str(folder / "containerd.toml")], stderr=log
            )

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("unshare", "--mount", "sh", str(self._folder / "private")),
                *("ctr", "--address", str(self._socket), *arguments),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def run(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a container to its end."""
        rootfs = str(self._folder / "rootfs")
        shell = ("/bin/busybox", "sh", "-c", command)
        return self.ctr("run", "--rm", "--cni", "--rootfs", rootfs, name, *shell)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def sees(command: str, text: str) -> str:
    """For a container: the runtime may lose what one prints that ends at once, not how it ends."""
    return f"/bin/busybox {command} | /bin/busybox grep -F {shlex.quote(text)}"


@pytest.fixture
async def runtime(node_: Node, folder: Path) -> AsyncIterator[Runtime]:
    made = Runtime(folder, node_)
    try:
        await poll(lambda: made.ctr("version").returncode == 0, 30)
        yield made
    finally:
        made.close()


async def test_a_container_has_an_address_while_it_runs(runtime: Runtime, node_: Node) -> None:
    looks = sees("ip -o addr", "inet 10.1.0.0/32 scope global eth0")
    looks += " && " + sees("ip route", "default via 169.254.1.1 dev eth0")
    done = await asyncio.to_thread(runtime.run, "web-1", looks)
    assert done.returncode == 0, done
    assert node_.links() == []
    assert await node_.addresses() == []


async def test_containers_at_once_that_fail_leave_nothing(runtime: Runtime, node_: Node) -> None:
    names = ["one", "two", "three"]
    # whether they are there at the same time is not ours to say: an address may serve two
    looks = sees("ip -o addr show eth0", "inet 10.1.0.") + " && exit 3"
    done = await asyncio.gather(*(asyncio.to_thread(runtime.run, name, looks) for name in names))
    assert [each.returncode for each in done] == [3] * len(names), done
    assert node_.links() == []
    assert await node_.addresses() == []
