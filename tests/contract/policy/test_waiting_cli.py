"""`romana ... --wait`: it ends well when no node enforces what was before, and only then."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from romana.policy.v1 import policy_service_pb2 as api

from tests.contract.policy.conftest import Pair
from tests.support.ipam_process import poll
from tests.support.policy_process import endpoint, report, rules_agent
from tests.support.sync_agent import SyncAgent

NOT_IN_TIME = 5
POLICIES = """
policies:
  - name: t/near
    targets: [{{endpoints: {{tenants: [{targets}]}}}}]
    ingress:
      - peers: [{{endpoints: {{tenant_labels: {{match_labels: {{stage: live}}}}}}}}]
        ports: [{{protocol: tcp, port: {port}}}]
tenants:
  - {{name: u, labels: {{stage: live}}}}
"""


async def romana(pair: Pair, *arguments: str) -> tuple[int, str]:
    """Exit code and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ctl.main", *arguments),
        *("--policy-address", pair.second.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    return process.returncode or 0, err.decode()


def written(folder: Path, *, targets: str = "t", port: int = 80) -> str:
    made = folder / "policies.yaml"
    made.write_text(POLICIES.format(targets=targets, port=port))
    return str(made)


@pytest.fixture
async def stopped(pair: Pair, tmp_path: Path) -> SyncAgent:
    """An agent that has applied a policy, and stopped since."""
    await report(pair, "h1", endpoint("near", "10.0.0.1"))
    await report(pair, "h2", endpoint("far", "10.0.0.9", tenant="u"))
    async with (
        rules_agent("h1", [pair.first.address]) as agent,
        rules_agent("h2", [pair.second.address]) as other,
    ):
        await agent.until_in_sync()
        await other.until_in_sync()
        code, err = await romana(pair, "policy", "apply", written(tmp_path), "--wait", "20")
        # before the last line stands how far it is, if it takes longer
        assert (code, err.splitlines()[-1]) == (0, "Applied by 1 node")
    return agent


@pytest.mark.parametrize(
    "change",
    [
        ("policy", "delete", "t/near", "--yes"),
        ("policy", "apply", "port"),
        ("policy", "apply", "targets"),
        ("tenant", "set", "u", "--label", "stage=test"),
        ("tenant", "delete", "u", "--yes"),
    ],
    ids=" ".join,
)
async def test_a_node_whose_agent_has_stopped_is_waited_for(
    pair: Pair, stopped: SyncAgent, tmp_path: Path, change: tuple[str, ...]
) -> None:
    if change[2] == "port":
        change = (*change[:2], written(tmp_path, port=81))
    elif change[2] == "targets":
        change = (*change[:2], written(tmp_path, targets="elsewhere"))
    code, err = await romana(pair, *change, "--wait", "0.5")
    assert code == NOT_IN_TIME
    assert "1 of 1 node had not applied it within 0.5 s: h1" in err

    async def told() -> bool:
        request = api.GetRealizationRequest(nodes_only=True, nodes=["h1"])
        return [one.current for one in (await pair.other.GetRealization(request)).nodes] == [True]

    async with rules_agent("h1", [pair.first.address], stopped.receiver):
        await poll(told, 10)
        done = await romana(pair, "policy", "delete", "t/near", "--yes", "--wait", "20")
        assert done[0] in {0, 3}
