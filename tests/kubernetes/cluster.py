"""A Kubernetes cluster on this machine: real programs, each node in namespaces of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.kubernetes import files
from tests.kubernetes.files import API_PORT, SERVICES, kubeconfig
from tests.kubernetes.hosts import CONTROL, OUTSIDE, Hosts, State
from tests.kubernetes.shell import Failed, sh, tail, until

CONTROL_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
REFERENCE = "/etc/cni/net.d/05-reference.conflist"


class Cluster:
    """One cluster."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self._folder = hosts.folder
        self._more: dict[str, Sequence[object]] = {}
        """Commands of programs that are not Kubernetes', by name."""

    @classmethod
    def known(cls, folder: Path) -> Cluster:
        """One that is up."""
        return cls(Hosts(folder))

    @classmethod
    def up(
        cls,
        folder: Path,
        *,
        nodes: int,
        wires: Mapping[str, str] | None = None,
        extender: str = "",
        pod_cidr: str = "",
        name: str = "k8s",
    ) -> Cluster:
        """Starts one; nodes are Ready once /etc/cni/net.d has a configuration.

        Args:
            folder: What `prepare` made.
            nodes: How many.
            wires: An interface with this prefix in every node and outside, beside eth0.
            extender: URL of kube-scheduler's.
            pod_cidr: kube-proxy's --cluster-cidr.
            name: First part of the namespaces' names.
        """
        if (folder / "run").exists():
            raise Failed(f"{folder}/run is there: end that cluster first")
        lacking = [part for part in ("bin/kubelet", "cni", "image.tar") if not _is_in(folder, part)]
        if lacking:
            raise Failed(f"{folder} lacks {', '.join(lacking)}: run tests/kubernetes/prepare")
        names = [f"node-{number + 1}" for number in range(nodes)]
        hosts = Hosts(folder, State(name, names, dict(wires or {}), pod_cidr))
        cluster = cls(hosts)
        hosts.save()
        try:
            files.write_all(hosts, extender)
            hosts.make()
            cluster._start_all()
        except BaseException:
            cluster.keep_logs()
            cluster.down()
            raise
        return cluster

    def down(self) -> None:
        """Ends it and removes all traces."""
        self.hosts.destroy()

    def keep_logs(self) -> None:
        """Copies the logs to FOLDER/logs, to be read when the cluster has gone."""
        target = self._folder / "logs"
        shutil.rmtree(target, ignore_errors=True)
        for log in self.hosts.run.glob("*/*.log"):
            (target / log.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(log, target / log.parent.name)

    def _start_all(self) -> None:
        for program in CONTROL_PROGRAMS:
            self.start(CONTROL, program)
        for node in self.hosts.nodes:
            self.start(node, "containerd")
            ctr = (self._folder / "bin/ctr", "--namespace", "k8s.io", "images", "import")
            self.run(node, *ctr, self._folder / "image.tar")
            self.start(node, "kubelet")
            self.start(node, "kube-proxy")
        account = ("get", "serviceaccount", "default")
        until("a ServiceAccount", lambda: not self.kubectl(*account, check=False).returncode)

    def reference_network(self) -> None:
        """The reference plug-ins ptp and host-local, to compare with."""
        hosts = self.hosts
        for number, node in enumerate(hosts.nodes):
            prefix = self.write_reference(node, number)
            for host in (OUTSIDE, CONTROL, *hosts.nodes):
                if host != node:
                    way = (prefix, "via", hosts.address(node))
                    sh("ip", "-n", hosts.namespace(host), "route", "add", *way)

    def write_reference(self, node: str, number: int = 0) -> str:
        """Configures them on a node, before what else is there; returns the prefix of its pods."""
        prefix = f"10.244.{number + 1}.0/24"
        ipam = {"type": "host-local", "subnet": prefix, "routes": [{"dst": "0.0.0.0/0"}]}
        plugins: list[dict[str, Any]] = [
            {"type": "ptp", "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        conf = {"cniVersion": "1.0.0", "name": "reference", "plugins": plugins}
        self.write(node, REFERENCE, json.dumps(conf))
        return prefix

    def wait_ready(self) -> None:
        """Waits until all nodes are Ready."""
        nodes = ("get", "nodes", "--no-headers")
        want = len(self.hosts.nodes)
        until("nodes to be Ready", lambda: self.kubectl(*nodes).stdout.count(" Ready") == want)

    # Commands.

    def run(self, host: str, *command: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command in a host; raises Failed."""
        return sh(*self.hosts.inside(host, *command), env=self.hosts.environment, **more)

    def write(self, host: str, path: str, text: str) -> None:
        """Writes a file of a host."""
        self.run(host, "tee", path, input=text)

    def kubectl(self, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """kubectl as the administrator."""
        config = f"--kubeconfig={kubeconfig(self.hosts, '')}"
        return self.run(CONTROL, self._folder / "bin/kubectl", config, *arguments, **more)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """`kubectl apply`."""
        self.kubectl("apply", "-f", "-", input=listed(objects))

    def dry(self, *arguments: object) -> Any:
        """The object that `kubectl create` would make."""
        create = ("create", "--dry-run=client", "-o", "json", *arguments)
        return json.loads(self.kubectl(*create).stdout)

    def get(self, *arguments: object) -> Any:
        """`kubectl get -o json`."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    # Programs.

    def define(self, program: str, *command: object) -> None:
        """Says how a program is started that is not one of Kubernetes'."""
        self._more[program] = command

    def log(self, host: str, program: str) -> Path:
        """What it says."""
        return self.hosts.home(host) / f"{program}.log"

    def is_running(self, host: str, program: str) -> bool:
        """Says whether it runs."""
        root = Path(f"/proc/{self.hosts.pid(host)}/root")
        try:
            number = (root / f"run/{program}.pid").read_text().strip()
            state = (root / f"proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
            threads = len(list((root / f"proc/{number}/task").iterdir()))
        except OSError:
            return False
        # its first thread may have ended while others still hold its ports
        return state != "Z" or threads > 1

    def start(self, host: str, program: str, *, wait: bool = True) -> None:
        """Starts a program, if it does not run, and waits until it answers."""
        if self.is_running(host, program):
            return
        number = Path(f"/proc/{self.hosts.pid(host)}/root/run/{program}.pid")
        number.unlink(missing_ok=True)
        line = f'echo $$ >/run/{program}.pid; exec "$@"'
        words = self.hosts.inside(
            host, "setsid", "--fork", "sh", "-c", line, "sh", *self._command(host, program)
        )
        with self.log(host, program).open("a") as log:
            subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.hosts.environment,
                check=True,
            )
        if wait:
            until(
                f"{host} {program}",
                lambda: number.exists() and self._is_ready(host, program),
                log=self.log(host, program),
            )

    def stop(self, host: str, program: str, *, signal: str = "TERM") -> None:
        """Ends a program and waits for its end."""
        if self.is_running(host, program):
            self.signal(host, program, signal)
            what = f"the end of {program} on {host}"
            until(what, lambda: not self.is_running(host, program), pause=0.02)

    def signal(self, host: str, program: str, signal: str) -> None:
        """Sends a signal."""
        self.run(host, "sh", "-c", f"kill -{signal} $(cat /run/{program}.pid)")

    def restart(self, host: str, program: str, *, signal: str = "KILL") -> None:
        """Ends and starts it."""
        self.stop(host, program, signal=signal)
        self.start(host, program)

    def compact(self) -> None:
        """Has the API server's etcd forget all versions but the present one."""
        etcdctl = ("env", "ETCDCTL_API=3", "etcdctl")
        said = self.run(CONTROL, *etcdctl, "endpoint", "status", "-w", "json").stdout
        revision = json.loads(said)[0]["Status"]["header"]["revision"]
        self.run(CONTROL, *etcdctl, "compact", revision)

    def _is_ready(self, host: str, program: str) -> bool:
        if not self.is_running(host, program):
            raise Failed(f"{host} {program} ended:\n{tail(self.log(host, program))}")

        def answers(url: str) -> bool:
            curl = ("curl", "--noproxy", "*", "-skf", "-m", "2", url)
            return self.run(host, *curl, check=False).returncode == 0

        match program:
            case "etcd":
                return answers("http://127.0.0.1:2379/health")
            case "kube-apiserver":
                return not self.kubectl("get", "--raw", "/readyz", check=False).returncode
            case "kube-controller-manager":
                return answers("https://127.0.0.1:10257/healthz")
            case "kube-scheduler":
                return answers("https://127.0.0.1:10259/healthz")
            case "containerd":
                ctr = self._folder / "bin/ctr"
                return not self.run(host, ctr, "version", check=False).returncode
            case "kubelet":
                known = self.kubectl("get", "node", host, check=False)
                return answers("http://127.0.0.1:10248/healthz") and not known.returncode
            case "kube-proxy":
                return answers("http://127.0.0.1:10256/healthz")
        return True

    def _command(self, host: str, program: str) -> Sequence[object]:
        if program in self._more:
            return self._more[program]
        run, home, pki = self.hosts.run, self.hosts.home(host), self.hosts.run / "pki"
        path = self._folder / "bin" / program
        match program:
            case "etcd":
                quick = ("--unsafe-no-fsync", "--logger=zap", "--log-level=warn")
                return ["etcd", f"--data-dir={home}/etcd", *quick]
            case "kube-apiserver":
                return [path, *self._api_server_flags()]
            case "kube-controller-manager":
                return [
                    path, f"--kubeconfig={kubeconfig(self.hosts, program)}",
                    "--leader-elect=false", "--use-service-account-credentials=true",
                    f"--service-account-private-key-file={pki}/sa.key",
                    f"--root-ca-file={pki}/ca.crt", "--port=0", f"--cert-dir={home}/certs",
                ]  # fmt: skip
            case "kube-scheduler":
                return [
                    path, f"--config={run}/scheduler.yaml", "--port=0", f"--cert-dir={home}/certs"
                ]  # fmt: skip
            case "containerd":
                return [path, f"--config={home}/containerd.toml"]
            case "kubelet":
                return [
                    path, f"--kubeconfig={kubeconfig(self.hosts, host)}",
                    f"--config={home}/kubelet.yaml", f"--hostname-override={host}",
                    f"--node-ip={self.hosts.address(host)}", "--container-runtime=remote",
                    "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
                ]  # fmt: skip
            case "kube-proxy":
                cidr = self.hosts.state.pod_cidr
                return [
                    path, f"--kubeconfig={kubeconfig(self.hosts, program)}",
                    "--proxy-mode=iptables", f"--hostname-override={host}",
                    *([f"--cluster-cidr={cidr}"] if cidr else []),
                    # these belong to the machine, not to a network namespace
                    "--conntrack-max-per-core=0", "--conntrack-min=0",
                    "--conntrack-tcp-timeout-established=0s",
                    "--conntrack-tcp-timeout-close-wait=0s",
                ]  # fmt: skip
        raise Failed(f"no such program: {program}")

    def _api_server_flags(self) -> list[str]:
        pki = self.hosts.run / "pki"
        return [
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={self.hosts.address(CONTROL)}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--token-auth-file={pki}/tokens.csv",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={pki}/sa.key",
            f"--service-account-key-file={pki}/sa.key",
            "--allow-privileged=true",
            # no kube-proxy is beside it: it asks webhooks at their pods' addresses
            "--enable-aggregator-routing=true",
            "--profiling=false",
            f"--cert-dir={self.hosts.home(CONTROL)}/certs",
        ]


def listed(objects: Sequence[Mapping[str, Any]]) -> str:
    """Objects as a file that kubectl reads."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _is_in(folder: Path, part: str) -> bool:
    return (folder / part).exists()
