"""How long the page takes to show something: a run of 100,000 decisions and a list of 10,000 runs, on each store.

    python -m benchmarks.page

Times are from the navigation to the first picture and to the complete one, in a real Chromium, for the first visit
after the controller's start and for a later one. Run it on a machine that does nothing else.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser
from tests.components.controller import Controller
from tests.components.long_run import fill
from tests.components.redis_server import RedisServer
from tests.server.page.browser import chromium, visiting

DECISIONS, RUNS = 100_000, 10_000
VIEWS = (
    ("run, first picture", "#/long/run", "document.querySelector('.at')?.textContent.includes('step')"),
    ("run, complete", "#/long/run", "document.querySelector('.at')?.textContent.includes('of 100,000')"),
    ("list, first rows", "#/", "document.querySelectorAll('tbody tr').length === 50"),
    ("list, complete", "#/", "document.querySelector('.pager')?.textContent.includes('of 10,001')"),
)


@contextmanager
def served(kind: str) -> Iterator[Controller]:
    """A controller on a full store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis = RedisServer(folder / "redis") if kind == "redis" else None
        url = None if redis is None else redis.url
        fill(folder / "data", runs=RUNS, decisions=DECISIONS, spike=73_511, url=url)
        controller = Controller(folder / "data", redis_url=url)
        try:
            yield controller
        finally:
            controller.kill()
            if redis is not None:
                redis.kill()


def seconds(browser: Browser, controller: Controller, fragment: str, condition: str) -> float:
    """From the navigation until the condition holds."""
    with visiting(browser, controller.url) as visit:
        begin = time.perf_counter()
        visit.open(fragment)
        visit.page.wait_for_function(condition, timeout=120_000)
        return time.perf_counter() - begin


def main() -> None:
    """Prints a table."""
    print(f"{'store':8} {'view':20} {'first visit':>12} {'later':>8}   seconds")
    with chromium() as browser:
        for kind in ("sqlite", "redis"):
            for name, fragment, condition in VIEWS:
                with served(kind) as controller:
                    first, later = (seconds(browser, controller, fragment, condition) for _ in range(2))
                print(f"{kind:8} {name:20} {first:12.2f} {later:8.2f}", flush=True)


if __name__ == "__main__":
    main()
