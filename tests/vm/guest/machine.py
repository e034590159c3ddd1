"""A real VM under qemu, by emulation, behind a tap of a node."""

from __future__ import annotations

import shlex
import socket
import subprocess
import time
from pathlib import Path

from tests.support.netns import Namespace
from tests.vm.guest.image import KERNEL
from tests.vm.guest.monitor import Monitor

BOOT_SECONDS = 180.0
COMMAND_SECONDS = 60.0
MEGABYTES = 128
_KERNEL = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off nokaslr random.trust_cpu=on"


class Machine:
    """It runs from `start` until `stop`."""

    def __init__(
        self, node: Namespace, tap: str, mac: str, image: Path, seed: Path, folder: Path
    ) -> None:
        """`seed` is its only disk."""
        self._node = node
        self._tap = tap
        self._mac = mac
        self._image = image
        self._seed = seed
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port: socket.socket | None = None
        self._monitor: Monitor | None = None
        self._heard = b""

    @property
    def monitor(self) -> Monitor:
        assert self._monitor is not None
        return self._monitor

    def start(self) -> None:
        """Starts it, and waits until its system runs."""
        deadline = time.monotonic() + BOOT_SECONDS
        self._launch("", deadline)
        self._until(b"ready\n", deadline)

    def expect(self, incoming: Path) -> None:
        """Starts it without a system: that comes over a socket, from another one with the same."""
        incoming.unlink(missing_ok=True)
        self._launch(f"-incoming unix:{incoming}", time.monotonic() + BOOT_SECONDS)

    def _launch(self, more: str, deadline: float) -> None:
        path, monitor = self._folder / "control.sock", self._folder / "monitor.sock"
        for each in (path, monitor):
            each.unlink(missing_ok=True)
        with (self._folder / "qemu.log").open("ab") as log:
            self._process = self._node.start(
                shlex.split(
                    "setpriv --pdeathsig KILL -- qemu-system-x86_64 -M q35 -accel tcg -cpu max "
                    f"-m {MEGABYTES} -nodefaults -display none -kernel {KERNEL} "
                    f"-initrd {self._image} "
                    f"-append '{_KERNEL}' -serial file:{self._folder / 'console.log'} "
                    f"-netdev tap,id=n,ifname={self._tap},script=no,downscript=no "
                    f"-device virtio-net-pci,netdev=n,mac={self._mac} "
                    f"-drive file={self._seed},if=virtio,format=raw,readonly=on "
                    f"-device virtio-serial-pci "
                    f"-chardev socket,id=c,path={path},server=on,wait=off "
                    "-device virtserialport,chardev=c,name=control "
                    f"-qmp unix:{monitor},server=on,wait=off {more}"
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._port = self._connected(path, deadline)
        self._monitor = Monitor(self._connected(monitor, deadline))

    def _connected(self, path: Path, deadline: float) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        while made.connect_ex(str(path)):
            self._alive(deadline)
            time.sleep(0.05)
        return made

    def tell(self, command: str) -> tuple[int, str]:
        """Has it perform a command of busybox's shell; status and output."""
        assert self._port is not None
        self._port.sendall(command.encode() + b"\n")
        deadline = time.monotonic() + COMMAND_SECONDS
        lines: list[str] = []
        while True:
            line = self._until(b"\n", deadline).decode(errors="replace").rstrip("\n")
            if line.startswith("=") and line[1:].isdigit():
                return int(line[1:]), "\n".join(lines).rstrip("\n")
            lines.append(line)

    def says(self, command: str) -> str:
        """What a command says, whatever comes of it."""
        return self.tell(command)[1]

    def reboot(self) -> None:
        """Starts its system anew, in the same machine, as an operator inside would."""
        assert self._port is not None
        self._port.sendall(b"reboot -f\n")
        self._until(b"ready\n", time.monotonic() + BOOT_SECONDS)

    def stop(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None
        self._heard = b""

    def _until(self, end: bytes, deadline: float) -> bytes:
        assert self._port is not None
        while end not in self._heard:
            self._alive(deadline)
            self._port.settimeout(1.0)
            try:
                self._heard += self._port.recv(65536)
            except TimeoutError:
                continue
        found, _, self._heard = self._heard.partition(end)
        return found + end

    def _alive(self, deadline: float) -> None:
        assert self._process is not None
        console = self._folder / "console.log"
        said = console.read_text(errors="replace")[-3000:] if console.exists() else ""
        assert self._process.poll() is None, (self._folder / "qemu.log").read_text()[-2000:]
        assert time.monotonic() < deadline, f"the guest says nothing; its console: {said}"
