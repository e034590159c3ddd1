"""The console's data over HTTP, against what the services say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.topology.v1 import node_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.etcd.process import LocalEtcd
from services.common.rpc.channel import open_channel
from services.common.sync.model import Failure
from tests.support.certificates import Authority
from tests.support.console_site import (
    HOSTILE,
    TOPOLOGY,
    Site,
    agents,
    allocate,
    fill,
    refused,
    running,
)

WAIT = 60.0


@pytest.fixture(scope="module")
def site(shared_etcd: LocalEtcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    root = f"/console-{uuid.uuid4().hex[:8]}"
    with running(shared_etcd.endpoint, root, folder, ALLOW_CHANGES="true") as found:
        asyncio.run(fill(found))
        found.until(lambda: len(found.get("/api/nodes")["nodes"]) == 3, "all nodes")
        found.until(lambda: used(found, "production") == 3, "all addresses")
        yield found


def used(site: Site, network: str) -> int:
    networks = site.get("/api/overview")["networks"]
    return sum(each["usage"]["used"] for each in networks if each["name"] == network)


def test_the_map_goes_down_to_single_addresses(site: Site) -> None:
    whole = site.get("/api/map/production")
    assert [area["name"] for area in whole["areas"]] == ["rack-1", "rack-2"]
    assert len(whole["cells"]) == 256
    assert sum(cell[2] for cell in whole["cells"]) == whole["usage"]["used"] == 3
    cell = next(each for each in whole["cells"] if each[2])
    part = site.get(f"/api/map/production?prefix={cell[0]}")
    names = {each["name"]: each for each in part["addresses"] if each["state"] == "used"}
    assert {"front", HOSTILE} <= names.keys()
    assert names["front"]["node"] == "n1"
    assert part["up"] == whole["prefix"]


def test_names_are_found(site: Site) -> None:
    def found(text: str) -> list[Any]:
        return list(site.get(f"/api/search?q={quote(text, safe='')}")["found"])

    front = found("front")[0]
    assert front["kind"] == "address"
    assert found(front["title"])[0]["detail"].startswith("front, on n1")
    assert found("n2")[0]["node"] == "n2"
    assert found("rack-1")[0]["kind"] == "group"
    assert found("shop")[0]["kind"] == "tenant"
    assert found(HOSTILE)[0]["detail"].startswith(HOSTILE)
    assert found("10.20.3.4")[0]["network"] == "test"
    assert found("nowhere-at-all") == []


def test_a_node_says_what_the_services_say(site: Site) -> None:
    node = site.get("/api/nodes/n1")
    assert node["node"]["address"] == "192.0.2.1"
    assert {each["name"] for each in node["addresses"]} == {"front", HOSTILE}
    assert node["problems"] == []
    assert node["own_routes"]


def test_who_reaches_whom_and_why(site: Site) -> None:
    matrix = site.until(
        lambda: (m := site.get("/api/matrix"))["owners"] and len(m["owners"]) == 2 and m,
        "both endpoints",
    )
    assert [(each["tenant"], each["segment"]) for each in matrix["owners"]] == [
        ("shop", "back"),
        ("shop", "front"),
    ]
    assert matrix["rows"][0][1] == [1, 1]
    by_endpoint = site.get("/api/matrix?tenant=shop&segment=front&to_tenant=shop&to_segment=back")
    assert by_endpoint["columns"] == ["back"]
    assert by_endpoint["rows"] == [{"name": "front", "cells": ["allow"]}]
    explained = site.get("/api/explain?source=front&destination=back&protocol=tcp&port=80")
    assert explained["explanations"][0]["action"] == "RULE_ACTION_ALLOW"


def test_errors_are_those_of_the_services(site: Site) -> None:
    for path, status, reason in (
        ("/api/map/nothing", 404, "NETWORK_NOT_FOUND"),
        ("/api/map/production?prefix=192.0.2.0/24", 400, "INVALID_INPUT"),
        ("/api/nodes/nobody", 404, "NODE_NOT_FOUND"),
        ("/api/explain?source=front", 400, "INVALID_INPUT"),
        ("/api/explain?source=front&destination=back&protocol=ipx", 400, "INVALID_INPUT"),
        ("/api/matrix?port=70000", 400, "INVALID_INPUT"),
        ("/api/search", 400, "INVALID_INPUT"),
        ("/api/example?policy=nothing", 404, "POLICY_NOT_FOUND"),
        ("/api/nothing", 404, "NOT_FOUND"),
    ):
        answer = site.ask(path)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason), path
    answer = site.post("/api/plan", {"text": "networks: [{name: x, cidr: 10.0.0.1/8}]"})
    assert answer.status_code == 400
    assert answer.json()["violations"][0]["path"].startswith("networks[0]")


def test_a_plan_changes_nothing_and_is_applied_only_as_it_was_seen(site: Site) -> None:
    text = TOPOLOGY.replace("cidr: 10.20.0.0/16", "cidr: 10.21.0.0/16")
    before = site.get("/api/topology")
    planned = site.post("/api/plan", {"text": text}).json()
    changed = {(each["network"], tuple(each["fields"])) for each in planned["plan"]["networks"]}
    assert ("test", ("cidr",)) in changed
    assert site.get("/api/topology") == before
    assert site.post("/api/apply", {"text": text}).status_code == 400
    stale = site.post("/api/apply", {"text": text, "etag": before["etag"] + "0"})
    assert stale.status_code == 409
    done = site.post("/api/apply", {"text": text, "etag": before["etag"]})
    assert done.status_code == 200, done.text
    site.until(
        lambda: any(
            each["kind"] == "topology" and "network test: cidr changed" in each["details"]
            for each in site.get("/api/changes")["changes"]
        ),
        "the change to be listed",
    )


async def test_a_change_is_told_and_followed_to_the_nodes(site: Site) -> None:
    async with agents(site), httpx2.AsyncClient(trust_env=False, timeout=WAIT) as client:
        async with client.stream("GET", f"{site.url}/api/events") as stream:
            lines = stream.aiter_lines()
            await anext(line async for line in lines if line == "event: ready")
            async with open_channel(site.address("ipam")) as channel:
                address = await allocate(IpamServiceStub(channel), "told", "n3", "told")
            async with asyncio.timeout(WAIT):
                await anext(
                    line
                    async for line in lines
                    if line.startswith("data:") and "map/production" in line
                )

        def done() -> Any:
            changes = site.get("/api/changes")["changes"]
            return [
                each
                for each in changes
                if each["kind"] == "blocks" and each["seconds"] is not None and each["needed"] == 3
            ]

        found = (await asyncio.to_thread(site.until, done, "all nodes to have it"))[0]
        assert found["applied"] == 3
        assert "n3" in found["what"]
        nodes = await asyncio.to_thread(site.get, "/api/nodes")
        assert nodes["counts"] == {"current": 3}
        assert address.startswith("10.40.")


async def test_a_change_says_who_made_it_and_a_rule_what_it_denies(site: Site) -> None:
    def made(what: str) -> Any:
        changes = site.get("/api/changes")["changes"]
        return [each for each in changes if each["what"] == what and each["authors"]]

    def asked(rule: str) -> Any:
        return site.get(f"/api/example?policy=refused&direction=ingress&rule={rule}")

    async with refused(site):
        created = (
            await asyncio.to_thread(
                site.until, lambda: made("policy refused created"), "its author"
            )
        )[0]
        (author,) = created["authors"]
        assert author["service"] == "policy"
        assert author["revision"] == created["revision"]
        assert author["identity"] == "unauthenticated (127.0.0.1)"

        def examples() -> list[Any]:
            return [asked(rule) for rule in ("0", "1", "2", "default", "\u00b2")]

        unknown = {"source": "", "destination": "back", "protocol": "", "port": 0}
        assert await asyncio.to_thread(examples) == [
            {"source": "front", "destination": "back", "protocol": "tcp", "port": 81},
            {**unknown, "source": "198.51.100.1"},
            {**unknown, "protocol": "tcp", "port": 82},
            unknown,
            unknown,
        ]


async def test_a_node_that_cannot_apply_is_named_with_the_reason(site: Site) -> None:
    async with agents(site) as routes:
        routes["n2"].failing = (Failure("network/production", "NO_LINK", "there is no eth7"),)
        async with open_channel(site.address("topology")) as channel:
            moved = node_pb2.Node(name="n3", address="192.0.2.33", labels={"rack": "rack-2"})
            moved.empty_attachments = node_pb2.EMPTY_ATTACHMENTS_EVERY_NETWORK
            update = topology_api.UpdateNodeRequest(node=moved)
            await TopologyServiceStub(channel).UpdateNode(update)

        def lagging() -> Any:
            rows = site.get("/api/nodes?state=failing")["nodes"]
            return [each for each in rows if each["name"] == "n2"]

        row = (await asyncio.to_thread(site.until, lagging, "the failure"))[0]
        assert "there is no eth7" in row["failures"][0]


def test_browsers_that_do_not_read_cost_a_bounded_amount_of_memory(site: Site) -> None:
    def memory() -> int:
        status = Path(f"/proc/{site.pid('console')}/status").read_text()
        return int(
            next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
        )

    before = memory()
    port = int(site.url.rpartition(":")[2])
    request = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request)
        site.until(lambda: site.get("/api/overview")["browsers"] >= 100, "a hundred browsers")
        asyncio.run(churn(site, 200))
        assert memory() - before < 40_000  # KiB
    site.until(lambda: site.get("/api/overview")["browsers"] == 0, "browsers to be gone")


async def churn(site: Site, number: int) -> None:
    """Allocations, one after the other."""
    async with open_channel(site.address("ipam")) as channel:
        stub = IpamServiceStub(channel)
        for each in range(number):
            await allocate(stub, f"churn-{each}", "n2")


def test_a_service_that_comes_back_is_followed_again(site: Site) -> None:
    site.kill("ipam")

    def lost() -> bool:
        overview = site.get("/api/overview")
        serving = {each["service"]: each["serving"] for each in overview["services"]}
        return "blocks" in overview["lost"] and not serving["ipam"]

    site.until(lost, "the loss to be said")
    shown = site.get("/api/map/production")["usage"]["used"]
    assert shown >= 3  # what was known is still there
    site.start("ipam")
    site.until(
        lambda: site.is_known() and not site.get("/api/overview")["lost"], "ipam to be followed"
    )
    assert site.get("/api/map/production")["usage"]["used"] == shown


def test_requests_that_are_no_http_or_too_large_do_no_harm(site: Site) -> None:
    port = int(site.url.rpartition(":")[2])
    for text in (b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, b"\r\n" * 5):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port)) as connection,
        ):
            connection.settimeout(10)
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert site.post("/api/plan", {"text": "x" * (9 << 20)}).status_code == 400
    assert site.is_known()


def test_it_only_shows_unless_it_is_allowed_more(shared_etcd: LocalEtcd, tmp_path: Path) -> None:
    with running(shared_etcd.endpoint, f"/console-{uuid.uuid4().hex[:8]}", tmp_path) as found:
        answer = found.post("/api/apply", {"text": TOPOLOGY, "etag": "1"})
        assert (answer.status_code, answer.json()["reason"]) == (403, "READ_ONLY")
        assert found.post("/api/plan", {"text": TOPOLOGY}).status_code == 200
        assert json.loads(found.log("console").splitlines()[0])["event"] == "settings"


def test_with_tls_everybody_may_do_what_their_own_certificate_allows(
    shared_etcd: LocalEtcd, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    service = authority.issue("services", uri="romana:service")
    root = f"/console-{uuid.uuid4().hex[:8]}"
    with running(shared_etcd.endpoint, root, tmp_path, service, ALLOW_CHANGES="true") as found:
        document = {"text": TOPOLOGY, "etag": found.get("/api/topology")["etag"] or "0"}
        for name, uri in (("node", "romana:node:n1"), ("nobody", "")):
            found.shown = authority.issue(name, uri=uri)
            for path in ("/api/overview", "/api/topology", "/api/events", "/api/nodes"):
                assert (found.ask(path).status_code, path) == (403, path)
        found.shown = authority.issue("reader", uri="romana:reader")
        assert "romana:reader" in found.get("/api/overview")["caller"]
        assert found.ask("/api/topology").status_code == 200
        refused = found.post("/api/apply", document)
        assert (refused.status_code, refused.json()["reason"]) == (403, "NOT_OPERATOR")
        found.shown = authority.issue("operator", uri="romana:operator")
        assert found.post("/api/plan", document).status_code == 200
        applied = found.post("/api/apply", document)
        assert applied.status_code == 200, applied.text
        found.shown = Authority(tmp_path / "other").issue("operator", uri="romana:operator")
        with pytest.raises(httpx2.HTTPError):
            found.ask("/api/overview")
