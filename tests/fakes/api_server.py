"""An API server that tests can drive: lists in pages, watches, compaction, conflicts.

It stands beside the real one, on which `make kubernetes-test` runs; here it does on demand what the
real one does seldom.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lightkube.config.kubeconfig import KubeConfig, SingleConfig

from services.kubernetes.cluster.api_server import ApiServer

APPLY = "APPLY"
"""A PATCH that is a server-side apply."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class FakeApiServer:
    """One kind of object per path, keyed by the rest of the path."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[str, Any]] = {}
        """By whole path."""
        self.history: list[tuple[int, str, str, dict[str, Any]]] = []
        """Version, path, type and object."""
        self.compacted = 0
        self.requests: list[str] = []
        self.fails: int = 0
        """Status of every answer; 0: what it should be."""
        self.garbled = False
        """Lists are something else."""
        self.bookmarks = True
        self.unknown: set[str] = set()
        """Paths of kinds that are not defined."""
        self.url = ""
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[ApiServer]:
        """A client of it."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = ApiServer(self.config())
        try:
            yield client
        finally:
            await client.close()
            server.close()
            self.drop()
            await asyncio.sleep(0)

    def config(self) -> SingleConfig:
        """Where it is."""
        found = KubeConfig.from_dict(
            {
                "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        ).get()
        assert found is not None
        return found

    def put(self, path: str, **parts: Any) -> dict[str, Any]:
        """Adds or changes an object."""
        self.version += 1
        kind = "MODIFIED" if path in self.objects else "ADDED"
        metadata = {**parts.pop("metadata", {}), "name": path.rpartition("/")[2]}
        metadata["resourceVersion"] = str(self.version)
        item = {"metadata": metadata, **parts}
        self.objects[path] = item
        self._note(kind, path, item)
        return item

    def delete(self, path: str) -> None:
        """Removes an object."""
        self.version += 1
        item = self.objects.pop(path)
        item["metadata"]["resourceVersion"] = str(self.version)
        self._note("DELETED", path, item)

    def compact(self) -> None:
        """Forgets its history, and so does who watches from before."""
        self.compacted = self.version
        self.history.clear()

    def drop(self) -> None:
        """Breaks all connections."""
        for writer in list(self._writers):
            writer.transport.abort()
        self._wake()

    def _note(self, kind: str, path: str, item: dict[str, Any]) -> None:
        self.history.append((self.version, path, kind, json.loads(json.dumps(item))))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.decode().split(" ", 2)
                headers = head.decode().lower()
                length = headers.partition("content-length: ")[2].partition("\r")[0]
                body = await reader.readexactly(int(length or 0))
                self.requests.append(f"{method} {target}")
                kind = method if "apply-patch" not in headers else APPLY
                await self._answer(writer, kind, target, body)
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, target: str, body: bytes
    ) -> None:
        parts = urlsplit(target)
        query = {key: texts[0] for key, texts in parse_qs(parts.query).items()}
        if self.fails:
            await self._send(writer, self.fails, {"message": "as told", "code": self.fails})
        elif parts.path in self.unknown:
            await self._send(writer, 404, {"message": "no such kind", "code": 404})
        elif query.get("watch") == "true":
            await self._watch(writer, parts.path, int(query["resourceVersion"]))
        elif method == "GET" and parts.path in self.objects:
            await self._send(writer, 200, self.objects[parts.path])
        elif method == "GET" and "limit" in query:
            await self._list(writer, parts.path, query)
        elif method in {"PATCH", APPLY}:
            await self._patch(writer, method, parts.path, json.loads(body))
        elif method in {"POST", "PUT"}:
            await self._write(writer, method, parts.path, json.loads(body))
        else:
            await self._send(writer, 404, {"message": "not found", "code": 404})

    async def _list(self, writer: asyncio.StreamWriter, path: str, query: dict[str, str]) -> None:
        if self.garbled:
            await self._send(writer, 200, "hello")
            return
        items = [item for key, item in sorted(self.objects.items()) if key.startswith(path + "/")]
        version, _, start = query.get("continue", f"{self.version}:0").partition(":")
        if int(version) < self.compacted:
            await self._send(writer, 410, {"message": "expired", "code": 410})
            return
        first, most = int(start), int(query["limit"])
        more = f"{version}:{first + most}" if first + most < len(items) else ""
        metadata = {"resourceVersion": version, "continue": more}
        page = {"metadata": metadata, "items": items[first : first + most]}
        await self._send(writer, 200, page)

    async def _watch(self, writer: asyncio.StreamWriter, path: str, since: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.transport.is_closing():
            if since < self.compacted:
                self._chunk(writer, {"type": "ERROR", "object": {"code": 410, "message": "old"}})
                writer.write(b"0\r\n\r\n")
                return
            changed = self._changed
            for version, key, kind, item in self.history:
                if version > since and key.startswith(path + "/"):
                    self._chunk(writer, {"type": kind, "object": item})
            if self.bookmarks and self.version > since:
                mark = {"metadata": {"resourceVersion": str(self.version)}}
                self._chunk(writer, {"type": "BOOKMARK", "object": mark})
            since = self.version
            await writer.drain()
            await changed.wait()

    async def _patch(
        self, writer: asyncio.StreamWriter, method: str, path: str, body: dict[str, Any]
    ) -> None:
        """What is applied is made if it is not there."""
        key = path.removesuffix("/status")
        name = key.rpartition("/")[2]
        if key not in self.objects and (key != path or method != APPLY):
            await self._send(writer, 404, {"message": "not found", "code": 404})
        elif not _NAME.fullmatch(name):
            await self._send(writer, 422, {"message": f"{name} is no name", "code": 422})
        else:
            known = self.objects.get(key, {})
            metadata = {**known.get("metadata", {}), **body.get("metadata", {})}
            await self._send(writer, 200, self.put(key, **{**known, **body, "metadata": metadata}))

    async def _write(
        self, writer: asyncio.StreamWriter, method: str, path: str, item: dict[str, Any]
    ) -> None:
        key = path if method == "PUT" else f"{path}/{item['metadata']['name']}"
        known = self.objects.get(key)
        version = item["metadata"].pop("resourceVersion", None)
        if not _NAME.fullmatch(item["metadata"]["name"]):
            await self._send(writer, 422, {"message": "this is no name", "code": 422})
            return
        stale = known is not None and version != known["metadata"]["resourceVersion"]
        if stale or (known is not None and method == "POST"):
            await self._send(writer, 409, {"message": "conflict", "code": 409})
            return
        await self._send(writer, 200, self.put(key, **item))

    async def _send(self, writer: asyncio.StreamWriter, status: int, item: object) -> None:
        body = json.dumps(item).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    @staticmethod
    def _chunk(writer: asyncio.StreamWriter, event: object) -> None:
        line = json.dumps(event).encode() + b"\n"
        writer.write(b"%x\r\n%b\r\n" % (len(line), line))
