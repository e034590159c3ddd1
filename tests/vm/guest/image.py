"""The system of a real VM: Debian's kernel, busybox and dhclient, and nothing of Romana.

It starts its interface as every Debian does, by DHCPv4, DHCPv6 and router advertisements, answers
at port 8080, and does what it is told on a virtio port, so that a test needs no network for that.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

STATE = Path(
    os.environ.get("ROMANA_VM_DIR")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "romana-vm"
)
"""Of tests/vm/prepare."""
KERNEL = STATE / "vmlinux"
MODULES = ("virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "isofs")
PORT = 8080
ANSWER = "from the guest"
CLIENT_6 = "dhclient -6 -nw -cf /dev/null -lf /leases6 -pf /six.pid -sf /six.sh eth0"

INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in $(cat /mods/order); do insmod /mods/$module || echo "insmod $module failed"; done
ip link set lo up; ip link set eth0 up
mkdir -p /www /var/lib/dhcp /etc; echo "{ANSWER}" >/www/index.html
httpd -p {PORT} -h /www
udhcpc -i eth0 -t 5 -T 2 -A 2 -b -p /four.pid -s /four.sh -O 121 -O mtu -O search >/four.log 2>&1
: >/leases6
# it speaks by its link-local address, which ifupdown waits for, too
until ip -6 addr show dev eth0 scope link | grep inet6 | grep -qv tentative; do sleep 0.1; done
{CLIENT_6} >/six.log 2>&1
for port in /dev/vport*p1; do exec 3<>$port; done
echo ready >&3
while read -r line <&3; do
  (eval "$line") >/out 2>&1 </dev/null; status=$?
  {{ cat /out; echo; echo "=$status"; }} >&3
done
"""
FOUR = """#!/bin/busybox sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
echo "$1" >>/four.events
ip addr replace $ip/32 dev eth0
[ -z "$mtu" ] || ip link set eth0 mtu $mtu
set -- $staticroutes
while [ $# -gt 1 ]; do
  if [ $2 = 0.0.0.0 ]; then ip route replace $1 dev eth0; else ip route replace $1 via $2; fi
  shift 2
done
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.four
"""
SIX = """#!/bin/busybox sh
export PATH=/bin
echo "$reason" >>/six.events
case $reason in
BOUND6|RENEW6|REBIND6)
  ip -6 addr replace $new_ip6_address/$new_ip6_prefixlen dev eth0
  for server in $new_dhcp6_name_servers; do echo "nameserver $server"; done >/etc/resolv.six;;
esac
exit 0
"""


def missing() -> str:
    """What lacks; empty: nothing."""
    if not KERNEL.exists():
        return "a kernel: tests/vm/prepare"
    for program in ("qemu-system-x86_64", "busybox", "dhclient", "dnsmasq", "cpio"):
        if shutil.which(program) is None:
            return program
    return ""


def build(folder: Path) -> Path:
    """Makes its initial file system."""
    root = folder / "root"
    for name in ("bin", "mods", "proc", "sys", "dev", "tmp", "run", "var/run"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    _copy_program(root, "dhclient")
    for name, text in (("init", INIT), ("four.sh", FOUR), ("six.sh", SIX)):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    (root / "mods/order").write_text("".join(f"{name}\n" for name in _copy_modules(root / "mods")))
    image = folder / "guest.gz"
    subprocess.run(
        f"find . | cpio -o -H newc --quiet | gzip -1 >{image}",
        shell=True,
        check=True,
        cwd=root,
    )
    return image


def _copy_program(root: Path, name: str) -> None:
    program = shutil.which(name) or ""
    shutil.copy(program, root / "bin" / name)
    shown = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+)", shown):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def _copy_modules(folder: Path) -> list[str]:
    """In the order in which they are to be loaded."""
    version = next((STATE / "kernel/lib/modules").iterdir()).name
    order: list[str] = []
    for module in MODULES:
        shown = subprocess.run(
            ["modprobe", "-d", STATE / "kernel", "-S", version, "--show-depends", module],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        ).stdout
        for path in re.findall(r"^insmod (\S+)", shown, re.MULTILINE):
            shutil.copy(path, folder)
            if (name := Path(path).name) not in order:
                order.append(name)
    return order
