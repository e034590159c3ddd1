"""The HTTP endpoint, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from services.common.errors import InvalidInput, WrongState
from services.common.process.metrics import LoopLag, new_registry
from services.common.process.version import version
from services.common.rpc.http_server import HttpServer
from services.common.rpc.metrics_pages import metrics_server
from services.common.socket_address import TcpAddress


@dataclass
class Endpoint:
    server: HttpServer
    registry: CollectorRegistry
    address: TcpAddress
    ready: list[bool]

    async def send(self, text: str) -> str:
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        writer.write(text.encode())
        writer.write_eof()
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return answer

    async def get(self, path: str, headers: str = "", method: str = "GET") -> tuple[int, str, str]:
        answer = await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), head, body


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    registry, ready = new_registry("probe"), [False]
    server = metrics_server(registry, lambda: ready[0])
    yield Endpoint(server, registry, await server.start("127.0.0.1:0"), ready)
    await server.stop()


async def test_metrics_say_what_runs_and_what_was_counted(endpoint: Endpoint) -> None:
    Counter("romana_probe_things_total", "Things.", registry=endpoint.registry).inc(3)
    status, _, body = await endpoint.get("/metrics")
    samples = {
        sample.name: sample
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }

    assert status == 200
    assert samples["romana_probe_things_total"].value == 3
    assert samples["romana_build_info"].labels == {"version": version(), "service": "probe"}
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections_total"} <= set(
        samples
    )


async def test_a_scraper_may_ask_for_openmetrics_with_a_query(endpoint: Endpoint) -> None:
    accept = "Accept: application/openmetrics-text; version=1.0.0\r\n"
    _, head, body = await endpoint.get("/metrics?x=1", accept)

    assert "application/openmetrics-text" in head
    assert body.endswith("# EOF\n")


async def test_ready_follows_the_process_and_healthy_does_not(endpoint: Endpoint) -> None:
    assert (await endpoint.get("/readyz"))[0] == 503
    assert (await endpoint.get("/healthz"))[0] == 200
    endpoint.ready[0] = True
    assert (await endpoint.get("/readyz"))[0] == 200


async def test_head_has_no_body(endpoint: Endpoint) -> None:
    status, _, body = await endpoint.get("/metrics", method="HEAD")

    assert (status, body) == (200, "")


async def test_other_paths_and_methods_are_refused(endpoint: Endpoint) -> None:
    assert (await endpoint.get("/secret"))[0] == 404
    assert (await endpoint.get("/metrics", method="POST"))[0] == 405


@pytest.mark.parametrize("text", ["", "nonsense\r\n\r\n", "GET /metrics", "x" * 100_000])
async def test_what_is_no_http_is_closed_and_the_next_is_served(
    endpoint: Endpoint, text: str
) -> None:
    with contextlib.suppress(ConnectionError):  # closed with unread input
        assert await endpoint.send(text) == ""
    assert (await endpoint.get("/healthz"))[0] == 200


async def test_a_taken_port_is_an_error_at_the_start(endpoint: Endpoint) -> None:
    with pytest.raises(WrongState, match="cannot serve metrics"):
        await metrics_server(endpoint.registry, lambda: True).start(str(endpoint.address))


async def test_a_unix_socket_is_no_place_for_metrics(endpoint: Endpoint) -> None:
    with pytest.raises(InvalidInput):
        await metrics_server(endpoint.registry, lambda: True).start("unix:/run/x")


async def test_the_loops_lag_is_measured() -> None:
    registry = CollectorRegistry()
    task = asyncio.create_task(LoopLag(registry).run())

    while not registry.get_sample_value("romana_event_loop_lag_seconds_count"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
