"""The page with a run of 100,000 decisions and a list of 10,000 runs: what it asks for stays small.

How long that takes is measured by `benchmarks/page.py`, on a machine that does nothing else.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Request

from tests.components.controller import Controller
from tests.components.long_run import fill
from tests.server.page.browser import Visit, visiting

DECISIONS, SPIKE = 100_000, 73_511
MOST_BYTES = 1_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    folder = tmp_path_factory.mktemp("large")
    fill(folder, runs=10_000, decisions=DECISIONS, spike=SPIKE)
    controller = Controller(folder)
    yield controller
    controller.kill()


@pytest.fixture
def visit(browser: Browser, large: Controller) -> Iterator[Visit]:
    with visiting(browser, large.url) as visit:
        visit.context.set_default_timeout(60_000)
        yield visit


def watched(visit: Visit) -> list[int]:
    """Bytes of each answer's body as it came over the wire, filled in as the page goes on."""
    sizes: list[int] = []

    def finished(request: Request) -> None:
        sizes.append(request.sizes()["responseBodySize"])

    visit.page.on("requestfinished", finished)
    return sizes


def test_a_run_of_100_000_decisions_comes_in_small_answers_and_shows_its_spike(visit: Visit) -> None:
    sizes = watched(visit)
    visit.open("#/long/run")
    visit.wait_for_text(".at", "of 100,000 decisions drawn", seconds=60)
    visit.wait_for_text(".at", "step 99,999")
    assert max(sizes) < MOST_BYTES
    assert sum(sizes) < 2 * MOST_BYTES
    visit.open(f"#/long/run?from={SPIKE - 50}&to={SPIKE + 50}")
    visit.page.reload()
    visit.wait_for_text(".in-sight", "101 decisions in sight", seconds=60)
    assert f"from={SPIKE - 50}" in visit.page.url
    assert visit.errors == []


def test_a_list_of_10_000_runs_is_searched_sorted_and_turned(visit: Visit) -> None:
    sizes = watched(visit)
    visit.open()
    visit.wait_for_text(".pager", "1 – 50 of 10,001", seconds=60)
    visit.page.locator("input[type=search]").fill("net3 seed=4 run09")
    visit.wait_for_text(".pager", "of 14", seconds=30)
    visit.open("#/?project=many&status=ended&sort=edge&page=100")
    visit.wait_for_text(".pager", "4,951 – 5,000 of 5,000", seconds=30)
    assert max(sizes) < MOST_BYTES
    assert visit.errors == []
