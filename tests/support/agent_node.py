"""A node in a namespace: the endpoints' part of an agent, and what a runtime would start there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import grpc.aio
from romana.agent.v1 import agent_service_pb2 as pb
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from romana.ipam.v1 import allocation_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_pb

from tests.support.ipam_process import IpamProcess, poll
from tests.support.netns import Namespace, Namespaces

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "services" / "agent" / "cni" / "plugin.py"
PROGRAM = SCRIPT.with_name("romana-cni")
PLUGINS = (PROGRAM, SCRIPT)
"""The same twice: compiled where there is a compiler, and for where there is none."""
NODE = "n1"


def run_plugin(
    command: str,
    config: Mapping[str, Any],
    *,
    container: str,
    netns: str = "",
    interface: str = "eth0",
    args: str = "",
    user: int = 0,
    plugin: Path = PROGRAM,
) -> tuple[int, Any]:
    """Runs romana-cni as a runtime does; its exit status and what it printed."""
    document = {"cniVersion": "1.1.0", "name": "pods", "type": "romana-cni", **config}
    guard = ["setpriv", f"--reuid={user}", "--clear-groups", "--"] if user else []
    done = subprocess.run(
        [*guard, str(plugin)],
        input=json.dumps(document).encode(),
        capture_output=True,
        timeout=60,
        check=False,
        env={
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": interface,
            "CNI_ARGS": args,
            "CNI_PATH": "/opt/cni/bin",
        },
    )
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else None


class Node:
    """The node's namespace, its agent, and what a runtime would start on it."""

    def __init__(self, namespaces: Namespaces, folder: Path, ipam: IpamProcess) -> None:
        self.namespaces = namespaces
        self.home = namespaces.new("node")
        self.folder = folder
        self.ipam = ipam
        self.socket = f"unix:{folder}/agent.sock"
        self.cni_socket = folder / "cni.sock"
        self.plugin = PROGRAM
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        """Opens a channel to the agent, started or not."""
        self.channel = grpc.aio.insecure_channel(
            self.socket, options=(("grpc.max_reconnect_backoff_ms", 100),)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kills the agent."""
        self.kill()
        assert self.channel is not None
        await self.channel.close()

    def start(self, die_at: str = "") -> None:
        """Starts the agent and waits until it serves; `die_at`: where it kills itself."""
        options = {
            "state_dir": str(self.folder / "state"),
            "ipam": self.ipam.address,
            "node": NODE,
            "agent": self.socket,
            "cni": str(self.cni_socket),
            "networks": [
                ["net", "10.1.0.0/24", "routed", "0"],
                ["lan", "10.2.0.0/24", "onlink", "0"],
                ["six", "fd00:1::/64", "routed", "0"],
            ],
            "on": [["net", "up0"], ["lan", "up0"]],
            "die_at": die_at,
        }
        with self.log.open("ab") as log:
            self.process = self.home.start(
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    "--",
                    sys.executable,
                    "-m",
                    "tests.support.agent_child",
                    json.dumps(options),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == b"ready\n", self.log.read_text()[-3000:]

    @property
    def stub(self) -> Any:
        assert self.channel is not None
        return AgentServiceStub(self.channel)

    def kill(self) -> None:
        """Ends the agent as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def stop(self) -> int:
        """Ends it in order."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.kill()
        return status

    def links(self) -> list[str]:
        """Our pairs in the node's namespace."""
        found = json.loads(self.home.run("ip -j link show"))
        return sorted(item["ifname"] for item in found if item["ifname"].startswith("rom"))

    async def addresses(self) -> list[str]:
        """What ipam has allocated."""
        async with self.ipam.connect() as stub:
            answer = await stub.ListAddresses(ipam_pb.ListAddressesRequest())
        return [item.address for item in answer.allocations]

    def records(self) -> list[str]:
        """Files of the journal."""
        return sorted(path.name for path in (self.folder / "state" / "endpoints").glob("*"))

    def spec(
        self, name: str, target: Namespace | str, network: str = "net", **rest: Any
    ) -> endpoint_pb2.EndpointSpec:
        path = target if isinstance(target, str) else target.path
        interface = rest.pop("interface", "")
        address = rest.pop("address", "")
        return endpoint_pb2.EndpointSpec(
            name=name,
            tenant=rest.pop("tenant", "t"),
            target=endpoint_pb2.EndpointTarget(
                namespace=endpoint_pb2.NamespaceTarget(path=path, interface=interface)
            ),
            addresses=[
                allocation_pb2.AddressSpec(network=item, address=address)
                for item in network.split(",")
            ],
            **rest,
        )

    async def attach(self, name: str, target: Namespace | str, **rest: Any) -> Any:
        spec = self.spec(name, target, **rest)
        return await self.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=60)

    async def detach(self, name: str) -> Any:
        return await self.stub.DetachEndpoint(pb.DetachEndpointRequest(name=name), timeout=60)

    async def check(self, name: str) -> Any:
        return await self.stub.CheckEndpoint(pb.CheckEndpointRequest(name=name), timeout=60)

    def cni(
        self,
        command: str,
        container: str = "c1",
        netns: str = "",
        interface: str = "eth0",
        *,
        config: dict[str, Any] | None = None,
        args: str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=t",
        user: int = 0,
    ) -> tuple[int, Any]:
        """Runs romana-cni; its exit status and what it printed."""
        document = {"network": "net", "socket": str(self.cni_socket), **(config or {})}
        return run_plugin(
            command,
            document,
            container=container,
            netns=netns,
            interface=interface,
            args=args,
            user=user,
            plugin=self.plugin,
        )


class RealNode(Node):
    """A node that runs `services.agent.main`."""

    networks: tuple[str, ...] = ("net", "lan")
    more: ClassVar[Mapping[str, str]] = {}
    """Settings beside those below."""

    def start(self, die_at: str = "") -> None:
        assert not die_at
        settings = {
            "NODE": NODE,
            "ADDRESS": "192.168.0.1",
            "REGISTER_NODE": "false",
            "IPAM": self.ipam.address,
            "STATE_DIR": str(self.folder / "state"),
            "SOCKET": str(self.folder / "agent.sock"),
            "CNI_SOCKET": str(self.cni_socket),
            "METRICS__ADDRESS": "127.0.0.1:0",
            "QUICK_CHECK": "1",
            "ATTACHMENTS": json.dumps(
                [{"network": name, "interface": "up0"} for name in self.networks]
            ),
            **self.more,
        }
        variables = [f"ROMANA_AGENT__{key}={value}" for key, value in settings.items()]
        with self.log.open("ab") as log:
            self.process = self.home.start(
                ["env", *variables, sys.executable, "-m", "services.agent.main"],
                stderr=log,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )

    async def ready(self) -> None:
        """Waits until it says so."""

        async def ready() -> bool:
            try:
                status = await self.stub.GetStatus(pb.GetStatusRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return False
            return bool(status.ready and status.connected)

        try:
            await poll(ready, 60)
        except TimeoutError:
            raise AssertionError(self.log.read_text()[-4000:]) from None
