"""The page as a person uses it, in a real Chromium against a real controller."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Route

from dcao_proto import Decision
from dcao_proto.policy.why import why
from tests.components.controller import Controller
from tests.components.worker import Worker
from tests.server.page.browser import Visit, visiting

RUN = "#/vision/resnet18"
IN_SIGHT = ".in-sight"


def test_the_list_shows_every_project_and_where_runs_stand_or_stood_at_their_end(visit: Visit) -> None:
    visit.open()
    visit.wait_for_text("tbody", "resnet18")
    rows = visit.page.locator("tbody tr")
    assert rows.count() == 3
    for name, status in (("resnet18", "active"), ("gpt", "finished")):
        row = rows.filter(has_text=name)
        assert status in row.inner_text()
        assert row.locator(".edge-bar").count() == 1
    assert "model=resnet18" in rows.filter(has_text="resnet18").inner_text()
    assert visit.errors == []


def row_count(visit: Visit, count: int) -> None:
    """Waits until the table has so many rows."""
    visit.page.wait_for_function("count => document.querySelectorAll('tbody tr').length === count", arg=count)


def test_the_list_is_filtered_by_the_controller_and_the_address_holds_it(visit: Visit) -> None:
    visit.open()
    visit.wait_for_text("tbody", "gpt")
    visit.page.get_by_role("button", name="ended", exact=True).click()
    row_count(visit, 1)
    visit.page.get_by_role("button", name="all", exact=True).click()
    row_count(visit, 3)
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("model=resnet")
    row_count(visit, 1)
    assert "resnet18" in visit.text("tbody")
    assert "text=model%3Dresnet" in visit.page.url
    visit.page.reload()
    row_count(visit, 1)
    assert visit.page.locator("input[type=search]").input_value() == "model=resnet"
    visit.page.keyboard.press("Escape")
    row_count(visit, 3)
    visit.page.get_by_role("button", name="model=resnet18").click()
    row_count(visit, 1)
    visit.page.get_by_role("button", name="Remove the filter model=resnet18").click()
    row_count(visit, 3)
    visit.page.locator("select").select_option("edge")
    row_count(visit, 1)
    assert visit.errors == []


def test_the_breadcrumb_of_a_project_shows_only_that_project(visit: Visit) -> None:
    visit.open(RUN)
    visit.wait_for_text(IN_SIGHT, "60 decisions in sight")
    visit.page.locator("#crumbs a").click()
    row_count(visit, 2)
    assert "gpt" not in visit.text("tbody")
    visit.page.get_by_role("button", name="Remove the filter project vision").click()
    row_count(visit, 3)


def test_a_column_sorts_both_ways(visit: Visit) -> None:
    visit.open()
    visit.wait_for_text("tbody", "gpt")
    first = "document.querySelector('tbody tr .run-name').textContent"
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.wait_for_function(f"{first} === 'gpt'")
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.wait_for_function(f"{first} === 'vgg11'")
    assert visit.page.locator("th[aria-sort=descending]").inner_text().startswith("Run")
    assert "sort=name" in visit.page.url


def test_pages_of_a_large_list_and_the_focus_survives_a_refresh(browser: Browser, tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    for index in range(60):
        Worker(controller.url, "large", f"run{index:02}")
    with visiting(browser, controller.url) as visit:
        visit.open("#/?sort=name&ascending=true")
        visit.wait_for_text(".pager", "1 – 50 of 60")
        visit.page.get_by_role("link", name="run07").focus()
        with visit.page.expect_response("**/v1/runs?*"):
            pass  # the next refresh
        visit.page.wait_for_timeout(100)
        assert visit.page.evaluate("document.activeElement.textContent") == "run07"
        visit.page.get_by_role("button", name="Next").click()
        visit.wait_for_text(".pager", "51 – 60 of 60")
        assert "page=2" in visit.page.url
        row_count(visit, 10)
    controller.kill()


def test_a_phone_shows_the_edge_ratio_in_the_list(browser: Browser, served: Controller) -> None:
    name = "a-run-with-a-very-long-name-that-would-push-all-else-out"
    Worker(served.url, "phone", name, labels={"a": "b" * 60}).observe()
    with visiting(browser, served.url, viewport={"width": 390, "height": 800}, has_touch=True) as visit:
        visit.open("#/?project=phone")
        visit.wait_for_text("tbody", "a-run-with")
        box = visit.page.locator(".edge-cell").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    httpx.delete(f"{served.url}/v1/projects/phone/runs/{name}").raise_for_status()


def test_a_browser_that_is_too_old_is_told_so(browser: Browser, served: Controller) -> None:
    with visiting(browser, served.url) as visit:
        visit.page.add_init_script("delete AbortSignal.any")
        visit.open()
        visit.wait_for_text("#too-old", "too old")
        assert visit.page.locator("#too-old").is_visible()
    with visiting(browser, served.url) as visit:
        visit.open()
        visit.wait_for_text("tbody", "resnet18")
        assert not visit.page.locator("#too-old").is_visible()


def test_a_run_shows_its_newest_values_charts_and_reasons_in_words(visit: Visit, served: Controller) -> None:
    visit.open(RUN)
    visit.wait_for_text(IN_SIGHT, "60 decisions in sight")
    assert visit.page.locator(".chart canvas").count() == 8
    newest = httpx.get(f"{served.url}/v1/projects/vision/runs/resnet18/decisions?after=1:2900")
    before, decision = (record["decision"] for record in newest.json()["records"])
    assert visit.text(".gauge-value") == f"{decision['edge_ratio']:.2f}"
    assert visit.text(".gauge-row .pill") == decision["regime"]
    words = visit.text(".decisions")
    said = why(Decision.model_validate(decision), Decision.model_validate(before))
    assert said
    assert all(sentence in words for sentence in said)
    assert "undefined" not in visit.text("main")
    assert "NaN" not in visit.text("main")
    assert visit.errors == []


def test_no_request_leaves_the_host(visit: Visit, served: Controller) -> None:
    visit.open()
    visit.wait_for_text("tbody", "resnet18")
    visit.page.get_by_role("link", name="resnet18").click()
    visit.wait_for_text(IN_SIGHT, "60 decisions in sight")
    assert visit.hosts == {served.url.removeprefix("http://")}


def test_live_points_arrive_by_events(browser: Browser, served: Controller) -> None:
    worker = Worker(served.url, "live", "points")
    worker.observe()
    with visiting(browser, served.url) as visit:
        visit.open("#/live/points")
        visit.wait_for_text(IN_SIGHT, "1 decision in sight")
        visit.wait_for_text("#link", "live")
        for _ in range(5):
            worker.observe()
        visit.wait_for_text(IN_SIGHT, "6 decisions in sight", seconds=5)
        assert "step 300" in visit.text(".at")
        assert visit.page.locator("#link").get_attribute("data-state") == "live"
        assert visit.errors == []


def refused(route: Route) -> None:
    route.abort()


def cut_at_once(route: Route) -> None:
    route.fulfill(status=200, content_type="text/event-stream", body="")


@pytest.mark.parametrize("between", [refused, cut_at_once])
def test_it_polls_where_event_streams_do_not_get_through(
    browser: Browser, served: Controller, between: Callable[[Route], None]
) -> None:
    run = between.__name__
    worker = Worker(served.url, "live", run)
    worker.observe()
    with visiting(browser, served.url) as visit:
        visit.page.route("**/events", between)
        visit.open(f"#/live/{run}")
        visit.wait_for_text("#link", "by polling", seconds=20)
        worker.observe()
        visit.wait_for_text(IN_SIGHT, "2 decisions in sight")


def test_it_survives_the_controllers_restart_without_gap_or_double(browser: Browser, tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    worker = Worker(controller.url, "live", "restarted")
    for _ in range(4):
        worker.observe()
    with visiting(browser, controller.url) as visit:
        visit.open("#/live/restarted")
        visit.wait_for_text(IN_SIGHT, "4 decisions in sight")
        visit.wait_for_text("#link", "live")
        controller.kill()
        visit.wait_for_text("#link", "controller away")
        assert "4 decisions in sight" in visit.text(IN_SIGHT)
        controller.start()
        for _ in range(3):
            worker.observe()
        visit.wait_for_text(IN_SIGHT, "7 decisions in sight", seconds=30)
        visit.page.wait_for_function("document.querySelector('#link').dataset.state === 'live'", timeout=30_000)
        worker.observe()
        visit.wait_for_text(IN_SIGHT, "8 decisions in sight")
        # The browser itself reports connections that were refused; the page adds nothing to that.
        assert [error for error in visit.errors if "net::ERR_" not in error] == []
    controller.kill()


def test_the_list_comes_back_after_a_restart_too(browser: Browser, tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    with visiting(browser, controller.url) as visit:
        visit.open()
        visit.wait_for_text(".empty", "No runs yet")
        controller.kill()
        visit.wait_for_text("#link", "controller away")
        controller.start()
        Worker(controller.url, "vision", "first").observe()
        visit.wait_for_text("tbody", "first", seconds=20)
    controller.kill()


def test_a_restart_from_a_checkpoint_shows_the_lineage_that_lives_on(browser: Browser, served: Controller) -> None:
    worker = Worker(served.url, "live", "attempts")
    for _ in range(6):
        worker.observe()
    worker.restart(back_to=3)
    worker.observe()
    with visiting(browser, served.url) as visit:
        visit.open("#/live/attempts")
        visit.wait_for_text(IN_SIGHT, "4 decisions in sight")
        assert "3 decisions of earlier attempts left out" in visit.text(".at")
        assert "attempt 2" in visit.text(".meta")


def test_dragging_zooms_every_chart_and_a_double_click_shows_all(visit: Visit) -> None:
    visit.open(RUN)
    visit.wait_for_text(IN_SIGHT, "60 decisions in sight")
    plot = visit.page.locator(".chart .u-over").first
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    visit.page.mouse.move(box["x"] + 0.25 * box["width"], middle)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 0.75 * box["width"], middle, steps=5)
    visit.page.mouse.up()
    visit.wait_for_text(IN_SIGHT, "30 decisions in sight")
    visit.page.mouse.dblclick(box["x"] + 0.5 * box["width"], middle)
    visit.wait_for_text(IN_SIGHT, "60 decisions in sight")


def test_a_series_is_hidden_and_shown_by_its_key(visit: Visit) -> None:
    visit.open(RUN)
    visit.wait_for_text(IN_SIGHT, "60 decisions in sight")
    chart = visit.page.get_by_role("region", name="Learning rate")
    canvas, key = chart.locator("canvas"), chart.locator(".series-key").first
    with_line = canvas.evaluate("canvas => canvas.toDataURL()")
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    visit.page.wait_for_timeout(200)
    assert canvas.evaluate("canvas => canvas.toDataURL()") != with_line
    key.click()
    visit.page.wait_for_timeout(200)
    assert canvas.evaluate("canvas => canvas.toDataURL()") == with_line


def test_a_run_without_a_rate_shows_its_trust_and_its_ceiling(browser: Browser, served: Controller) -> None:
    run = f"{served.url}/v1/projects/language/runs/ratefree"
    spec = {"optimizer": "schedule_free_adam", "base": {"lr": 0.0, "momentum": 0.9}, "scale": "path", "trust": "auto"}
    httpx.put(run, json=spec).raise_for_status()
    for step in range(3):
        path = {"distance": 0.1 * step, "gradients": 2.0 * step, "steps": step}
        base = {"lr": 0.05 if step else 0.0, "momentum": 0.9}
        seen = {"step": step, "rho": 12.0, "gamma": 0.0, "base": base, "path": path}
        decision = httpx.post(f"{run}/decisions", json=seen).raise_for_status().json()
    assert decision["ceiling"] > 0
    with visiting(browser, served.url) as visit:
        visit.open("#/language/ratefree")
        visit.wait_for_text(IN_SIGHT, "3 decisions in sight")
        keys = visit.page.get_by_role("region", name="Learning rate").locator(".series-key").all_inner_texts()
        assert [key.split("\n")[0] for key in keys] == ["η", "r/√G · shape", "ceiling"]
        about = visit.text("main")
        assert "trust auto" in about
        assert "rate from the path" in about
        assert visit.errors == []
    httpx.delete(run).raise_for_status()  # other tests count the runs


def test_the_keyboard_moves_zooms_and_goes_back(visit: Visit) -> None:
    visit.open(RUN)
    visit.wait_for_text(IN_SIGHT, "60 decisions in sight")
    press = visit.page.keyboard.press
    press("ArrowLeft")
    assert "step 2,950" in visit.text(".at")
    press("Shift+ArrowLeft")
    assert "step 2,450" in visit.text(".at")
    press("ArrowRight")
    assert "step 2,500" in visit.text(".at")
    press("+")
    assert "60 decisions" not in visit.text(IN_SIGHT)
    press("0")
    visit.wait_for_text(IN_SIGHT, "60 decisions in sight")
    press("Escape")
    assert visit.text(".at").startswith("newest decision")
    press("Escape")
    visit.wait_for_text("tbody", "resnet18")
    press("j")
    press("j")
    press("k")
    focused = visit.page.evaluate("document.activeElement.textContent")
    press("Enter")
    visit.wait_for_text("h1", focused)
    press("?")
    assert visit.page.locator("#help-dialog[open]").count() == 1
    press("Escape")
    assert visit.page.locator("#help-dialog[open]").count() == 0
    assert visit.errors == []


@pytest.mark.parametrize(("scheme", "page"), [("light", "rgb(245, 246, 248)"), ("dark", "rgb(12, 17, 24)")])
def test_it_follows_the_systems_theme(browser: Browser, served: Controller, scheme: str, page: str) -> None:
    with visiting(browser, served.url, color_scheme=scheme) as visit:
        visit.open()
        assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == page


def test_a_chosen_theme_stays_after_a_reload(browser: Browser, served: Controller) -> None:
    with visiting(browser, served.url, color_scheme="light") as visit:
        visit.open(RUN)
        visit.wait_for_text(IN_SIGHT, "60 decisions in sight")
        visit.page.keyboard.press("t")
        dark = "getComputedStyle(document.body).backgroundColor"
        assert visit.page.evaluate(dark) == "rgb(12, 17, 24)"
        visit.page.reload()
        assert visit.page.evaluate(dark) == "rgb(12, 17, 24)"
        assert visit.errors == []


@pytest.mark.parametrize("fragment", ["#/", RUN])
def test_nothing_is_wider_than_a_small_phone(browser: Browser, served: Controller, fragment: str) -> None:
    with visiting(browser, served.url, viewport={"width": 340, "height": 700}, has_touch=True) as visit:
        visit.open(fragment)
        visit.wait_for_text("main", "resnet18")
        visit.page.wait_for_timeout(300)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 340


def test_what_a_run_is_called_and_labelled_with_is_text_and_never_markup(browser: Browser, served: Controller) -> None:
    attack = "<img src=x onerror=alert(1)><b>x</b>"
    Worker(served.url, "live", "labelled", labels={"note": attack}).observe()
    with visiting(browser, served.url) as visit:
        visit.open("#/live/labelled")
        visit.wait_for_text(".meta", attack)
        assert visit.page.locator("main img").count() == 0
        assert visit.errors == []


def test_an_unknown_run_says_so(visit: Visit) -> None:
    visit.open("#/vision/nothing")
    visit.wait_for_text("[role=alert]", "No such run")


def test_a_controller_with_keys_asks_for_one_and_then_works(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.jsonl"
    create = ["-m", "dcao_server.main", "keys", "create", "--project", "vision", "--file", str(keys)]
    made = subprocess.run([sys.executable, *create], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    monkeypatch.setenv("DCAO_API_KEYS_FILE", str(keys))
    controller = Controller(tmp_path / "data")
    worker = Worker(controller.url, "vision", "guarded", key=key)
    worker.observe()
    with visiting(browser, controller.url) as visit:
        visit.open("#/vision/guarded")
        visit.page.locator("#key-dialog[open]").wait_for()
        visit.page.locator("#key-input").fill(key)
        visit.page.get_by_role("button", name="Use this key").click()
        visit.wait_for_text(IN_SIGHT, "1 decision in sight")
        worker.observe()
        visit.wait_for_text(IN_SIGHT, "2 decisions in sight")
        assert key not in visit.page.url
    controller.kill()
