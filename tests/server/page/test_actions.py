"""What can be done with a run on the page, and who may."""

import csv
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page

from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from tests.components.controller import Controller
from tests.components.worker import Worker
from tests.server.page.browser import visiting


def press(page: Page, name: str) -> None:
    page.locator(".actions").get_by_role("button", name=name, exact=True).click()


def test_a_run_is_saved_finished_and_deleted(browser: Browser, served: Controller, tmp_path: Path) -> None:
    worker = Worker(served.url, "acted", "upon")
    for _ in range(4):
        worker.observe()
    with visiting(browser, served.url, accept_downloads=True) as visit:
        page = visit.open("#/acted/upon")
        visit.wait_for_text(".in-sight", "4 decisions in sight")
        with page.expect_download() as download:
            press(page, "CSV")
        assert download.value.suggested_filename == "acted.upon.csv"
        download.value.save_as(tmp_path / "history.csv")
        with (tmp_path / "history.csv").open() as file:
            assert [row["step"] for row in csv.DictReader(file)] == ["50", "100", "150", "200"]
        with page.expect_download() as download:
            press(page, "PNG")
        download.value.save_as(tmp_path / "charts.png")
        picture = (tmp_path / "charts.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 10_000

        press(page, "Edit")
        page.get_by_role("textbox", name="Title").fill("The good one")
        page.get_by_role("textbox", name="Note").fill("<b>not bold</b>")
        page.get_by_role("textbox", name="Tags").fill("baseline v2")
        page.get_by_role("button", name="Save").click()
        visit.wait_for_text("h1", "The good one")
        visit.wait_for_text(".note", "<b>not bold</b>")
        assert "#baseline" in visit.text(".run-title")

        press(page, "Finish")
        page.locator("#sure-dialog").get_by_role("button", name="Cancel").click()
        assert httpx.get(served.url + worker.path).json()["status"] == "active"
        press(page, "Finish")
        page.locator("#sure-yes").click()
        visit.wait_for_text(".run-title .pill", "finished")
        assert httpx.get(served.url + worker.path).json()["reason"] == "finished on the page"
        assert page.locator(".actions").get_by_role("button", name="Finish", exact=True).count() == 0

        press(page, "Delete")
        page.locator("#sure-yes").click()
        visit.wait_for_text(".empty", "No run fits the filter")
        assert httpx.get(served.url + worker.path).status_code == 404
        assert visit.errors == []


def test_a_key_that_may_only_read_or_write_is_told_what_it_may_not(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KeyFile(tmp_path / "keys.jsonl")
    keys = {}
    for name, scope in (("reader", Scope.READ), ("writer", Scope.WRITE)):
        keys[name], record = create_key({"vision": scope})
        file.add(record)
    monkeypatch.setenv("DCAO_API_KEYS_FILE", str(file.path))
    controller = Controller(tmp_path / "data")
    worker = Worker(controller.url, "vision", "guarded", key=keys["writer"])
    worker.observe()
    for name, action in (("reader", "Finish"), ("reader", "Delete"), ("writer", "Delete")):
        with visiting(browser, controller.url) as visit:
            page = visit.open("#/vision/guarded")
            page.locator("#key-input").fill(keys[name])
            page.get_by_role("button", name="Use this key").click()
            visit.wait_for_text(".in-sight", "1 decision in sight")
            press(page, action)
            page.locator("#sure-yes").click()
            visit.wait_for_text(".actions [role=status]", "This key may not do that")
    assert worker.client.get(worker.path).json()["status"] == "active"
    controller.kill()
