"""Every page of the console in headless Chromium, on real services: `make console-test`.

SCREENSHOTS=folder keeps a picture of each page, at two widths, light and dark.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import threading
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright
from romana.policy.v1 import device_pb2, policy_pb2
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1 import node_pb2
from romana.topology.v1 import topology_service_pb2 as topology_api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.etcd.process import LocalEtcd
from services.common.rpc.channel import open_channel
from tests.support.console_site import (
    HOSTILE,
    NODES,
    TOPOLOGY,
    Site,
    agents,
    fill,
    refused,
    running,
)
from tests.support.kept_kernel import KeptRoutes, KeptTable
from tests.support.policy_process import of_tenant

WIDE, NARROW = (1280, 900), (390, 800)
WAIT = 30_000
"""Milliseconds."""
PAGES = {
    "networks": "/",
    "map": "/map/production",
    "addresses": "/map/production?prefix=10.40.0.0/24",
    "plan": "/plan",
    "reach": "/reach",
    "endpoints": "/reach?tenant=shop&to_tenant=shop",
    "explain": "/explain?source=front&destination=back&protocol=tcp&port=80",
    "changes": "/changes",
    "nodes": "/nodes",
    "node": "/nodes/n1",
    "denied": "/denied",
    "search": "/search?q=n1",
}

expect.set_options(timeout=WAIT)


@pytest.fixture(scope="module")
def site(shared_etcd: LocalEtcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    root = f"/console-{uuid.uuid4().hex[:8]}"
    with running(shared_etcd.endpoint, root, folder, ALLOW_CHANGES="true") as found:
        beside(fill(found))
        found.until(lambda: len(found.get("/api/nodes")["nodes"]) == 3, "all nodes")
        found.until(lambda: len(found.get("/api/matrix")["owners"]) == 2, "both endpoints")
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program is not None, "Debian's package chromium is needed"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """Fails if the page complains, or asks anybody but the console."""
    context = browser.new_context(base_url=site.url, viewport={"width": 1280, "height": 900})
    found = context.new_page()
    found.set_default_timeout(WAIT)
    wrong: list[str] = []
    expected: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(e in message.text for e in expected):
            wrong.append(message.text)

    found.on("console", said)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on(
        "request",
        lambda request: None if request.url.startswith(site.url) else wrong.append(request.url),
    )
    found.expected = expected  # type: ignore[attr-defined]
    yield found
    context.close()
    assert wrong == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_fits_and_complains_of_nothing(
    page: Page, name: str, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="dark" if size is NARROW else "light")
    page.goto(PAGES[name])
    expect(page.locator("h1").first).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(UNNAMED) == []
    keep_picture(page, f"{name}-{size[0]}")


def keep_picture(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


UNNAMED = """[...document.querySelectorAll("a, button, input, select, textarea")]
  .filter((each) => !each.getAttribute("aria-label") && !each.textContent.trim())
  .filter((each) => !each.labels?.length)
  .map((each) => each.outerHTML)"""


def test_a_click_goes_down_to_an_address_and_its_address_can_be_sent(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="production").click()
    cells = page.locator(".cells a.has-held")
    expect(cells.first).to_be_visible()
    cells.first.click()
    page.locator(".addresses button.used").first.click()
    expect(page.locator(".said")).to_contain_text("on n1, shop")
    page.reload()
    expect(page.locator(".addresses button.used").first).to_be_visible()
    page.go_back()
    expect(page.locator(".cells a").first).to_be_visible()


def test_the_map_is_used_by_keyboard(page: Page) -> None:
    page.goto("/map/production")
    first = page.locator(".cells a").first
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".cells a").nth(17)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("10.40.17.0/24")


def test_a_node_shows_the_rules_that_the_command_shows(page: Page, site: Site) -> None:
    ready, finish = threading.Event(), threading.Event()

    async def change() -> None:
        async with agents(site), refused(site):
            ready.set()
            await asyncio.to_thread(finish.wait)

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(asyncio.run, change())
        try:
            ready.wait()
            rows = [
                line.split()
                for line in site.command("node", "rules", "n2").splitlines()
                if "refused" in line
            ]
            assert [row[:6] for row in rows] == [
                ["back", "ingress", "admin", "refused", str(number), "deny"] for number in range(3)
            ]
            page.goto("/nodes/n2")
            table = page.get_by_role("table", name="Rules")
            shown = table.get_by_role("row").filter(has_text="refused")
            expect(shown).to_have_count(3)
            for number, row in enumerate(rows):
                assert shown.nth(number).inner_text().split() == row
            told = page.get_by_text("Its agent says that it enforces all of this.")
            expect(told).to_be_visible()
        finally:
            finish.set()
            work.result()


@contextlib.contextmanager
def answering(site: Site) -> Iterator[dict[str, tuple[KeptTable, KeptRoutes]]]:
    """Agents, and a policy that is refused, for a while."""
    ready, finish = threading.Event(), threading.Event()
    kernels: dict[str, tuple[KeptTable, KeptRoutes]] = {}

    async def change() -> None:
        try:
            async with agents(site, kernels), refused(site):
                ready.set()
                await asyncio.to_thread(finish.wait)
        finally:
            ready.set()

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(asyncio.run, change())
        try:
            ready.wait()
            yield kernels
        finally:
            finish.set()
            work.result()


def ask_until(part: Locator, text: str) -> None:
    """Asks the agent until it says so: an answer lasts a moment."""
    said = part.get_by_role("status").filter(has_text=text)
    for _ in range(60):
        part.get_by_role("button", name="Ask its agent").click()
        expect(part.get_by_role("button", name="Ask its agent again")).to_be_enabled()
        if said.count():
            return
        part.page.wait_for_timeout(500)
    expect(said).to_be_visible()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_node_shows_what_its_kernel_has_and_lacks(
    page: Page, site: Site, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="dark" if size is NARROW else "light")
    rules = page.get_by_role("region", name="Rules in its kernel")
    routes = page.get_by_role("region", name="Routes in its kernel")
    with answering(site) as kernels:
        table, ways = kernels["n2"]
        page.goto("/nodes/n2")
        expect(page.get_by_role("table", name="Rules", exact=True)).to_contain_text("refused")
        for part in (rules, routes):
            ask_until(part, "Its kernel has all of this.")
            expect(part.get_by_role("table", name="Differences")).to_have_count(0)
        table.lost = "refused ingress 1"
        told = site.get("/api/nodes/n2")["remote_routes"][0]
        ways.lost = told["prefix"]
        for part in (rules, routes):
            ask_until(part, "Its kernel is not as it was told: 1 difference.")
            differences = part.get_by_role("table", name="Differences").get_by_role("row")
            expect(differences.filter(has_text="missing")).to_have_count(1)
        row = rules.get_by_role("table", name="Rules in its kernel").get_by_role("row").nth(1)
        assert row.inner_text().split() == [*("back", "ingress", "refused", "1", "deny", "no", "0")]
        row = routes.get_by_role("table", name="Routes in its kernel").get_by_role("row").nth(1)
        assert row.inner_text().split() == [
            *(told["network"], told["prefix"], told["node"], told["next_hop"], "no")
        ]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        keep_picture(page, f"kernel-{size[0]}")
        table.lost = ways.lost = ""
        for part in (rules, routes):
            ask_until(part, "Its kernel has all of this.")
        page.expected.append("409 (Conflict)")  # type: ignore[attr-defined]
        page.goto("/nodes/n3")
        for part in (rules, routes):
            part.get_by_role("button", name="Ask its agent").click()
            expect(part.get_by_role("alert")).to_contain_text("of a version that does not say")
    page.goto("/nodes/n2")
    for part in (rules, routes):
        part.get_by_role("button", name="Ask its agent").click()
        expect(part.get_by_role("alert")).to_contain_text("the agent of n2 has no stream")


def test_a_hostile_name_is_text_everywhere(page: Page, site: Site) -> None:
    address = next(
        each["address"]
        for each in site.get("/api/nodes/n1")["addresses"]
        if each["name"] == HOSTILE
    )
    page.goto("/nodes/n1")
    expect(page.get_by_text(HOSTILE, exact=True)).to_be_visible()
    page.goto(f"/search?q={address}")
    page.get_by_role("link", name=address).click()
    expect(page.locator(".said")).to_contain_text(HOSTILE)
    assert page.locator("img").count() == 0
    page.locator("#search").fill(HOSTILE)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text(HOSTILE)
    expect(page.locator(".found")).to_contain_text(HOSTILE)


def test_what_the_command_changes_appears_by_itself(page: Page, site: Site) -> None:
    page.goto("/map/test")
    expect(page.locator(".legend")).to_contain_text("in use0")

    async def change() -> None:
        async with open_channel(site.address("policy")) as channel:
            stub = PolicyServiceStub(channel)
            target = policy_pb2.Target(endpoints=of_tenant("shop", app="back"))
            policy = policy_pb2.Policy(name="closed", targets=[target])
            await stub.CreatePolicy(policy_api.CreatePolicyRequest(policy=policy))

    page.goto("/explain?source=front&destination=back&protocol=tcp&port=80")
    expect(page.locator(".explanation h2")).to_contain_text("allowed")
    beside(change())
    expect(page.locator(".explanation h2")).to_contain_text("denied")
    expect(page.locator(".explanation")).to_contain_text("closed")
    page.goto("/changes")
    expect(page.locator(".changes > li").first).to_contain_text("policy closed created")
    expect(page.locator(".changes > li").first).to_contain_text("by unauthenticated (127.0.0.1)")
    page.goto("/reach?tenant=shop&to_tenant=shop")
    expect(page.locator("a.verdict.deny")).to_have_count(1)


def test_a_counter_of_what_was_denied_leads_to_the_explanation(page: Page, site: Site) -> None:
    counters = [
        {
            "policy": "refused",
            "direction": "ingress",
            "rule": rule,
            "per_second": 1,
            "is_known": True,
        }
        for rule in ("0", "default")
    ]
    page.route("**/api/denied", lambda it: it.fulfill(json={"known": True, "rules": counters}))
    ready, finish = threading.Event(), threading.Event()

    async def change() -> None:
        async with refused(site):
            ready.set()
            await asyncio.to_thread(finish.wait)

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(asyncio.run, change())
        try:
            ready.wait()
            site.until(lambda: site.get("/api/example?policy=refused"), "the policy")
            page.goto("/denied")
            page.get_by_role("link", name="ingress 0").click()
            expect(page.locator(".explanation h2")).to_contain_text("denied")
            assert "source=front&destination=back&protocol=tcp&port=81" in page.url
            page.go_back()
            page.get_by_role("link", name="ingress default").click()
            expect(page.get_by_role("textbox", name="To")).to_have_value("back")
            expect(page.get_by_role("textbox", name="From")).to_have_value("")
        finally:
            finish.set()
            work.result()


def test_a_way_through_devices_is_drawn(page: Page, site: Site) -> None:
    async def change() -> None:
        async with open_channel(site.address("policy")) as channel:
            stub = PolicyServiceStub(channel)
            group = device_pb2.DeviceGroup(
                name="firewalls",
                networks=["production"],
                devices=[
                    device_pb2.Device(
                        name="fw-1", addresses=[{"network": "production", "address": "192.0.2.99"}]
                    )
                ],
            )
            await stub.PutDeviceGroup(policy_api.PutDeviceGroupRequest(group=group))
            policy = policy_pb2.Policy(
                name="by-way-of-firewalls",
                tier=policy_pb2.POLICY_TIER_ADMIN,
                targets=[policy_pb2.Target(endpoints=of_tenant("shop", app="front"))],
                ingress=[policy_pb2.Rule(via="firewalls")],
            )
            await stub.CreatePolicy(policy_api.CreatePolicyRequest(policy=policy))

    beside(change())
    page.goto("/explain?source=back&destination=front&protocol=tcp&port=80")
    expect(page.locator(".way")).to_contain_text("group of devicesfirewalls")
    expect(page.locator(".reason").first).to_contain_text("by-way-of-firewalls")
    expect(page.locator(".reason").first).to_contain_text("fw-1 (192.0.2.99 on production): up")


def test_a_bar_fills_when_nodes_have_applied_a_change(page: Page, site: Site) -> None:
    page.goto("/changes")
    let_go, finish = threading.Event(), threading.Event()

    async def change() -> None:
        async with agents(site) as routes:

            async def hold() -> None:
                await asyncio.to_thread(let_go.wait)

            routes["n2"].hold = hold
            await move_node(site, "n3", "192.0.2.33")
            await asyncio.to_thread(finish.wait)

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(asyncio.run, change())
        try:
            item = page.locator(".changes > li").filter(has_text="node n3: address")
            expect(item).to_contain_text("2 of 3 nodes")
            expect(item.locator(".lagging")).to_contain_text("n2")
            let_go.set()
            expect(item).to_contain_text("in force on 3 nodes")
        finally:
            let_go.set()
            finish.set()
        work.result(60)


async def move_node(site: Site, name: str, address: str) -> None:
    """Every agent is told of a node's address."""
    node = node_pb2.Node(name=name, address=address, labels={"rack": NODES[name]})
    node.empty_attachments = node_pb2.EMPTY_ATTACHMENTS_EVERY_NETWORK
    async with open_channel(site.address("topology")) as channel:
        request = topology_api.UpdateNodeRequest(node=node)
        await TopologyServiceStub(channel).UpdateNode(request)


