"""The endpoints' part of an agent as a process, which can be made to die between two steps.

python -m tests.support.agent_child '{"state_dir": ..., "ipam": ..., "node": ..., "agent": ...,
"cni": ..., "die_at": "linked"}'

It writes "ready" to standard output when it serves. Routes are not its business.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from romana.agent.v1 import agent_service_pb2_grpc

from services.agent.kernel.announce import ProbeSettings
from services.agent.model import Remote
from services.agent.wiring.endpoints import build_endpoints
from services.common.model.names import NetworkName
from services.common.model.network import Mode, Network
from services.common.model.node import Attachment
from services.common.process.logs import configure_logs
from services.common.process.metrics import new_registry
from services.common.rpc.channel import open_channel
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from tests.fakes.reconciler import FakeReconciler


async def serve(options: dict[str, Any]) -> None:
    networks = {
        NetworkName(name): Network(
            NetworkName(name), ip_network(cidr), 29, mode=Mode(mode), mtu=int(mtu)
        )
        for name, cidr, mode, mtu in options["networks"]
    }
    reconciler = FakeReconciler(Remote(networks=networks))

    def passed(step: str) -> None:
        if step == options.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    async with open_channel(options["ipam"]) as channel:
        built = build_endpoints(
            node=options["node"],
            state_dir=Path(options["state_dir"]),
            reconciler=reconciler,
            ipam=[channel],
            attachments=lambda: [
                Attachment(NetworkName(name), interface) for name, interface in options["on"]
            ],
            probes=ProbeSettings(seconds=0.1),
            passed=passed,
        )
        await built.recovery.restore()
        server = RpcServer(RpcMetrics(new_registry("agent")))
        server.register(agent_service_pb2_grpc.add_AgentServiceServicer_to_server, built.service)
        server.listen(options["agent"])
        await server.start()
        await built.cni.start(Path(options["cni"]))
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        background = asyncio.create_task(built.recovery.run())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()
        await server.stop(5)
        background.cancel()
        await built.close()


if __name__ == "__main__":
    configure_logs("agent", level="debug", format="json")
    asyncio.run(serve(json.loads(sys.argv[1])))
