"""The hosts of the test cluster: sets of namespaces on this machine, and the wires between them.

A node is a network, mount, process, host-name and IPC namespace. /run, and what is written below
/etc, /opt and /var, are its own; everything else is the machine's. So /etc/cni/net.d, /opt/cni/bin,
/var/lib and /run/netns are as on a machine with one kubelet. Nothing runs in the machine's own
network namespace, and nothing there is changed.

    outside .1 ──┐          ┌── control .2   etcd, the API server, controllers, the scheduler
                 ├── wire ──┤
    node-1 .11 ──┘          └── node-2 .12   containerd, kubelet, kube-proxy
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.kubernetes.shell import SECONDS, Failed, sh, until

HERE = Path(__file__).parent
MAIN_WIRE = "eth0"
MAIN_PREFIX = "172.30.0.0/24"
OUTSIDE, CONTROL, WIRE = "outside", "control", "wire"
CPU_SHARES = 16 * 1024
FIRST_NODE = 11
"""Last part of the first node's addresses; the gateway's, which is outside, is 1, control's 2."""


@dataclass
class State:
    """What is known of a cluster, on disk, so that another process can use and end it."""

    name: str
    nodes: list[str]
    wires: dict[str, str]
    """Prefixes beside the main one, by interface."""
    pod_cidr: str = ""
    moved: dict[str, int] = field(default_factory=dict)
    """Last part of the main address of hosts that have another than at first."""
    pids: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Of the first process of each host, with its start time."""


class Hosts:
    """The hosts of one cluster, in FOLDER/run."""

    def __init__(self, folder: Path, state: State | None = None) -> None:
        """`folder` is what `prepare` made; without `state` it is that of a cluster that is up."""
        self.folder = folder
        self.run = folder / "run"
        self._file = self.run / "cluster.json"
        if state is None:
            if not self._file.exists():
                raise Failed(f"no cluster is up in {folder}")
            state = State(**json.loads(self._file.read_text()))
        self.state = state
        self.environment = {
            "PATH": f"{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            # kubelet's helpers for image registries of clouds look for metadata unless told not to
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
        }

    @property
    def nodes(self) -> list[str]:
        """Their names."""
        return self.state.nodes

    def save(self) -> None:
        """Writes the state."""
        self.run.mkdir(exist_ok=True)
        self._file.write_text(json.dumps(asdict(self.state), indent=1) + "\n")

    def home(self, host: str) -> Path:
        """A host's own folder."""
        return self.run / host

    def namespace(self, host: str) -> str:
        """Name of its network namespace."""
        return f"{self.state.name}.{host}"

    def address(self, host: str, wire: str = MAIN_WIRE) -> ipaddress.IPv4Address:
        """Its address on a wire."""
        prefix = ipaddress.IPv4Network(self.state.wires.get(wire, MAIN_PREFIX))
        number = {OUTSIDE: 1, CONTROL: 2}.get(host)
        if wire == MAIN_WIRE:
            number = self.state.moved.get(host, number)
        return prefix[FIRST_NODE + self.nodes.index(host) if number is None else number]

    def inside(self, host: str, *command: object) -> list[str]:
        """The command line that runs `command` in a host."""
        words = [str(part) for part in command]
        if host in {OUTSIDE, WIRE}:
            return ["ip", "netns", "exec", self.namespace(host), *words]
        return [
            "nsenter", f"--target={self.pid(host)}", "--mount", "--uts", "--ipc", "--net", "--pid",
            f"--wd={Path.cwd()}", "--", *words,
        ]  # fmt: skip

    def pid(self, host: str) -> int:
        """Of its first process."""
        pid, started = self.state.pids.get(host, (0, ""))
        if not pid or start_time(pid) != started:
            raise Failed(f"{host} is not up")
        return pid

    def make(self) -> None:
        """Makes wires and hosts."""
        self.save()
        for host in (WIRE, OUTSIDE, CONTROL, *self.nodes):
            sh("ip", "netns", "add", self.namespace(host))
            sh("ip", "-n", self.namespace(host), "link", "set", "lo", "up")
        forward = ("sysctl", "-qw", "net.ipv4.ip_forward=1")
        sh("ip", "netns", "exec", self.namespace(OUTSIDE), *forward)
        for order, wire in enumerate([MAIN_WIRE, *self.state.wires]):
            self._make_wire(wire, order)
        for host in (CONTROL, *self.nodes):
            self._start(host)

    def _make_wire(self, wire: str, order: int) -> None:
        """A bridge, and an interface of that name in each host that is on it."""
        prefix = ipaddress.IPv4Network(self.state.wires.get(wire, MAIN_PREFIX))
        bridge = self.namespace(WIRE)
        sh("ip", "-n", bridge, "link", "add", wire, "type", "bridge")
        sh("ip", "-n", bridge, "link", "set", wire, "up")
        on_all = (CONTROL,) if wire == MAIN_WIRE else ()
        for host in (OUTSIDE, *on_all, *self.nodes):
            here, port = self.namespace(host), f"{host}.{order}"
            sh(
                "ip", "-n", bridge, "link", "add", port, "type", "veth",
                "peer", "name", wire, "netns", here,
            )  # fmt: skip
            sh("ip", "-n", bridge, "link", "set", port, "master", wire, "up")
            sh("ip", "-n", here, "link", "set", wire, "up")
            address = f"{self.address(host, wire)}/{prefix.prefixlen}"
            sh("ip", "-n", here, "addr", "add", address, "dev", wire)
            if wire == MAIN_WIRE and host != OUTSIDE:
                sh("ip", "-n", here, "route", "add", "default", "via", self.address(OUTSIDE))

    def move(self, host: str, number: int | None) -> None:
        """Gives a host another main address, by its last part; None: the one that it had."""
        device = ("-n", self.namespace(host), "addr")
        length = ipaddress.IPv4Network(MAIN_PREFIX).prefixlen
        sh("ip", *device, "del", f"{self.address(host)}/{length}", "dev", MAIN_WIRE)
        self.state.moved.pop(host, None)
        if number is not None:
            self.state.moved[host] = number
        self.save()
        sh("ip", *device, "add", f"{self.address(host)}/{length}", "dev", MAIN_WIRE)
        route = ("route", "replace", "default", "via", self.address(OUTSIDE))
        sh("ip", "-n", self.namespace(host), *route)

    def _start(self, host: str) -> None:
        """Starts the first process of a host, which does nothing but reap."""
        home = self.home(host)
        home.mkdir(parents=True, exist_ok=True)
        is_node = host in self.nodes
        if is_node:
            self._make_node_folders(home)
            self._make_cgroups(host)
        kind = "node" if is_node else "control"
        number = home / "holder.pid"
        number.unlink(missing_ok=True)
        line = f'echo $$ >{number}.new; mv {number}.new {number}; exec "$@"'
        with (home / "init.log").open("a") as log:
            subprocess.run(
                [
                    "setsid", "--fork", "sh", "-c", line, "sh",
                    "nsenter", f"--net=/run/netns/{self.namespace(host)}",
                    "unshare", "--mount", "--propagation", "slave", "--pid", "--fork", "--uts",
                    "--ipc", "--mount-proc",
                    "bash", str(HERE / "host-init"), host, str(home), str(self.folder), kind,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                check=True,
            )  # fmt: skip
        found: list[str] = []

        def is_there() -> bool:
            holder = number.read_text().strip() if number.exists() else ""
            if not holder:
                return False
            children = Path(f"/proc/{holder}/task/{holder}/children")
            if not children.exists():
                raise Failed(f"{host}: {(home / 'init.log').read_text().strip()}")
            found[:] = children.read_text().split()
            return bool(found) and Path(f"/proc/{found[0]}/root/run/.ready").exists()

        until(host, is_there, log=home / "init.log", pause=0.02)
        pid = int(found[0])
        self.state.pids[host] = (pid, start_time(pid))
        self.save()

    def _make_node_folders(self, home: Path) -> None:
        for part in ("etc", "opt", "var"):
            (home / part).mkdir(exist_ok=True)
            (home / f"{part}.work").mkdir(exist_ok=True)
        (home / "etc/cni/net.d").mkdir(parents=True, exist_ok=True)
        (home / "opt/cni").mkdir(exist_ok=True)
        plugins = home / "opt/cni/bin"
        shutil.copytree(self.folder / "cni", plugins, copy_function=os.link, dirs_exist_ok=True)
        for part in ("containerd", "kubelet", "cni", "romana"):
            (home / "lib" / part).mkdir(parents=True, exist_ok=True)

    def _make_cgroups(self, host: str) -> None:
        for controller in cgroups():
            folder = controller / self.state.name / host
            folder.mkdir(parents=True, exist_ok=True)
            shares = folder.parent / "cpu.shares"
            if shares.exists():  # or all hosts together get as much as any single program beside
                shares.write_text(f"{CPU_SHARES}\n")
            if controller.name == "cpuset":  # a new cpuset is empty until told
                for level in (folder.parent, folder):
                    for knob in ("cpuset.cpus", "cpuset.mems"):
                        (level / knob).write_text((level.parent / knob).read_text())

    def destroy(self) -> None:
        """Ends all hosts and removes all traces; returns when they are gone."""
        for host in list(self.state.pids):
            try:
                pid = self.pid(host)
            except Failed:
                continue
            os.kill(pid, signal.SIGKILL)  # the kernel ends all others of its namespace
            gone = Path(f"/proc/{pid}")
            until(f"the end of {host}", lambda gone=gone: not gone.exists(), pause=0.02)
        for host in (CONTROL, *self.nodes, OUTSIDE, WIRE):
            sh("ip", "netns", "del", self.namespace(host), check=False)
        for controller in cgroups():
            root = controller / self.state.name
            if root.exists():
                folders = sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True)
                for folder in [*folders, root]:
                    _remove(folder)
        shutil.rmtree(self.run)


def _remove(cgroup: Path) -> None:
    """A control group whose last process may not be reaped yet."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            cgroup.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def cgroups() -> list[Path]:
    """The mount points of control groups: one per controller, or a single one."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [
        Path(path)
        for path in dict.fromkeys(line[1] for line in lines if line[2] in {"cgroup", "cgroup2"})
    ]


def start_time(pid: int) -> str:
    """Tells a process from a later one of the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
