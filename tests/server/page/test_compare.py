"""Runs side by side, in a real Chromium."""

import re

import httpx
from playwright.sync_api import Browser

from tests.components.controller import Controller
from tests.components.worker import Worker
from tests.server.page.browser import visiting


def runs(served: Controller, count: int = 2) -> list[str]:
    """Runs of a project of their own, with different policies."""
    names = []
    for index in range(count):
        policy = {"name": ("edge", "constant", "power")[index % 3]}
        worker = Worker(served.url, "compared", f"run{index}", seed=index, policy=policy, labels={"seed": str(index)})
        for _ in range(12 + index):
            worker.observe()
        names.append(f"compared/run{index}")
    return names


def removed(served: Controller, names: list[str]) -> None:
    for name in names:
        project, run = name.split("/")
        httpx.delete(f"{served.url}/v1/projects/{project}/runs/{run}").raise_for_status()


def test_two_runs_are_chosen_in_the_list_and_compared_and_one_is_replayed(browser: Browser, served: Controller) -> None:
    names = runs(served)
    with visiting(browser, served.url) as visit:
        visit.open("#/?project=compared")
        visit.page.get_by_label("Compare compared/run0").check()
        assert visit.page.get_by_role("button", name="choose another").is_disabled()
        visit.page.get_by_label("Compare compared/run1").check()
        visit.page.get_by_role("button", name="Compare 2").click()
        visit.wait_for_text("h1", "Compare 2 runs")
        chart = visit.page.get_by_role("region", name=re.compile("Learning rate"))
        assert chart.locator(".series-key").count() == 2
        assert chart.locator("canvas").count() == 1
        table = visit.text(".differences")
        for field in ("policy.name", "labels.seed", "edge", "constant"):
            assert field in table
        assert "optimizer" not in table, "alike in both"

        picture = "document.querySelector('.chart canvas').toDataURL()"
        before = visit.page.evaluate(picture)
        visit.page.get_by_role("button", name="log").click()
        assert visit.page.evaluate(picture) != before
        visit.page.get_by_label("Smoothing").fill("0.9")
        visit.page.get_by_role("button", name="by wall time").click()
        visit.wait_for_text("h3", "by seconds since the start")
        for kept in ("x=time", "log=true", "smooth=0.9"):
            assert kept in visit.page.url

        visit.page.get_by_label("Law to replay under").locator("option[value=power]").wait_for(state="attached")
        visit.page.get_by_label("Law to replay under").select_option("power")
        visit.page.get_by_role("button", name="Replay").click()
        visit.wait_for_text("[role=status]", "What power would have decided")
        assert chart.locator(".series-key").count() == 3
        assert "under power" in chart.inner_text()
        visit.page.reload()
        visit.wait_for_text("h3", "by seconds since the start")
        visit.wait_for_text("[role=status]", "What power would have decided")
        assert visit.errors == []
    removed(served, names)


def test_twenty_runs_at_most_are_compared_and_each_has_words(browser: Browser, served: Controller) -> None:
    names = runs(served, 3)
    with visiting(browser, served.url) as visit:
        query = "&".join(f"run={name}" for name in names)
        visit.open(f"#/compare?{query}&run=garbage&run=%3Cb%3E/x".removesuffix("&run=%3Cb%3E/x"))
        visit.wait_for_text("h1", "Compare 3 runs")
        words = visit.page.locator(".plot[role=img]").first.get_attribute("aria-label")
        assert words is not None
        for name in names:
            assert f"{name}: from " in words
        assert visit.errors == []
    removed(served, names)


def test_a_run_that_is_not_there_is_said(browser: Browser, served: Controller) -> None:
    with visiting(browser, served.url) as visit:
        visit.open("#/compare?run=vision/resnet18&run=vision/nothing")
        visit.wait_for_text("[role=alert]", "No such run")
