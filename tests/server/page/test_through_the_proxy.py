"""The page behind the shipped proxy, before a controller as it is shipped: keys, and metrics at their own port."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser

from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from tests.components.worker import Worker
from tests.deploy.test_proxy import free_port, proxy
from tests.server.operation.process import running
from tests.server.page.browser import Visit, visiting


class Shipped(NamedTuple):
    """The proxy's address, a key that may write, and one that may read another project."""

    url: str
    writer: str
    stranger: str


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    folder = tmp_path_factory.mktemp("page-proxy")
    file = KeyFile(folder / "keys.jsonl")
    writer, record = create_key({"*": Scope.ADMIN})
    file.add(record)
    stranger, record = create_key({"other": Scope.READ})
    file.add(record)
    metrics = free_port()
    environ = {"DCAO_API_KEYS_FILE": str(file.path), "DCAO_METRICS_PORT": str(metrics)}
    with (
        running(folder / "log", "-m", "dcao_server.main", "serve", **environ) as server,
        proxy(folder, int(server.url.rpartition(":")[2]), metrics) as ports,
    ):
        url = f"http://127.0.0.1:{ports[8080]}"
        live = Worker(url, "vision", "live", key=writer, labels={"model": "resnet18"})
        ended = Worker(url, "vision", "ended", key=writer)
        for _ in range(3):
            live.observe()
            ended.observe()
        ended.finish()
        yield Shipped(url, writer, stranger)


@pytest.fixture
def visit(browser: Browser, shipped: Shipped) -> Iterator[Visit]:
    with visiting(browser, shipped.url) as visit:
        enter(visit, shipped.writer)
        yield visit


def enter(visit: Visit, key: str) -> None:
    """Opens the list and gives the key that it asks for."""
    visit.open()
    visit.page.locator("#key-dialog[open]").wait_for()
    visit.page.locator("#key-input").fill(key)
    visit.page.get_by_role("button", name="Use this key").click()


def unforeseen(visit: Visit) -> list[str]:
    """Errors but the refusal with which the page learns that a key is needed."""
    return [error for error in visit.errors if "401" not in error]


def test_the_list_shows_where_runs_stand_and_stood(visit: Visit) -> None:
    visit.wait_for_text("tbody", "ended")
    for name in ("live", "ended"):
        row = visit.page.locator("tbody tr").filter(has=visit.page.get_by_role("link", name=name, exact=True))
        assert row.locator(".edge-bar").count() == 1
        assert "–" not in row.inner_text()
    assert unforeseen(visit) == []


def test_a_run_is_followed_live(visit: Visit, shipped: Shipped) -> None:
    worker = Worker(shipped.url, "vision", "followed", key=shipped.writer)
    worker.observe()
    visit.wait_for_text("tbody", "followed")
    visit.page.get_by_role("link", name="followed").click()
    visit.wait_for_text(".in-sight", "1 decision in sight")
    visit.wait_for_text("#link", "live")
    worker.observe()
    visit.wait_for_text(".in-sight", "2 decisions in sight")
    assert visit.page.locator("#link").get_attribute("data-state") == "live"
    assert unforeseen(visit) == []


def test_without_a_key_it_says_so_and_asks_again(browser: Browser, shipped: Shipped) -> None:
    with visiting(browser, shipped.url) as visit:
        visit.open()
        visit.page.locator("#key-dialog[open]").wait_for()
        visit.page.get_by_role("button", name="Cancel").click()
        visit.wait_for_text("[role=alert]", "An API key is needed")
        visit.page.get_by_role("button", name="Enter a key").click()
        visit.page.locator("#key-input").fill(shipped.stranger)
        visit.page.get_by_role("button", name="Use this key").click()
        visit.wait_for_text(".empty", "No runs yet")
        visit.open("#/vision/live")
        visit.wait_for_text("[role=alert]", "This key may not read that")
