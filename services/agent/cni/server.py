"""The agent's second Unix socket, for `romana-cni` and `romana-ipam`.

The protocol is described in `plugin`.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Final

import structlog

from services.agent.cni import asked, protocol, told
from services.agent.cni.delegated import PLUGIN, Delegated
from services.agent.cni.plugin_start import started
from services.agent.cni.protocol import CniError, Command, Request
from services.agent.endpoints.lifecycle import Endpoints
from services.agent.endpoints.records import Records
from services.agent.model import WantedEndpoint
from services.agent.routing.reconcile import Reconciler
from services.agent.rules.wanted import WantedEndpoints
from services.common.errors import RomanaError, WrongState
from services.common.process.logs import current_request
from services.common.tracing import spans

log = structlog.get_logger(__name__)

ATTACH_SECONDS: Final = 30.0
WANTED_SECONDS: Final = 5.0
"""For an orchestrator to say what a pod wants that its runtime already attaches."""
READ_SECONDS: Final = 10.0
REQUEST_MOST: Final = 1 << 20
"""Bytes."""
_UMASK: Final = 0o177


class CniServer:
    """Serves runtimes on this machine."""

    def __init__(
        self,
        endpoints: Endpoints,
        records: Records,
        reconciler: Reconciler,
        delegated: Delegated,
        wanted: WantedEndpoints | None = None,
    ) -> None:
        """`wanted`: what an orchestrator says of pods; None: nobody says anything here."""
        self._delegated = delegated
        self._wanted = wanted
        self._endpoints = endpoints
        self._records = records
        self._reconciler = reconciler
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def start(self, path: Path) -> None:
        """Listens, with mode 0600; WrongState if another agent does."""
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        else:
            writer.close()
            raise WrongState(f"somebody else listens on {path}", "ADDRESS_UNAVAILABLE")
        before = os.umask(_UMASK)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, path, limit=REQUEST_MOST, backlog=512
            )
        finally:
            os.umask(before)
        self._path = path
        log.info("cni_listening", socket=str(path))

    async def stop(self) -> None:
        """Takes no more; what is being attached goes on in `Endpoints`."""
        if self._server is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                content = await _whole(reader)
            if content:
                with spans.span("romana-cni", begun=_begun(writer), serves=True):
                    writer.write(await self.answer(content))
                await writer.drain()
        except (OSError, TimeoutError) as error:
            log.warning("cni_connection_lost", error=str(error))
        finally:
            writer.close()

    async def answer(self, content: bytes) -> bytes:
        """Exit status and output for a whole request."""
        current_request.set(f"cni-{secrets.token_hex(6)}")
        environment, config = _split(content)
        version = str(protocol.version_answer(config)["cniVersion"])
        try:
            request = protocol.parse(environment, config)
            delegated = environment.get("ROMANA_PLUGIN") == PLUGIN
            with spans.child(f"agent: {request.command.name}"):
                made = await (self._delegated.perform if delegated else self._perform)(request)
        except CniError as error:
            failed = error
        except RomanaError as error:
            failed = protocol.of_error(error)
        except Exception:
            log.exception("cni_failed")
            failed = CniError(protocol.INTERNAL, "internal error; the agent's log says more")
        else:
            return b"0\n" + (json.dumps(made).encode() + b"\n" if made is not None else b"")
        log.info(
            "cni_refused",
            command=environment.get("CNI_COMMAND", ""),
            container=environment.get("CNI_CONTAINERID", ""),
            code=failed.code,
            message=failed.message,
        )
        return b"1\n" + json.dumps(protocol.error_answer(version, failed)).encode() + b"\n"

    async def _perform(self, request: Request) -> dict[str, object] | None:
        match request.command:
            case Command.ADD:
                return await self._add(request)
            case Command.DEL:
                container = "" if request.pod is None else request.container
                await self._endpoints.detach(request.name, container)
            case Command.CHECK:
                await self._check(request)
            case Command.GC:
                await self._collect(request)
            case Command.STATUS:
                await self._records.probe()
                if not self._reconciler.ready:
                    raise CniError(
                        protocol.NOT_AVAILABLE, "; ".join(self._reconciler.reasons) or "not ready"
                    )
            case Command.VERSION:
                return protocol.version_answer(json.dumps(request.config).encode())
        return None

    async def _add(self, request: Request) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if request.pod is None:
            spec = asked.spec_of(request)
        else:
            spec = asked.spec_of_pod(request, await self._wanted_for(request))
        known = loop.time()
        attached = await self._endpoints.attach(spec, begun + ATTACH_SECONDS)
        log.info(
            "cni_added",
            endpoint=spec.name,
            milliseconds={
                "waited": round((known - begun) * 1000),
                "attached": round((loop.time() - known) * 1000),
            },
        )
        endpoint = attached.view.record.endpoint
        assert endpoint is not None
        result = told.result(request, endpoint)
        networks = self._reconciler.remote.networks
        names = dict.fromkeys(address.network for address in endpoint.addresses)
        of_networks = told.dns(networks[name] for name in names if name in networks)
        return {**result, "dns": result["dns"] or of_networks}

    async def _wanted_for(self, request: Request) -> WantedEndpoint:
        """What the orchestrator wants: it reaches the node before the runtime asks, as a rule."""
        if self._wanted is None:
            raise CniError(
                protocol.BAD_CONFIGURATION,
                "orchestrator: this agent has no policy service that would say what pods want",
            )
        wanted = await self._wanted.wait(request.name, WANTED_SECONDS)
        if wanted is None:
            raise CniError(
                protocol.TRY_AGAIN,
                f"{request.pod} is not known on this node: waited {WANTED_SECONDS:.0f} s for "
                "romana-kubernetes to say by way of the policy service what it wants",
                "; ".join(self._reconciler.reasons),
            )
        return wanted

    async def _check(self, request: Request) -> None:
        view, problems = await self._endpoints.check(request.name)
        if request.pod is not None and view.record.spec.container != request.container:
            problems = [f"it is in container {view.record.spec.container}", *problems]
        if view.record.endpoint is not None:
            problems = [*told.differences(request, view.record.endpoint), *problems]
        if problems:
            raise CniError(protocol.NOT_AS_IT_SHOULD_BE, "; ".join(problems))

    async def _collect(self, request: Request) -> None:
        valid = protocol.valid_attachments(request)
        stale = [
            name
            for name, record in self._endpoints.records.items()
            if record.spec.origin == request.origin and protocol.key_of(record.spec) not in valid
        ]
        failed: list[RomanaError] = []
        for name in stale:
            try:
                await self._endpoints.detach(name)
            except RomanaError as error:  # as the specification has it: the others go all the same
                log.warning("cni_not_collected", endpoint=name, message=error.message)
                failed.append(error)
            else:
                log.info("cni_collected", endpoint=name)
        if failed:
            raise failed[0]


async def _whole(reader: asyncio.StreamReader) -> bytes:
    content = await reader.read(REQUEST_MOST)
    while part := await reader.read(REQUEST_MOST):
        content += part
        if len(content) > REQUEST_MOST:
            raise OSError(f"a request of more than {REQUEST_MOST} bytes")
    return content


def _split(content: bytes) -> tuple[dict[str, str], bytes]:
    """Environment and configuration."""
    head, _, config = content.partition(b"\0\0")
    environment = {}
    for item in head.split(b"\0"):
        key, _, value = item.decode(errors="replace").partition("=")
        environment[key] = value
    return environment, config


def _begun(writer: asyncio.StreamWriter) -> float | None:
    """When the plug-in was started that asks, Unix time, if spans are of interest."""
    peer: socket.socket | None = writer.get_extra_info("socket")
    return started(peer) if peer is not None and spans.is_on() else None
