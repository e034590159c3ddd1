"""Which settings and variables may be shown to somebody who helps. Others are hidden.

A list of what is known to be harmless, since nobody can list what a secret may be called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from services.common.process.settings import SEPARATOR, without_passwords

HIDDEN: Final = "***"
VALUE_MOST: Final = 1024
"""Characters: what is longer is no address, name or path."""

SETTINGS: Final = frozenset(
    [
        "listen.address",
        "listen.tls.ca",
        "listen.tls.certificate",
        "listen.tls.key",
        "listen.tls.server_name",
        "listen.insecure",
        "listen.advertise",
        "etcd.endpoints",
        "etcd.root",
        "etcd.tls.ca",
        "etcd.tls.certificate",
        "etcd.tls.key",
        "etcd.tls.server_name",
        "etcd.timeout",
        "metrics.address",
        "log.level",
        "log.format",
        "traces.endpoint",
        "traces.share",
        "traces.tls.ca",
        "traces.tls.certificate",
        "traces.tls.key",
        "traces.tls.server_name",
        "traces.insecure",
        "drain",
        "audit.file",
        "initial_topology",
        "nodes_may",
        "node_names",
        "node_share",
        "election_ttl",
        "presence_ttl",
        "release_fence",
        "release_grace",
        "node",
        "address",
        "labels.*",
        "attachments.network",
        "attachments.interface",
        "attachments.address",
        "attachments.vlan_id",
        "attachments.parent",
        "ipam",
        "policy",
        "topology",
        "register_node",
        "rules.failsafe_inbound",
        "rules.failsafe_outbound",
        "rules.log_group",
        "rules.log_rate",
        "listen.names",
        "allow_changes",
        "kubeconfig",
        "extender.address",
        "extender.tls.ca",
        "extender.tls.certificate",
        "extender.tls.key",
        "extender.insecure",
        "webhook.address",
        "webhook.certificate",
        "webhook.key",
        "lease.namespace",
        "lease.name",
        "lease.seconds",
        "authority.folder",
        "authority.namespace",
        "authority.account",
        "identity",
        "segment_label",
        "force_node_deletion",
        "kept_seconds",
        "tls.ca",
        "tls.certificate",
        "tls.key",
        "tls.server_name",
        "insecure",
        "state_dir",
        "socket",
        "cni_socket",
        "full_check",
        "quick_check",
    ]
)
"""By path; of TLS these are names of files. `*`: whatever the key."""
VARIABLES: Final = frozenset(
    [
        "ROMANA_TOPOLOGY",
        "ROMANA_IPAM",
        "ROMANA_POLICY",
        "ROMANA_AGENT",
        "ROMANA_DATA_DIR",
        "ROMANA_TRACES",
        "ROMANA_TRACES_CA",
        "ROMANA_TRACES_CERT",
        "ROMANA_TRACES_KEY",
        "ROMANA_TLS_CA",
        "ROMANA_TLS_CERT",
        "ROMANA_TLS_KEY",
        "ROMANA_INSECURE",
        "ROMANA_DEBUG",
    ]
)
"""The command's own."""
SERVICES: Final = ("TOPOLOGY", "IPAM", "POLICY", "AGENT", "KUBERNETES", "CONSOLE")


def environment(variables: Mapping[str, str]) -> dict[str, object]:
    """Romana's variables; of those that are not known to be harmless only the names."""
    ours = {name: value for name, value in variables.items() if name.startswith("ROMANA_")}
    return {name: _variable(name, value) for name, value in sorted(ours.items())}


def settings(value: object, path: str = "") -> object:
    """A file of settings; of those that are not known to be harmless only the names."""
    if isinstance(value, Mapping):
        return {
            key: settings(item, f"{path}.{key}" if path else str(key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [settings(item, path) for item in value]
    parent = path.rpartition(".")[0]
    if path in SETTINGS or (f"{parent}.*" in SETTINGS):
        return _plain(value)
    return value if value is None else HIDDEN


def _variable(name: str, value: str) -> object:
    if name in VARIABLES:
        return _plain(value)
    for service in SERVICES:
        prefix = f"ROMANA_{service}{SEPARATOR}"
        if name.startswith(prefix):
            path = name.removeprefix(prefix).lower().replace(SEPARATOR, ".")
            return settings(value if path in SETTINGS else _read(value), path)
    return HIDDEN


def _read(value: str) -> object:
    """A section is written as JSON in the environment."""
    try:
        found: object = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, (dict, list)) else value


def _plain(value: object) -> object:
    """A value, unless it cannot be what the setting is for, such as a key instead of its file."""
    if isinstance(value, str) and (len(value) > VALUE_MOST or not value.isprintable()):
        return HIDDEN
    return without_passwords(value)
