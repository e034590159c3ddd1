"""The configuration of the test cluster: certificates, tokens, kubeconfigs, kubelet, containerd."""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kubernetes.hosts import CONTROL, Hosts
from tests.kubernetes.shell import sh

SERVICES = "10.96.0.0/16"
IMAGE = "test.local/box:1"
API_PORT = 6443
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
ROMANA = "romana-kubernetes"
"""The user that Romana's controller is."""


def write_all(hosts: Hosts, extender: str) -> None:
    """Writes all of it; `extender` is where kube-scheduler's is, if it has one."""
    _write_certificates(hosts)
    _write_users(hosts)
    write_scheduler(hosts, {"urlPrefix": extender} if extender else None)
    for node in hosts.nodes:
        _write_node(hosts, node)


def kubeconfig(hosts: Hosts, user: str) -> Path:
    """Of a user; empty: of the administrator."""
    return hosts.run / (f"{user}.kubeconfig" if user else "kubeconfig")


def _write_certificates(hosts: Hosts) -> None:
    pki = hosts.run / "pki"
    pki.mkdir(mode=0o700)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    authority = ("-days", "3650", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    sh("openssl", "req", "-x509", *curve, *authority, cwd=pki)
    first = ipaddress.ip_network(SERVICES)[1]
    names = (
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
        f"IP:{hosts.address(CONTROL)},IP:{first},IP:127.0.0.1"
    )
    for name, subject, extension in (
        ("apiserver", "/CN=kube-apiserver", f"subjectAltName={names}"),
        ("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth"),
        ("romana", "/CN=romana", f"subjectAltName=IP:{hosts.address(CONTROL)}"),
    ):
        request = ("-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sh("openssl", "req", *curve, *request, cwd=pki)
        (pki / f"{name}.ext").write_text(extension + "\n")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650")
        files = ("-in", f"{name}.csr", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
        sh("openssl", "x509", "-req", *signing, *files, cwd=pki)
    sh("openssl", "genrsa", "-out", "sa.key", "2048", cwd=pki)


def _write_users(hosts: Hosts) -> None:
    """Each has a token and a kubeconfig."""
    users = {
        "": ("admin", "system:masters"),
        **{name: (f"system:{name}", "") for name in (*CONTROLLERS, "kube-proxy")},
        **{node: (f"system:node:{node}", "system:nodes") for node in hosts.nodes},
        ROMANA: (ROMANA, ""),
    }
    rows = []
    for file, (user, group) in users.items():
        token = secrets.token_hex(16)
        rows.append(f'{token},{user},{user},"{group}"\n')
        server = f"https://{hosts.address(CONTROL)}:{API_PORT}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {
                        "server": server,
                        "certificate-authority": f"{hosts.run}/pki/ca.crt",
                    },
                }
            ],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        kubeconfig(hosts, file).write_text(json.dumps(config, indent=1) + "\n")
    (hosts.run / "pki/tokens.csv").write_text("".join(rows))


def write_scheduler(hosts: Hosts, extender: Mapping[str, Any] | None) -> None:
    """kube-scheduler's; `extender`: where it is, and what else is to be said of it."""
    config: dict[str, Any] = {
        "apiVersion": "kubescheduler.config.k8s.io/v1beta1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig(hosts, "kube-scheduler"))},
        "leaderElection": {"leaderElect": False},
    }
    if extender is not None:
        verbs = {f"{verb}Verb": verb for verb in ("filter", "prioritize", "bind")}
        one = {**verbs, "weight": 1, "nodeCacheCapable": True, "httpTimeout": "10s"}
        config["extenders"] = [{**one, **extender}]
    (hosts.run / "scheduler.yaml").write_text(json.dumps(config, indent=1) + "\n")


def _write_node(hosts: Hosts, node: str) -> None:
    home = hosts.home(node)
    home.mkdir()
    (home / "containerd.toml").write_text(
        f"""version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true  # where root lacks CAP_SYS_RESOURCE nothing would start
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
    )
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{hosts.run}/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{hosts.state.name}/{node}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "registryPullQPS": 0,
        "evictionHard": {
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
    }
    (home / "kubelet.yaml").write_text(json.dumps(kubelet, indent=1) + "\n")
