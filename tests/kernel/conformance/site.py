"""The cluster that conformance cases run on, and how a step is put into force."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lab.agents import socket_path
from services.agent.rules.spool import RuleSpool
from tests.kernel.conformance.cases import Step
from tests.kernel.conformance.driver import Driver, Refused
from tests.kernel.conformance.pods import NAMESPACES, PODS, PORTS, Pod, Pods
from tests.support.ipam_process import poll

START_SECONDS = 30.0
OURS = {"test": "conformance"}
"""Labels of all policies: what a step does not name is pruned."""


@dataclass
class Site:
    """Nine pods and the policy service."""

    pods: Pods
    driver: Driver

    async def prepare(self) -> None:
        """Names ports and labels namespaces."""
        await self._label({}, {})

    async def take(self, step: Step) -> None:
        """Puts a step into force on all nodes."""
        await self._label(step.pod_labels, step.namespace_labels)
        await self.apply(step.documents)

    async def apply(self, documents: str) -> None:
        """Makes these documents all there is, on all nodes."""
        await self.submit(documents)
        await self.driver.realized([*self.pods.nodes])

    async def submit(self, documents: str) -> None:
        """Makes these documents all there is, and waits for no node."""
        text = self._filled(documents).encode()
        body: dict[str, object] = {"pruneLabels": OURS}
        if documents:
            body["documents"] = [{"content": base64.b64encode(text).decode(), "source": "case"}]
        await self.driver.call("ApplyPolicies", body)

    async def kept(self, node: str) -> None:
        """Waits until a node begins with the rules that are in force, should it begin anew."""
        spool = RuleSpool(socket_path(self.pods.cluster.folder, node).parent)

        async def so() -> bool:
            said = await self.driver.call("GetRealization", {"nodes": [node]})
            kept = spool.load().position
            return kept is not None and str(kept.digest) == said["nodes"][0]["applied"]["digest"]

        await poll(so, START_SECONDS, what=f"the rules of {node} to be on its disk")

    async def apply_at_last(self, documents: str) -> None:
        """The same while the service may be starting."""
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return await self.apply(documents)
            except Refused:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(0.1)

    async def _label(
        self,
        pods: Mapping[Pod, Mapping[str, str]],
        namespaces: Mapping[str, Mapping[str, str]],
    ) -> None:
        said = await self.driver.call(
            "PutTenants",
            {
                "tenants": [
                    {
                        "name": name,
                        "labels": {
                            "kubernetes.io/metadata.name": name,
                            **namespaces.get(name, {"ns": name}),
                        },
                    }
                    for name in NAMESPACES
                ]
            },
        )
        assert not any(result.get("code") for result in said["results"]), said
        said = await self.driver.call(
            "PutEndpoints",
            {
                "endpoints": [
                    {
                        "name": pod.endpoint,
                        "tenant": pod.namespace,
                        "labels": dict(pods.get(pod, {"pod": pod.name})),
                        "ports": _ports(),
                    }
                    for pod in PODS
                ]
            },
        )
        assert not any(result.get("code") for result in said["results"]), said

    def _filled(self, documents: str) -> str:
        for pod, addresses in self.pods.addresses.items():
            for address in addresses.values():
                mark = f"{{{pod}}}" if address.version == 4 else f"{{{pod} v6}}"
                documents = documents.replace(mark, str(address))
        return documents


def _ports() -> list[dict[str, object]]:
    return [
        {
            "name": f"serve-{port}" + ("" if protocol == "TCP" else f"-{protocol.lower()}"),
            "protocol": protocol,
            "port": port,
        }
        for port in PORTS
        for protocol in ("TCP", "UDP", "SCTP")
    ]
