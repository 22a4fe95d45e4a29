"""A real headless Chromium that notes what a page must not do."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

# Without the background flags Chromium asks its maker's hosts for this and that.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A browser for some tests, with further command-line flags."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path is not None, "expected chromium; make components installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield browser
        browser.close()


class Visit:
    """One tab. `errors` are console errors and uncaught exceptions, `hosts` whoever was asked for anything."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(10_000)
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page: Page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).scheme not in ("data", "blob"):
            self.hosts.add(urlsplit(request.url).netloc)

    def open(self, fragment: str = "#/") -> Page:
        """The page at a fragment."""
        self.page.goto(f"{self.url}/{fragment}")
        return self.page

    def text(self, selector: str) -> str:
        """Visible text of the first match."""
        return self.page.locator(selector).first.inner_text()

    def wait_for_text(self, selector: str, text: str, seconds: float = 15) -> None:
        """Until the first match holds the text."""
        self.page.locator(selector).filter(has_text=text).first.wait_for(timeout=1000 * seconds)


@contextlib.contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A tab that is closed afterwards."""
    visit = Visit(browser, url, **options)
    try:
        yield visit
    finally:
        visit.context.close()
