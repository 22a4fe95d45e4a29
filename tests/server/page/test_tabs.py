"""Many tabs of one browser: over HTTP/1.1 they share six connections to the controller."""

import httpx
from playwright.sync_api import Browser, Request

from tests.components.controller import Controller
from tests.components.worker import Worker
from tests.server.page.browser import visiting

TABS = 8


def test_eight_tabs_share_one_stream_and_all_of_them_go_on(browser: Browser, served: Controller) -> None:
    workers = [Worker(served.url, "tabs", f"run{index}") for index in range(TABS)]
    for worker in workers:
        worker.observe()
    with visiting(browser, served.url) as visit:
        streams: set[Request] = set()
        visit.context.on("request", lambda r: streams.add(r) if r.url.endswith("/events") else None)
        visit.context.on("requestfinished", lambda r: streams.discard(r))
        visit.context.on("requestfailed", lambda r: streams.discard(r))
        pages = [visit.page, *(visit.context.new_page() for _ in range(TABS - 1))]
        for index, page in enumerate(pages):
            page.goto(f"{served.url}/#/tabs/run{index}")
            page.locator(".in-sight").filter(has_text="1 decision in sight").wait_for()
        pages[0].wait_for_timeout(2500)
        assert len(streams) == 1
        for worker in workers:
            worker.observe()
        for page in pages:
            page.locator(".in-sight").filter(has_text="2 decisions in sight").wait_for()
        states = [page.locator("#link").get_attribute("data-state") for page in pages]
        assert sorted(set(states)) == ["live", "polling"]
        assert states.count("live") == 1

        pages.pop(states.index("live")).close()
        live = "document.querySelector('#link').dataset.state === 'live'"
        for _ in range(100):
            if any(page.evaluate(live) for page in pages):
                break
            pages[0].wait_for_timeout(100)
        assert sum(page.evaluate(live) for page in pages) == 1, "another tab streams"
    for worker in workers:
        httpx.delete(served.url + worker.path).raise_for_status()
