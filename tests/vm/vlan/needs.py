"""What the tests with real 802.1Q need, and how long they wait for it."""

from __future__ import annotations

import functools
import subprocess

import pytest

from lab.namespaces import missing
from tests.support.ipam_process import IN_VM, VM_PATIENCE

COMMANDS = (
    "ip link add trunk type bridge vlan_filtering 1",
    "ip link add a type veth peer name b",
    "ip link add link a name a.5 type vlan id 5",
)
PATIENCE = VM_PATIENCE if IN_VM else 1.0


@functools.cache
def lacking() -> str:
    """What this kernel lacks; empty: nothing. In the VM nothing may lack: the tests say what."""
    if IN_VM:
        return ""
    if missing():
        return missing()
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", "\n".join(COMMANDS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return "" if done.returncode == 0 else "802.1Q and VLAN-aware bridges in the kernel"


TRUNK = pytest.mark.skipif(bool(lacking()), reason=f"needs {lacking()}")