def beside(work: Coroutine[Any, Any, None]) -> None:
    """Playwright has this thread's event loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result(60)


def test_a_plan_is_drawn_before_anything_is_done(page: Page, site: Site) -> None:
    page.goto("/plan")
    field = page.locator("#file")
    expect(field).to_have_value(re.compile("production"))
    text = TOPOLOGY.replace("[production, ", "[production, qa, ")
    field.fill(
        text.replace("  - {name: test", "  - {name: qa, cidr: 10.30.0.0/16}\n  - {name: test")
    )
    page.get_by_role("button", name="Plan").click()
    expect(page.locator(".plan")).to_contain_text("network qa added")
    expect(page.locator(".plan .group.added")).to_have_count(2)
    assert "qa" not in {each["name"] for each in site.get("/api/overview")["networks"]}
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("It is applied")).to_be_visible()
    page.goto("/map/qa")
    expect(page.locator(".icicle a.group")).to_have_count(2)


def test_a_plan_that_is_refused_cannot_be_applied(page: Page) -> None:
    page.goto("/plan")
    field = page.locator("#file")
    expect(field).to_have_value(re.compile("production"))
    field.fill(TOPOLOGY + "      - {name: rack-3, assignment: {rack: rack-3}}\n")
    page.get_by_role("button", name="Plan").click()
    expect(page.locator(".plan [role=alert]")).to_contain_text("would be stranded")
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()
    field.fill("networks: [{name: production, cidr: 10.40.0.1/16}]")
    page.expected.append("400")  # type: ignore[attr-defined]
    page.get_by_role("button", name="Plan").click()
    expect(page.locator(".problem")).to_contain_text("networks[0].cidr")


def test_a_service_that_goes_and_comes_is_shown_without_a_reload(page: Page, site: Site) -> None:
    page.goto("/map/production")
    expect(page.locator(".legend")).to_be_visible()
    page.evaluate("window.kept = true")
    site.kill("ipam")
    expect(page.locator(".health")).to_contain_text("ipam at")
    expect(page.locator(".legend")).to_be_visible()
    site.start("ipam")
    expect(page.locator(".health")).to_have_text("")
    page.expected.extend(["ERR_", "503", "Failed to load"])  # type: ignore[attr-defined]
    site.kill("console")
    expect(page.locator(".health")).to_contain_text("The console does not answer")
    site.start("console")
    expect(page.locator(".health")).to_have_text("")
    assert page.evaluate("window.kept")
